"""Pinhole cameras: from pixels to points and back."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.errors import ShapeError


def pixel_grid(height: int, width: int, *, device: torch.device | str | None = None) -> Tensor:
    """(H, W, 2) float32 pixel coordinates (u, v); the first pixel's centre is (0, 0)."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([u, v], dim=-1)


def pinhole(focal: Tensor, height: int, width: int) -> Tensor:
    """Intrinsics of square pixels with the family's principal point (W/2, H/2).

    Args:
        focal: (...), in pixels.

    Returns:
        (..., 3, 3) intrinsics in pixels.
    """
    intrinsics = torch.zeros(*focal.shape, 3, 3, dtype=focal.dtype, device=focal.device)
    intrinsics[..., 0, 0] = focal
    intrinsics[..., 1, 1] = focal
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return intrinsics


def unproject(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Lift depth maps to pointmaps in their own cameras.

    Args:
        depth: (B, H, W), distance along the optical axis; <= 0 marks no measurement.
        intrinsics: (B, 3, 3), pixels, pixel centres at integers.

    Returns:
        (B, H, W, 3) points; NaN where depth has no measurement.

    Raises:
        ShapeError: depth and intrinsics disagree in B.
    """
    if depth.ndim != 3 or intrinsics.shape != (depth.shape[0], 3, 3):
        raise ShapeError(
            f"depth {tuple(depth.shape)} and intrinsics {tuple(intrinsics.shape)} must be (B, H, W) and (B, 3, 3)"
        )
    pixels = pixel_grid(*depth.shape[1:], device=depth.device).to(depth.dtype)
    focal = intrinsics[:, None, None, [0, 1], [0, 1]]  # (B, 1, 1, 2)
    centre = intrinsics[:, None, None, :2, 2]
    rays = torch.cat([(pixels - centre) / focal, torch.ones_like(depth)[..., None]], dim=-1)
    return torch.where(depth > 0, depth, torch.nan)[..., None] * rays


def project(points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project points of a camera's frame into its image.

    Args:
        points: (B, ..., 3) in the camera's frame.
        intrinsics: (B, 3, 3), pixels.

    Returns:
        (B, ..., 2) pixel coordinates (u, v), meaningless where depth <= 0, and (B, ...) depth.
    """
    shape = (points.shape[0],) + (1,) * (points.ndim - 2) + (2,)
    focal = intrinsics[:, [0, 1], [0, 1]].reshape(shape)
    centre = intrinsics[:, :2, 2].reshape(shape)
    depth = points[..., 2]
    return points[..., :2] / depth[..., None] * focal + centre, depth
