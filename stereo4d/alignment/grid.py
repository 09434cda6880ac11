"""The pixels that a solver works on: the loss of cameras there, and the linear system of their next step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.depth import best_depth, camera_rays, feet
from stereo4d.alignment.normal_equations import FRAME_UNKNOWNS, PAIR_UNKNOWNS, FrameSystem, Unknowns, frame_system
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.geometry.rigid import rotation_from_vector, transform_points

_FOCAL_STEP = 0.5
_FOCAL_LIMITS = (0.13, 15.0)
_FIRST_DEPTH_ROUNDS = 10
_DEPTH_ROUNDS = 3


@dataclass(frozen=True)
class GridState:
    """An answer on a grid of pixels."""

    cameras: Cameras
    depth: tuple[Tensor, ...]
    """N entries of (P,)."""
    pair_losses: Tensor
    """(E,) DUSt3R's loss of every pair alone: the means over the pixels of its two views, added."""
    loss: float
    """Their power mean."""


@dataclass(frozen=True)
class _Observed:
    """What K pairs say about one frame's P pixels."""

    pairs: Tensor
    points: Tensor
    weight: Tensor


class PixelGrid:
    """A strided grid of every frame's pixels, with what all pairs say about them, in double precision."""

    def __init__(self, problem: AlignmentProblem, stride: int, cameras: Cameras, exponent: float) -> None:
        """Gather the observations.

        Args:
            problem: E pairs of N frames.
            stride: of the grid, in pixels.
            cameras: roughly right; they tell the size of the scene.
            exponent: of the power mean over pairs, at most 1.
        """
        self.problem, self.stride, self.exponent = problem, stride, exponent
        self.unknowns = Unknowns(problem.num_frames, len(problem.edges), problem.shared_focal)
        self.observed = [_observe(problem, frame, stride) for frame in range(problem.num_frames)]
        # Distances below a thousandth of the scene's size count quadratically: the norm has no second order at zero.
        self.floor = distance_floor(problem, cameras)

    def evaluate(self, cameras: Cameras, before: GridState | None = None) -> GridState:
        """Fill in the depths, starting from those of the state before if there is one, and measure the loss."""
        depths = []
        pair_losses = cameras.focal.new_zeros(len(self.problem.edges))
        importance = torch.ones_like(pair_losses) if before is None else self.importance(before)
        for frame, seen in enumerate(self.observed):
            world = transform_points(cameras.pair2world[seen.pairs], seen.points)
            dropped = feet(world, cameras.cam2world[frame], self._rays(cameras, frame))
            depth = best_depth(
                dropped,
                importance[seen.pairs, None] * seen.weight,
                floor=self.floor,
                rounds=_FIRST_DEPTH_ROUNDS if before is None else _DEPTH_ROUNDS,
                start=None if before is None else before.depth[frame],
            )
            distance = dropped.distance(depth)
            smooth = torch.where(distance < self.floor, (distance.square() / self.floor + self.floor) / 2, distance)
            pair_losses.index_add_(0, seen.pairs, (seen.weight * smooth).mean(1))
            depths.append(depth)
        return GridState(cameras, tuple(depths), pair_losses, power_mean(pair_losses, self.exponent))

    def importance(self, here: GridState) -> Tensor:
        """(E,) by how much each pair's loss moves the power mean: the weight of the pair in the next step."""
        return (here.pair_losses / here.loss).pow(self.exponent - 1)

    def reduced_system(self, here: GridState) -> tuple[Tensor, Tensor, Tensor]:
        """(M, M) matrix, (M,) gradient and (M,) diagonal for damping, depths eliminated."""
        size = self.unknowns.size + FRAME_UNKNOWNS  # the pose of frame 0 collects past the end, and is dropped
        like, importance = here.cameras.focal, self.importance(here)
        matrix, gradient, curvature = like.new_zeros(size, size), like.new_zeros(size), like.new_zeros(size)
        for frame, seen in enumerate(self.observed):
            part = self._frame_system(here, frame, importance)
            columns = self.unknowns.columns(frame, seen.pairs).to(like.device)
            # Accumulating: a frame that is paired with itself meets the same pair twice.
            matrix.index_put_((columns[:, None], columns[None, :]), part.matrix, accumulate=True)
            gradient.index_add_(0, columns, part.gradient)
            curvature.index_add_(0, columns, part.curvature)
        kept = self.unknowns.size
        curvature = curvature[:kept]
        return matrix[:kept, :kept], gradient[:kept], curvature + 1e-9 * curvature.mean()

    def _frame_system(self, here: GridState, frame: int, importance: Tensor) -> FrameSystem:
        cameras, seen, depth = here.cameras, self.observed[frame], here.depth[frame]
        rotation, centre = cameras.cam2world[frame, :3, :3], cameras.cam2world[frame, :3, 3]
        y = depth[:, None] * self._rays(cameras, frame) @ rotation.T
        along_axis = depth[:, None] * rotation[:, 2]
        q = seen.points @ cameras.pair2world[seen.pairs, :3, :3].transpose(1, 2)
        residual = y + centre - q - cameras.pair2world[seen.pairs, None, :3, 3]
        weight = importance[seen.pairs, None] * seen.weight / residual.norm(dim=-1).clamp(min=self.floor)
        return frame_system(y, along_axis, q, residual, weight, depth > self.floor)

    def _rays(self, cameras: Cameras, frame: int) -> Tensor:
        return camera_rays(*self.problem.image_size, self.stride, cameras.focal[frame])

    def moved(self, cameras: Cameras, step: Tensor) -> Cameras:
        """Cameras after a step of the reduced unknowns, (M,)."""
        unknowns, size = self.unknowns, max(self.problem.image_size)
        pose = step[: unknowns.focal_start].reshape(-1, FRAME_UNKNOWNS)
        pair = step[unknowns.pair_start :].reshape(-1, PAIR_UNKNOWNS)
        cam2world, pair2world = cameras.cam2world.clone(), cameras.pair2world.clone()
        cam2world[1:, :3, :3] = rotation_from_vector(pose[:, :3]) @ cam2world[1:, :3, :3]
        cam2world[1:, :3, 3] += pose[:, 3:]
        turned = rotation_from_vector(pair[:, :3]) @ pair2world[:, :3, :3]
        pair2world[:, :3, :3] = pair[:, 6].exp()[:, None, None] * turned
        pair2world[:, :3, 3] += pair[:, 3:6]
        focal_step = step[unknowns.focal_start : unknowns.pair_start].clamp(-_FOCAL_STEP, _FOCAL_STEP)
        # A lens beyond these limits (150 and 4 degrees wide) is a sign of pairs that say nothing.
        focal = (cameras.focal * focal_step.exp()).clamp(_FOCAL_LIMITS[0] * size, _FOCAL_LIMITS[1] * size)
        return Cameras(cam2world, focal, pair2world)


def power_mean(values: Tensor, exponent: float) -> float:
    """The power mean of (E,) positive values: 1 the arithmetic, 0 the geometric mean."""
    if exponent == 0:
        return float(values.log().mean().exp())
    return float(values.pow(exponent).mean().pow(1 / exponent))


def stride_for(image_size: tuple[int, int], most_pixels: int) -> int:
    """The smallest stride whose grid over (H, W) has at most so many pixels."""
    stride = 1
    while -(-image_size[0] // stride) * -(-image_size[1] // stride) > most_pixels:
        stride += 1
    return stride


def distance_floor(problem: AlignmentProblem, cameras: Cameras) -> float:
    """A thousandth of the scene's size: the median distance of what the pairs' first views see, in the world's unit."""
    scale = cameras.pair2world[:, 0, :3].norm(dim=-1)
    stride = stride_for(problem.image_size, 300)
    seen = problem.prediction.pointmap0[:, stride // 2 :: stride, stride // 2 :: stride].float()
    size = scale.to(seen) * seen.norm(dim=-1).flatten(1).median(1).values
    return max(1e-3 * float(size.median()), 1e-12)


def _observe(problem: AlignmentProblem, frame: int, stride: int) -> _Observed:
    points, weight = problem.observations(frame, stride)
    # A pair without any confidence would leave its own similarity without an equation.
    least = 1e-3 * float(weight.mean()) + 1e-9
    return _Observed(torch.cat(problem.incident(frame)), points.double(), weight.double().clamp(min=least))
