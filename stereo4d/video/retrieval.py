"""Pairs of frames that look alike: for clips that come back to a place, and for images in no order.

A few anchors, as different from one another as can be, are paired with each other; every other frame goes with the
anchor it resembles most, so all frames hang together; and every frame goes with the frames it resembles most.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stereo4d.errors import ShapeError


def retrieval_pairs(similarity: np.ndarray, anchors: int, neighbours: int) -> Iterator[tuple[int, int]]:
    """Pairs by the likeness of frames, one way; some may come twice.

    Args:
        similarity: (N, N) symmetric, larger is more alike; what a frame has with itself is ignored.
        anchors: how many, at least 1; all frames where there are fewer.
        neighbours: how many most similar frames every frame is paired with.
    """
    similarity = _checked(similarity)
    chosen = farthest_frames(similarity, anchors)
    yield from ((a, b) for a in chosen for b in chosen if a < b)
    for frame in range(len(similarity)):
        if frame not in chosen:
            yield frame, max(chosen, key=lambda anchor: _preference(similarity, frame, anchor))
        others = (other for other in range(len(similarity)) if other != frame)
        ranked = sorted(others, key=lambda other: _preference(similarity, frame, other), reverse=True)
        yield from ((frame, other) for other in ranked[:neighbours])


def farthest_frames(similarity: np.ndarray, count: int) -> list[int]:
    """Frames as different from one another as can be: farthest point sampling, from the frame most like all others.

    Args:
        similarity: (N, N) symmetric, larger is more alike.
        count: how many; all frames where there are fewer.

    Returns:
        Their positions, in the order they were chosen.
    """
    similarity = _checked(similarity)
    chosen = [int(similarity.mean(1).argmax())]
    closest = similarity[chosen[0]].copy()
    while len(chosen) < min(count, len(similarity)):
        closest[chosen] = np.inf
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, similarity[chosen[-1]])
    return chosen


def most_retrieval_pairs(num_frames: int, anchors: int, neighbours: int) -> int:
    """The most unordered pairs that ``retrieval_pairs`` can give, whatever the frames look like."""
    anchors = min(anchors, num_frames)
    joined = anchors * (anchors - 1) // 2 + (num_frames - anchors)
    return min(joined + num_frames * neighbours, num_frames * (num_frames - 1) // 2)


def _preference(similarity: np.ndarray, frame: int, other: int) -> tuple[float, int]:
    """Sort key: the more alike the better; of equals the one closer in time."""
    return float(similarity[frame, other]), -abs(frame - other)


def _checked(similarity: np.ndarray) -> np.ndarray:
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not np.isfinite(similarity).all():
        raise ShapeError(f"similarity of frames must be (N, N) and finite, got {similarity.shape}")
    return similarity
