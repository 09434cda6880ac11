"""What one partner view says about the depth of a frame's pixels, how surely, and which pixels contradict it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d_plugins.predictors.classical.epipolar_matching import match
from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid, triangulate

_LEAST_TOLERANCE = 1.0  # pixels off the epipolar line that flow noise explains
_MOST_TOLERANCE = 3.0
_FLOOR = 0.15  # pixels: what no texture gets below
_AGREEING = 1.5  # pixels off the epipolar line, in the median, up to which a pair agrees with its cameras


@dataclass(frozen=True)
class Measured:
    """The pixels (H, W) of a frame as one partner shows them."""

    inverse_depth: np.ndarray
    """(H, W) float32."""
    deviation: np.ndarray
    """(H, W) float32, in units of inverse depth; infinite where the partner says nothing."""
    contradicts: np.ndarray
    """(H, W) bool: found in the partner, but where no static point can be."""
    usable: np.ndarray
    """(H, W) bool: found in the partner."""
    agrees: bool
    """Whether most pixels are where the two cameras allow them."""
    pixels_per_unit: float
    """Median pixels that a point shifts per unit of inverse depth."""


def measure(
    grey0: np.ndarray,
    grey1: np.ndarray,
    flow: np.ndarray,
    valid: np.ndarray,
    error: np.ndarray,
    grid: EpipolarGrid,
) -> Measured:
    """Triangulate a frame's pixels with one partner.

    Args:
        grey0: (H, W) float32 of the frame, 0 ... 255.
        grey1: (H, W) float32 of the partner.
        flow: (H, W, 2) from the frame to the partner.
        valid: (H, W) bool, as in ``FlowPair``.
        error: (H, W) pixels, as in ``FlowPair``.
        grid: of the two cameras.
    """
    found = triangulate(flow, grid)
    typical = float(np.median(found.residual[valid])) if valid.any() else np.inf
    tolerance = float(np.clip(4 * typical, _LEAST_TOLERANCE, _MOST_TOLERANCE)) + error
    off_line = found.residual > tolerance
    # Behind a camera by more than noise explains is as impossible as off the line.
    behind = found.inverse_depth * found.slope < -tolerance
    usable = valid & np.isfinite(found.residual)
    static = usable & ~off_line & ~behind
    matched = match(grey0, grey1, np.where(static, found.inverse_depth, 0), grid)
    pixels = np.sqrt(matched.deviation**2 + _FLOOR**2 + (0.5 * error) ** 2 + (0.5 * found.residual) ** 2)
    pixels = pixels / np.clip(matched.likeness, 0.2, 1)
    deviation = np.where(static, pixels / np.maximum(found.slope, 1e-12), np.inf)
    return Measured(
        np.where(static, matched.inverse_depth, 0).astype(np.float32),
        deviation.astype(np.float32),
        usable & (off_line | behind),
        usable,
        typical < _AGREEING,
        float(np.median(found.slope)),
    )
