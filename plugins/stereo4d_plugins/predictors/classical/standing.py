"""A guess at the depth of things that move: they stand on what is below them.

Two views do not tell how far away a thing that moves is. What is known is the ground where it ends, and that it stands
in front of what surrounds it. The guess is for the eye; its confidence stays that of pixels that nothing is known of.
"""

from __future__ import annotations

import cv2
import numpy as np

_SMALLEST = 0.003  # share of the image below which a moving patch is noise
_SPECKLE = 7  # pixels: smaller islands and holes of what moves are smoothed away
_FOOT = 0.1  # lowest share of a thing's height that counts as its foot


def stand(inverse_depth: np.ndarray, known: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Put things that move where they touch what is below them.

    Args:
        inverse_depth: (H, W) float32, holes filled.
        known: (H, W) bool: measured pixels.
        moving: (H, W) bool: pixels that contradict a static scene.

    Returns:
        (H, W) float32: every connected thing at one inverse depth, but nowhere farther than its surroundings.
    """
    solid = cv2.medianBlur(moving.astype(np.uint8), _SPECKLE)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    below = _value_below(inverse_depth, known & (solid == 0))
    standing = inverse_depth.copy()
    for label in range(1, count):
        left, top, width, height, area = stats[label]
        if area < _SMALLEST * solid.size:
            continue
        box = (slice(top, top + height), slice(left, left + width))
        inside = labels[box] == label
        foot = inside & (np.arange(height)[:, None] >= (1 - _FOOT) * height - 1)
        touched = below[box][foot]
        touched = touched[np.isfinite(touched)]
        if len(touched):
            standing[box] = np.where(inside, np.maximum(standing[box], np.median(touched)), standing[box])
    return standing


def _value_below(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) the known value nearest below every pixel; NaN where there is none."""
    height = len(values)
    rows = np.where(known, np.arange(height)[:, None], height)
    nearest = np.minimum.accumulate(rows[::-1])[::-1]
    found = np.take_along_axis(values, np.minimum(nearest, height - 1), 0)
    return np.where(nearest < height, found, np.nan)
