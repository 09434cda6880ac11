"""Smooth values where nothing was measured: averages of what was, over ever larger windows."""

from __future__ import annotations

import cv2
import numpy as np


def fill(values: np.ndarray, weights: np.ndarray, otherwise: float) -> np.ndarray:
    """Blend measured values with a smooth continuation of their surroundings.

    Pyramids of weighted sums (pull and push): a coarse level speaks where the finer ones have no weight.

    Args:
        values: (H, W) float32, finite.
        weights: (H, W) float32, 0 ... 1: how much a value counts; with 1 it stays as it is.
        otherwise: the value where nothing was measured at all.

    Returns:
        (H, W) float32, finite.
    """
    sums, totals = [values * weights], [weights]
    while min(sums[-1].shape) > 2:
        sums.append(cv2.pyrDown(sums[-1]))
        totals.append(cv2.pyrDown(totals[-1]))
    filled = np.full_like(sums[-1], otherwise)
    for weighted, total in zip(reversed(sums), reversed(totals), strict=True):
        coarse = filled if filled.shape == total.shape else _up(filled, total.shape)
        # Totals of coarse levels are averages: a tenth of a window that was measured is enough to go by.
        trust = np.minimum(total / 0.1, 1) if total is not totals[0] else total
        filled = trust * weighted / np.maximum(total, 1e-9) + (1 - trust) * coarse
    return filled.astype(np.float32)


def _up(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.pyrUp(coarse, dstsize=(shape[1], shape[0]))
