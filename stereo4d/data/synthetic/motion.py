"""How a world moves: object and camera poses at any clip time, and where a surface point is then."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.data.synthetic.world import WALLS, World, rotation_from_vector


def object_poses(world: World, time: Tensor) -> Tensor:
    """Object-to-world poses.

    Args:
        world: B worlds.
        time: (B,) clip time; any real number, motion is continuous.

    Returns:
        (B, K, 4, 4) rigid motions.
    """
    t = time[:, None, None]
    phase = world.sway_phase[..., None]
    sway = world.sway * (torch.sin(2 * torch.pi * t + phase) - torch.sin(phase))
    pose = torch.zeros(*world.position.shape[:2], 4, 4, dtype=world.position.dtype, device=world.position.device)
    pose[..., :3, :3] = rotation_from_vector(world.spin * t) @ world.rotation
    pose[..., :3, 3] = world.position + world.velocity * t + sway
    pose[..., 3, 3] = 1
    return pose


def camera_pose(world: World, time: Tensor) -> Tensor:
    """(B, 4, 4) cam2world at clip times (B,): a smooth path that looks at a moving point."""
    t = time[:, None]
    eye = world.eye + world.eye_travel * t + world.eye_sway * torch.sin(2 * torch.pi * t)
    forward = torch.nn.functional.normalize(world.target + world.target_travel * t - eye, dim=-1)
    return look_along(eye, forward, world.roll[:, 0] + world.roll[:, 1] * time)


def look_along(eye: Tensor, forward: Tensor, roll: Tensor) -> Tensor:
    """(B, 4, 4) cam2world of cameras at (B, 3) that look along unit vectors (B, 3), rolled by (B,) radians."""
    down = torch.zeros_like(forward)
    down[:, 1] = 1
    right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=-1)
    below = torch.linalg.cross(forward, right)
    roll = roll[:, None]
    cam2world = torch.zeros(len(eye), 4, 4, dtype=eye.dtype, device=eye.device)
    cam2world[:, :3, 0] = right * roll.cos() + below * roll.sin()
    cam2world[:, :3, 1] = below * roll.cos() - right * roll.sin()
    cam2world[:, :3, 2] = forward
    cam2world[:, :3, 3] = eye
    cam2world[:, 3, 3] = 1
    return cam2world


def camera_intrinsics(world: World, height: int, width: int) -> Tensor:
    """(B, 3, 3) intrinsics in pixels; principal point at (W/2, H/2) as the family assumes."""
    return centred_intrinsics(world.field_of_view, height, width)


def centred_intrinsics(field_of_view: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, 3) intrinsics in pixels of (B,) fields of view along the longer side, in radians."""
    focal = max(height, width) / (2 * torch.tan(field_of_view / 2))
    intrinsics = torch.zeros(len(focal), 3, 3, dtype=focal.dtype, device=focal.device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    intrinsics[:, 2, 2] = 1
    return intrinsics


def surface_position(world: World, surface: Tensor, local: Tensor, time: Tensor) -> Tensor:
    """Where surface points are in the world at any time: the exact truth of motion.

    Args:
        world: B worlds.
        surface: (B, ...) surface ids as the renderer reports them.
        local: (B, ..., 3) points in the frame of their object (walls: the world).
        time: (B,) clip time.

    Returns:
        (B, ..., 3) world points.
    """
    batch = len(surface)
    poses = object_poses(world, time)
    still = torch.eye(4, dtype=poses.dtype, device=poses.device).expand(batch, WALLS, 4, 4)
    per_surface = torch.cat([still, poses], dim=1)
    surfaces = per_surface.shape[1]
    row = surface.reshape(batch, -1) + surfaces * torch.arange(batch, device=surface.device)[:, None]
    columns = torch.nn.functional.embedding(row, per_surface[..., :3, :].transpose(-1, -2).reshape(-1, 12))
    x_axis, y_axis, z_axis, origin = columns.split(3, -1)  # (B, P, 3) each
    x, y, z = local.reshape(batch, -1, 3).split(1, -1)
    return (x * x_axis + y * y_axis + z * z_axis + origin).reshape(local.shape)
