"""How far predicted 3D motion is from the truth, whatever the prediction's scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR, FAR = 0.05, 0.10
"""Metres: the thresholds of delta_3D in the papers."""


@dataclass(frozen=True)
class MotionErrors:
    """Errors of B pairs; NaN where a pair has no pixel to measure."""

    epe3d: Tensor
    """(B,) mean distance of predicted to true displacement, in the truth's unit."""
    delta_near: Tensor
    """(B,) share of pixels whose error is below 0.05 of that unit."""
    delta_far: Tensor
    """(B,) share below 0.10."""


def pair_scale(predicted: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> Tensor:
    """(B,) factor that brings the median distance of both views' predicted points to that of the true ones.

    Args:
        predicted: pointmaps (B, H, W, 3) of view 0 and view 1, in view 0's camera.
        truth: likewise.
        valid: (B, H, W) bool each.
    """
    return _median_distance(truth, valid) / _median_distance(predicted, valid).clamp(min=1e-12)


def motion_errors(displacement: Tensor, truth: Tensor, valid: Tensor, scale: Tensor) -> MotionErrors:
    """Compare displacements after scaling the predicted ones (Stereo4D, Jin et al. 2025, section 5).

    Args:
        displacement: (B, ..., 3), predicted.
        truth: (B, ..., 3).
        valid: (B, ...) bool: the pixels to measure.
        scale: (B,) from ``pair_scale``.
    """
    error = (displacement * scale.view(-1, *[1] * (displacement.ndim - 1)) - truth).norm(dim=-1).flatten(1)
    mask = valid.flatten(1)
    count = mask.sum(1)

    def mean(values: Tensor) -> Tensor:
        """(B,) means of (B, P) values over valid pixels; NaN where there are none."""
        total = torch.where(mask, values.to(error.dtype), 0).sum(1)
        return torch.where(count > 0, total / count.clamp(min=1), torch.nan)

    return MotionErrors(mean(error), mean(error < NEAR), mean(error < FAR))


def _median_distance(pointmaps: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> Tensor:
    distances = [
        torch.where(mask, points.norm(dim=-1), torch.nan).flatten(1)
        for points, mask in zip(pointmaps, valid, strict=True)
    ]
    # the mean of the two middle ones, as NumPy's; row by row, for PyTorch's has a limit of size
    return torch.stack([row.nanquantile(0.5) for row in torch.cat(distances, dim=1)])
