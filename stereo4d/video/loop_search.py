"""Which frames far apart in time may show one place: pairs of them, once predicted, take the drift out of long clips.

A few frames of every window are compared: by the predictor's encoder where it can tell how alike frames look, else by
small grey pictures of them. What is found is a guess; ``alignment.loops`` decides which pairs are believed.
"""

from __future__ import annotations

import numpy as np

from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import Edge

_KEYFRAMES_PER_WINDOW = 8
_ALIKE = 0.8
_LEAST = 0.5
_THUMBNAIL = 16


def keyframes(num_frames: int, window: int) -> np.ndarray:
    """(M,) frames that are compared with one another: eight of every window."""
    return np.arange(0, num_frames, max(1, window // _KEYFRAMES_PER_WINDOW))


def loop_pairs(similarity: np.ndarray, frames: np.ndarray, window: int) -> list[Edge]:
    """Pairs of frames that look as alike as neighbours do although a window lies between them.

    The most alike are taken first; around a pair that was taken, half a window to either side, none is taken again, so
    that one place is not asked about over and over. There are at most as many as there are windows.

    Args:
        similarity: (M, M) symmetric, larger is more alike, 1 for the same.
        frames: (M,) rising: which frames were compared.
        window: frames of a window.

    Returns:
        Both ways of every pair.
    """
    count = len(frames)
    if count < 3:
        return []
    neighbours = float(np.median(np.diagonal(similarity, 1)))
    threshold = max(_ALIKE * neighbours, _LEAST)
    first, second = np.nonzero(np.triu(frames[None, :] - frames[:, None] >= window, 1) & (similarity >= threshold))
    ranked = np.argsort(-similarity[first, second], kind="stable")
    taken: list[tuple[int, int]] = []
    most = max(1, int(frames[-1] + 1) // window)
    for place in ranked:
        low, high = int(frames[first[place]]), int(frames[second[place]])
        if all(abs(low - a) > window // 2 or abs(high - b) > window // 2 for a, b in taken):
            taken.append((low, high))
        if len(taken) == most:
            break
    return [edge for low, high in sorted(taken) for edge in ((low, high), (high, low))]


def thumbnail_similarity(clip: Clip, frames: np.ndarray) -> np.ndarray:
    """(M, M) correlations of small grey pictures of some frames, less what all of them have in common.

    Frames in which nothing differs from the rest are like no other.
    """
    pictures = np.stack([_thumbnail(clip.rgb[frame]) for frame in frames])
    pictures -= pictures.mean(0)
    length = np.linalg.norm(pictures, axis=1, keepdims=True)
    # A grey level is what compression and noise leave of equal frames.
    pictures = np.where(length > _THUMBNAIL, pictures / length.clip(min=1e-9), 0.0)
    return pictures @ pictures.T


def _thumbnail(rgb: np.ndarray) -> np.ndarray:
    """(P,) mean grey of a grid of blocks of (H, W, 3) uint8, less the picture's mean."""
    height, width = rgb.shape[:2]
    rows, columns = min(_THUMBNAIL, height), min(_THUMBNAIL, width)
    grey = rgb[: height // rows * rows, : width // columns * columns].mean(-1)
    blocks = grey.reshape(rows, height // rows, columns, width // columns).mean((1, 3)).ravel()
    return blocks - blocks.mean()
