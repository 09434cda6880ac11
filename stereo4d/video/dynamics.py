"""Which pixels of a clip move on their own, by what its pairs say; and masks of a whole clip on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stereo4d.errors import SceneError
from stereo4d.storage import map_arrays
from stereo4d.types import DYNAMICS

_MOVING = 0.5


def dynamic_masks(pairs: Sequence[Path], shape: tuple[int, int, int], start: int = 0) -> Iterator[np.ndarray]:
    """Masks of what moves: the mean over all pairs that say anything about a frame is above a half.

    Args:
        pairs: files of pairs, as ``prediction_files`` writes them; read one pair after the other.
        shape: (N, H, W) of the clip.
        start: the frame of the pairs that the first of the N is; pairs with any other frame are left alone.

    Yields:
        (H, W) bool for each of the N frames; nothing moves where the pairs say nothing of motion.

    Raises:
        SceneError: a file's arrays do not fit the clip.
    """
    frames, height, width = shape
    said: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(frames)]
    for path in pairs:
        arrays = map_arrays(path)
        edges = np.asarray(arrays["edges"]) - start
        inside = np.flatnonzero(((edges >= 0) & (edges < frames)).all(1))
        for side in (0, 1):
            moving = _checked(path, arrays, side, (len(edges), height, width))
            for row in [] if moving is None else inside.tolist():
                said[edges[row, side]].append((moving, row))
    for entries in said:
        total = np.zeros((height, width), np.float32)
        for moving, row in entries:
            total += moving[row]
        yield total > _MOVING * max(len(entries), 1)


def _checked(
    path: Path, arrays: Mapping[str, np.ndarray], side: int, expected: tuple[int, int, int]
) -> np.ndarray | None:
    moving = arrays.get(f"{DYNAMICS}/moving{side}")
    if moving is not None and (moving.shape != expected or moving.dtype.kind not in "fu"):
        raise SceneError(f"{path}: {DYNAMICS}/moving{side} is {moving.dtype} {moving.shape}, not {expected}")
    return moving


def masks_on_disk(masks: Iterable[np.ndarray], path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Masks of all frames, (H, W) bool each, brought together in a file.

    Returns:
        (N, H, W) uint8, mapped: pages are in memory while they are looked at.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for mask in masks:
            file.write(mask.astype(np.uint8).tobytes())
    return np.memmap(path, np.uint8, mode="r", shape=shape)
