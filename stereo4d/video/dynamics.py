"""Which pixels of a clip move on their own, by what its pairs say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stereo4d.errors import SceneError
from stereo4d.storage import map_arrays
from stereo4d.types import DYNAMICS

_MOVING = 0.5


def dynamic_masks(pairs: Sequence[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Masks of what moves: the mean over all pairs that say anything about a frame is above a half.

    Args:
        pairs: files of pairs, as ``prediction_files`` writes them; read one pair after the other.
        shape: (N, H, W) of the clip.

    Returns:
        (N, H, W) uint8: 1 where a pixel moves; zeros where the pairs say nothing of motion.

    Raises:
        SceneError: a file's arrays do not fit the clip.
    """
    total, count = np.zeros(shape, np.float32), np.zeros(shape[0], np.int64)
    for path in pairs:
        arrays = map_arrays(path)
        for side in (0, 1):
            moving = arrays.get(f"{DYNAMICS}/moving{side}")
            if moving is None:
                continue
            frames = np.asarray(arrays["edges"])[:, side]
            if moving.shape != (len(frames), *shape[1:]) or moving.dtype.kind not in "fu":
                expected = (len(frames), *shape[1:])
                raise SceneError(f"{path}: {DYNAMICS}/moving{side} is {moving.dtype} {moving.shape}, not {expected}")
            for frame, values in zip(frames, moving, strict=True):
                total[frame] += values
                count[frame] += 1
    return (total > _MOVING * np.maximum(count, 1)[:, None, None]).astype(np.uint8)
