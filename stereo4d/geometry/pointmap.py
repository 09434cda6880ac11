"""What a pointmap in its own camera says about that camera: its focal length."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.geometry.camera import pixel_grid

_ROUNDS = 10


def estimate_focal(
    pointmap: Tensor, confidence: Tensor | None = None, *, principal_point: tuple[float, float] | None = None
) -> Tensor:
    """Focal length of each camera that saw a pointmap, by Weiszfeld's iterations.

    Args:
        pointmap: (B, H, W, 3), each in its own camera, any scale.
        confidence: (B, H, W) weights >= 0; None weighs all pixels alike.
        principal_point: (u, v) in pixels; None means the family's (W/2, H/2).

    Returns:
        (B,) focal lengths in pixels, in the pointmap's dtype; NaN where the pointmap supports no positive focal.

    Raises:
        ShapeError: the shapes do not fit.
    """
    if pointmap.ndim != 4 or pointmap.shape[-1] != 3:
        raise ShapeError(f"pointmap {tuple(pointmap.shape)} must be (B, H, W, 3)")
    if confidence is not None and confidence.shape != pointmap.shape[:3]:
        raise ShapeError(f"confidence {tuple(confidence.shape)} must be {tuple(pointmap.shape[:3])}")
    batch, height, width, _ = pointmap.shape
    centre = torch.tensor(principal_point or (width / 2, height / 2), dtype=pointmap.dtype, device=pointmap.device)
    offset = (pixel_grid(height, width, device=pointmap.device).to(pointmap.dtype) - centre).reshape(1, -1, 2)
    ray = (pointmap[..., :2] / pointmap[..., 2:]).reshape(batch, -1, 2)
    ray = torch.nan_to_num(ray, nan=0.0, posinf=0.0, neginf=0.0)
    weight = torch.ones_like(ray[..., 0]) if confidence is None else confidence.reshape(batch, -1).to(ray)
    # Weiszfeld iterations for min_f sum |offset - f ray|, DUSt3R (Wang et al. 2024), section 3.3.
    ray_offset, ray_ray = (ray * offset).sum(-1), ray.square().sum(-1)
    focal = (weight * ray_offset).sum(1) / (weight * ray_ray).sum(1)
    for _ in range(_ROUNDS):
        distance = (offset - focal[:, None, None] * ray).norm(dim=-1).clamp(min=1e-8)
        robust = weight / distance
        focal = (robust * ray_offset).sum(1) / (robust * ray_ray).sum(1)
    return torch.where(torch.isfinite(focal) & (focal > 0), focal, torch.nan)


def shared_focal(
    pointmap: Tensor, confidence: Tensor, *, principal_point: tuple[float, float] | None = None
) -> float | None:
    """One focal for a camera that took all pointmaps: every pointmap votes, the confidence-weighted median wins.

    A median of votes is not moved by a minority of pointmaps that are confidently wrong.

    Args:
        pointmap: (B, H, W, 3), each in its own camera.
        confidence: (B, H, W), >= 0.
        principal_point: (u, v) in pixels; None means (W/2, H/2).

    Returns:
        The focal in pixels, or None where no pointmap supports one.
    """
    votes = estimate_focal(pointmap, confidence, principal_point=principal_point)
    usable = torch.isfinite(votes)
    if not usable.any():
        return None
    return weighted_median(votes[usable], confidence.flatten(1).mean(1)[usable])


def weighted_median(values: Tensor, weights: Tensor) -> float:
    """The value at which half of the weight is reached: (P,) values, (P,) weights > 0."""
    ordered, order = values.sort()
    reached = weights[order].double().cumsum(0)
    # The smallest value whose cumulative weight is at least half.
    index = int(torch.searchsorted(reached, reached[-1] / 2).clamp(max=len(values) - 1))
    return float(ordered[index])
