"""One depth for every pixel of a frame from what its partners say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d_plugins.predictors.classical.measuring import Measured

_TOGETHER = 2.5  # deviations within which two partners say the same
_ALONE = 2.0  # factor on the deviation of what nobody confirms
_SHARED = 0.5  # errors that partners share do not average out: the share of the best one's variance that stays


@dataclass(frozen=True)
class Fused:
    """A frame's pixels (H, W)."""

    inverse_depth: np.ndarray
    """(H, W) float32; not positive or meaningless where the deviation is infinite."""
    deviation: np.ndarray
    """(H, W) float32, in units of inverse depth; infinite where no partner says anything."""
    moving: np.ndarray
    """(H, W) float32, 0 ... 1: share of the partners that find the pixel where no static point can be."""


def fuse(measured: Sequence[Measured]) -> Fused:
    """Put together what partners say: the measurement that most others agree with, averaged with those.

    Args:
        measured: at least one, all of the same frame.
    """
    depths = np.stack([one.inverse_depth for one in measured])
    variances = np.stack([one.deviation for one in measured]) ** 2
    weights = 1 / variances
    best_support = np.full(depths.shape[1:], -1.0, np.float32)
    inverse_depth, deviation = np.zeros_like(best_support), np.full_like(best_support, np.inf)
    for depth, variance in zip(depths, variances, strict=True):
        with np.errstate(invalid="ignore"):
            together = (depths - depth) ** 2 < _TOGETHER**2 * (variances + variance)
        agreed = np.where(together & np.isfinite(variance), weights, 0)
        support = agreed.sum(0)
        mean, spread = _average(depths, agreed, support)
        better = support > best_support
        best_support = np.where(better, support, best_support)
        inverse_depth = np.where(better, mean, inverse_depth)
        deviation = np.where(better, spread, deviation)
    deviation = deviation * _doubt(weights.sum(0), best_support)
    contradicting = np.stack([one.contradicts for one in measured]).sum(0, dtype=np.float32)
    usable = np.stack([one.usable for one in measured]).sum(0, dtype=np.float32)
    deviation = np.where((inverse_depth > 0) & np.isfinite(deviation), deviation, np.inf)
    return Fused(inverse_depth, deviation, contradicting / np.maximum(usable, 1))


def _average(depths: np.ndarray, weights: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over partners, and its deviation: what they expect, or what they differ by if that is more."""
    safe = np.maximum(total, 1e-30)
    mean = (weights * depths).sum(0) / safe
    count = np.maximum((weights > 0).sum(0), 1)
    differing = (weights * (depths - mean) ** 2).sum(0) / np.maximum(count - 1, 1)
    variance = (1 / safe * (1 - _SHARED) + _SHARED / np.maximum(weights.max(0), 1e-30)) * np.maximum(differing, 1)
    alone = np.where(count == 1, _ALONE, 1.0)
    return mean, np.where(total > 0, np.sqrt(variance) * alone, np.inf)


def _doubt(offered: np.ndarray, agreed: np.ndarray) -> np.ndarray:
    """Factor on the deviation where part of what was offered disagrees."""
    share = agreed / np.maximum(offered, 1e-30)
    return 1 / np.clip(share, 0.05, 1)
