"""Depth in closed form: with cameras and pair similarities given, every pixel's depth stands alone.

The residual of one pixel against one pair is an affine function of the pixel's depth, so its length is
``sqrt(A (depth - foot)^2 + offset^2)``: the foot of the perpendicular from the pair's point onto the pixel's ray, and
the distance of the point from the ray. Minimising the weighted sum over pairs is convex in the depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.rigid import dot, transform_points


@dataclass(frozen=True)
class Feet:
    """Where the points of K pairs stand with regard to the rays of P pixels."""

    foot: Tensor
    """(K, P) depth of the point on the ray that is closest to the pair's point."""
    offset_squared: Tensor
    """(K, P) squared distance of the pair's point from the ray."""
    ray_squared: Tensor
    """(P,) squared length of the ray at depth one."""

    def distance(self, depth: Tensor) -> Tensor:
        """(K, P) distances between the pairs' points and the points of the rays at depth (P,)."""
        return (self.ray_squared * (depth - self.foot).square() + self.offset_squared).sqrt()


def camera_rays(height: int, width: int, stride: int, focal: Tensor) -> Tensor:
    """(P, 3) rays (x, y, 1) of a camera's strided pixels, row by row, principal point (W/2, H/2)."""
    start = stride // 2
    pixels = pixel_grid(height, width, device=focal.device).to(focal.dtype)[start::stride, start::stride]
    centre = torch.tensor([width / 2, height / 2], dtype=focal.dtype, device=focal.device)
    flat = ((pixels - centre) / focal).flatten(0, 1)
    return torch.cat([flat, torch.ones_like(flat[:, :1])], dim=-1)


def feet(points_in_world: Tensor, cam2world: Tensor, rays: Tensor) -> Feet:
    """Drop the perpendiculars.

    Args:
        points_in_world: (K, P, 3).
        cam2world: (4, 4) of the camera that sees the P pixels.
        rays: (P, 3) in the camera, z = 1.
    """
    direction = rays @ cam2world[:3, :3].T
    ray_squared = dot(direction, direction)
    relative = points_in_world - cam2world[:3, 3]
    foot = dot(relative, direction) / ray_squared
    aside = relative - foot[..., None] * direction
    return Feet(foot, dot(aside, aside), ray_squared)


def best_depth(seen: Feet, weight: Tensor, *, floor: float, rounds: int, start: Tensor | None = None) -> Tensor:
    """The depth of each pixel that minimises its weighted sum of distances, by reweighted least squares.

    Args:
        seen: K pairs, P pixels.
        weight: (K, P) >= 0.
        floor: distances below it count quadratically; > 0, in the world's unit.
        rounds: of reweighting; each lowers the sum.
        start: (P,) depth to begin with; None begins with the weighted mean of the feet.

    Returns:
        (P,) depth, at least ``floor``.
    """
    weight = weight + 1e-12
    depth = (weight * seen.foot).sum(0) / weight.sum(0) if start is None else start
    for _ in range(rounds):
        robust = weight / seen.distance(depth).clamp(min=floor)
        depth = (robust * seen.foot).sum(0) / robust.sum(0)
    # The sum is convex in the depth: where its minimum lies behind the camera, the closest depth allowed is the best.
    return depth.clamp(min=floor)


def dense_depth(problem: AlignmentProblem, cameras: Cameras, *, floor: float, rounds: int = 10) -> tuple[Tensor, float]:
    """Depth of every pixel of every frame with the cameras held, and the loss of that answer.

    Args:
        problem: E pairs of N frames.
        cameras: the answer so far.
        floor: see ``best_depth``.
        rounds: see ``best_depth``.

    Returns:
        (N, H, W) float32 depth, and the objective (``alignment_loss``) of cameras and depth together.
    """
    height, width = problem.image_size
    maps, total = [], 0.0
    cam2world, pair2world = cameras.cam2world.float(), cameras.pair2world.float()
    for frame in range(problem.num_frames):
        starts, ends = problem.incident(frame)
        points, weight = problem.observations(frame)
        world = transform_points(pair2world[torch.cat([starts, ends])], points)
        seen = feet(world, cam2world[frame], camera_rays(height, width, 1, cameras.focal[frame].float()))
        depth = best_depth(seen, weight, floor=floor, rounds=rounds)
        maps.append(depth.reshape(height, width))
        total += float((weight * seen.distance(depth)).double().sum())
    return torch.stack(maps), total / (len(problem.edges) * height * width)
