"""From expected relative error of depth to the confidence of a prediction.

Confidence weighs pixels in the alignment (by its logarithm) and hides them in views, so it has to fall as the error
rises, and be about 1 where nothing is known: pixels that move, that no partner finds, or that have no parallax.
"""

from __future__ import annotations

import numpy as np

LEAST = 1.02
"""Of pixels that nothing is known about; predictions are above 1."""
MOST = 16.0
_SCALE = 0.2  # confidence above 1 times expected relative error
_MOVING = 0.25  # share of partners with contradictions from which a pixel begins to count as moving


def confidence(inverse_depth: np.ndarray, deviation: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Confidence of depths.

    Args:
        inverse_depth: (H, W).
        deviation: (H, W), of the inverse depth; infinite where it is not known.
        moving: (H, W), 0 ... 1, share of partners that contradict a static point.

    Returns:
        (H, W) float32, ``LEAST`` ... ``MOST``.
    """
    relative = deviation / np.maximum(inverse_depth, 1e-12)
    surplus = _SCALE / np.maximum(relative, 1e-6)
    # An error of all of the depth is no knowledge at all.
    surplus = np.where(np.isfinite(relative), np.maximum(surplus - _SCALE, 0), 0)
    still = np.clip(1 - (moving - _MOVING) / (0.5 - _MOVING), 0, 1)
    return np.clip(1 + surplus * still**2, LEAST, MOST).astype(np.float32)
