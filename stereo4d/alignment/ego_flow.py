"""Ego flow: where the pixels of a scene in which nothing moves go from one camera to another."""

from __future__ import annotations

import torch
from torch import Tensor

_NEAREST = 1e-3


def ego_flow(
    pixels: Tensor, depth: Tensor, intrinsics: tuple[Tensor, Tensor], cam2world: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The flow that cameras alone cause (MonST3R, Zhang et al. 2024, section 4.2).

    Args:
        pixels: (..., P, 2) positions (u, v) in the first image.
        depth: (..., P) there, > 0, in the unit of the cameras.
        intrinsics: (..., 3, 3) of the first and of the second camera, pixels, without skew.
        cam2world: (..., 4, 4) likewise.

    Returns:
        (..., P, 2) pixels, and (..., P) depth in the second camera; the flow means nothing where that is not above 0.
    """
    flow, ahead, _ = ego_flow_by_depth(pixels, depth, intrinsics, cam2world)
    return flow, ahead


def ego_flow_by_depth(
    pixels: Tensor, depth: Tensor, intrinsics: tuple[Tensor, Tensor], cam2world: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``ego_flow`` returns, and (..., P, 2) its derivative by log-depth."""
    turned, moved = _turned_and_moved(pixels, depth, intrinsics[0], cam2world)
    seen = turned + moved
    focal, centre = _focal_and_centre(intrinsics[1])
    z = safe(seen[..., 2:])
    flat = seen[..., :2] / z
    return flat * focal + centre - pixels, seen[..., 2], focal / z * (turned[..., :2] - flat * turned[..., 2:])


def points_in_second(pixels: Tensor, depth: Tensor, intrinsics: Tensor, cam2world: tuple[Tensor, Tensor]) -> Tensor:
    """(..., P, 3) points of the first image's pixels in the second camera; see ``ego_flow``."""
    turned, moved = _turned_and_moved(pixels, depth, intrinsics, cam2world)
    return turned + moved


def _turned_and_moved(
    pixels: Tensor, depth: Tensor, intrinsics: Tensor, cam2world: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(..., P, 3) from the first camera to points, along the second's axes, and (..., 1, 3) to it from the second."""
    focal, centre = _focal_and_centre(intrinsics)
    rays = torch.cat([(pixels - centre) / focal, torch.ones_like(pixels[..., :1])], dim=-1)
    first, second = (pose[..., :3, :3] for pose in cam2world)
    turn = (second.transpose(-1, -2) @ first).to(depth)
    shift = cam2world[0][..., :3, 3] - cam2world[1][..., :3, 3]  # of two large numbers: in their own precision
    moved = (second.transpose(-1, -2) @ shift[..., None]).to(depth)
    return (depth[..., None] * rays) @ turn.transpose(-1, -2), moved.transpose(-1, -2)


def ego_flow_slopes(
    pixels: Tensor, depth: Tensor, intrinsics: tuple[Tensor, Tensor], cam2world: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Derivatives of the ego flow by the unknowns of both cameras and by log-depth; arguments as ``ego_flow``.

    Returns:
        (..., P, 2, 18) by rotation (left-multiplied), translation, log-focal and principal point of the first camera,
        then of the second; and (..., P, 2) by log-depth.
    """
    focal, centre = _focal_and_centre(intrinsics[0])
    flat = (pixels - centre) / focal
    first, second = (pose[..., :3, :3].to(depth) for pose in cam2world)
    own = (depth[..., None] * torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1)) @ first.transpose(-1, -2)
    seen = points_in_second(pixels, depth, intrinsics[0], cam2world)
    about_second = seen @ second.transpose(-1, -2)  # from the second camera's centre, in world axes
    by_point, flat_there = _by_point(seen, intrinsics[1], second)
    out = torch.zeros(*depth.shape, 2, 18, dtype=depth.dtype, device=depth.device)
    # g . (a x v) = (g x a) . v, for the rows g of the derivative by the point.
    out[..., 0:3] = torch.linalg.cross(own[..., None, :].expand_as(by_point), by_point)
    out[..., 3:6] = by_point
    along = by_point @ first[..., None, :, :2]  # (..., P, 2, 2) by the point's x and y in the first camera
    out[..., 6] = -depth[..., None] * (along * flat[..., None, :]).sum(-1)
    out[..., 7:9] = -depth[..., None, None] * along / focal[..., None, :]
    out[..., 9:12] = torch.linalg.cross(by_point, about_second[..., None, :].expand_as(by_point))
    out[..., 12:15] = -by_point
    out[..., 15] = flat_there
    out[..., 0, 16] = out[..., 1, 17] = 1
    return out, (by_point * own[..., None, :]).sum(-1)


def safe(depth: Tensor) -> Tensor:
    """Depths that can be divided by: those not above nearly 0 are taken for that."""
    return depth.clamp(min=_NEAREST * float(depth.abs().median().clamp(min=1e-12)) if depth.numel() else _NEAREST)


def _by_point(seen: Tensor, intrinsics: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """(..., P, 2, 3) derivative of pixels by points in world axes, and (..., P, 2) pixels from the middle."""
    focal, _ = _focal_and_centre(intrinsics)
    z = safe(seen[..., 2:])
    flat = seen[..., :2] / z
    x, y, ahead = (axis[..., None, :] for axis in rotation.unbind(-1))  # the camera's axes in the world
    rows = torch.stack([x - flat[..., :1] * ahead, y - flat[..., 1:] * ahead], dim=-2)
    return (focal / z)[..., None] * rows, focal * flat


def _focal_and_centre(intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 1, 2) each."""
    return intrinsics.diagonal(dim1=-2, dim2=-1)[..., None, :2], intrinsics[..., None, :2, 2]
