"""Sub-pixel matching along epipolar lines: Gauss-Newton on the inverse depth of small windows.

Dense flow is smooth across what it should not be, and free in directions that a static scene does not have. Along the
epipolar line one unknown per pixel is left, which the images themselves decide (Lucas and Kanade 1981, in one
dimension), whatever the brightness of a window does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid

_WINDOW = 7
_ROUNDS = 3
_LARGEST_STEP = 1.0  # pixels in one round
_FARTHEST = 2.5  # pixels from the flow in all; beyond it the flow was wrong, not imprecise
_PRIOR = 1.0  # pixels: how far off the flow is thought to be
_LEAST_NOISE = 1.0  # grey levels


@dataclass(frozen=True)
class Matched:
    """Matches of the pixels (H, W) of view 0 along their epipolar lines."""

    inverse_depth: np.ndarray
    """(H, W) float32."""
    deviation: np.ndarray
    """(H, W) float32 pixels along the epipolar line: what noise and texture let expect."""
    likeness: np.ndarray
    """(H, W) float32, -1 ... 1: correlation of the windows around the pixel and its match."""


def match(grey0: np.ndarray, grey1: np.ndarray, inverse_depth: np.ndarray, grid: EpipolarGrid) -> Matched:
    """Refine inverse depths.

    Args:
        grey0: (H, W) float32, 0 ... 255.
        grey1: (H, W) float32.
        inverse_depth: (H, W) float32 to begin with, within two pixels of the truth.
        grid: of the two cameras.
    """
    layers = np.dstack([grey1, cv2.Scharr(grey1, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(grey1, cv2.CV_32F, 0, 1) / 32])
    current, moved = inverse_depth.astype(np.float32), np.zeros_like(grey0)
    for _ in range(_ROUNDS):
        window, pixels_per_unit = _compare(grey0, layers, current, grid)
        step = np.clip(window.step, -_LARGEST_STEP, _LARGEST_STEP)
        step = np.clip(moved + step, -_FARTHEST, _FARTHEST) - moved
        moved += step
        current = current + step / np.maximum(pixels_per_unit, 1e-6)
    window, _ = _compare(grey0, layers, current, grid)
    return Matched(current, window.deviation, window.likeness)


@dataclass(frozen=True)
class _Windows:
    """What the windows around all pixels say, (H, W) each."""

    step: np.ndarray
    """Pixels along the epipolar line to the best match."""
    deviation: np.ndarray
    """Pixels that it is uncertain by."""
    likeness: np.ndarray
    """-1 ... 1."""


def _compare(
    grey0: np.ndarray, layers: np.ndarray, inverse_depth: np.ndarray, grid: EpipolarGrid
) -> tuple[_Windows, np.ndarray]:
    """Windows of view 0 against where they are thought to be in view 1, and pixels per unit of inverse depth."""
    u, v, slope_u, slope_v = grid.project(inverse_depth)
    length = np.sqrt(slope_u**2 + slope_v**2)
    there = cv2.remap(layers, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey, right, down = cv2.split(there)
    gradient = (right * slope_u + down * slope_v) / np.maximum(length, 1e-6)
    return _windows(grey0, grey, gradient), length


def _windows(grey0: np.ndarray, grey1: np.ndarray, gradient: np.ndarray) -> _Windows:
    """Least squares over windows, after their mean brightness is taken off."""
    difference = grey0 - grey1
    noise = max(_LEAST_NOISE, 1.48 * float(np.median(np.abs(difference[::4, ::4] - np.median(difference[::4, ::4])))))
    mean0, mean1, mean_gradient = _mean(grey0), _mean(grey1), _mean(gradient)
    square0, square1, product = _mean(grey0 * grey0), _mean(grey1 * grey1), _mean(grey0 * grey1)
    square_gradient, mixed = _mean(gradient * gradient), _mean(gradient * difference)
    variance0, variance1 = np.maximum(square0 - mean0**2, 0), np.maximum(square1 - mean1**2, 0)
    texture = np.maximum(square_gradient - mean_gradient**2, 0)
    pull = mixed - mean_gradient * (mean0 - mean1)
    # Noise of neighbours that interpolation has mixed counts for a quarter of the window.
    information = _WINDOW**2 / 4 / noise**2
    known = information * texture + 1 / _PRIOR**2
    likeness = (product - mean0 * mean1) / np.sqrt((variance0 + 1) * (variance1 + 1))
    return _Windows(information * pull / known, 1 / np.sqrt(known), likeness)


def _mean(values: np.ndarray) -> np.ndarray:
    """Means over windows."""
    return cv2.blur(values, (_WINDOW, _WINDOW))
