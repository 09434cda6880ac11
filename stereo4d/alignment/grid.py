"""The pixels that a solver works on: the loss of cameras there, and the linear system of their next step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.depth import best_depth, camera_rays, feet
from stereo4d.alignment.normal_equations import FRAME_UNKNOWNS, PAIR_UNKNOWNS, FrameSystem, Unknowns, frame_system
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.geometry.rigid import dot, rotation_from_vector, transform_points

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
    loss: float
    """Mean over pairs of each pair's loss: the means over the pixels of its two views, added."""


@dataclass(frozen=True)
class _Observed:
    """What K pairs say about one frame's P pixels."""

    pairs: Tensor
    points: Tensor
    weight: Tensor


class PixelGrid:
    """A strided grid of every frame's pixels, with what all pairs say about them, in double precision."""

    def __init__(self, problem: AlignmentProblem, stride: int, cameras: Cameras, relative: float) -> None:
        """Gather the observations.

        Args:
            problem: E pairs of N frames.
            stride: of the grid, in pixels.
            cameras: roughly right; they tell the size of the scene.
            relative: distances of a pair are divided by this power of the pair's own size in the world: 0 leaves them
                in the world's unit, as DUSt3R does; 1 measures each pair in its own.
        """
        self.problem, self.stride, self.relative = problem, stride, relative
        self.sizes = pair_sizes(problem).to(cameras.focal)
        self.unknowns = Unknowns(problem.num_frames, len(problem.edges), problem.shared_focal)
        self.observed = [_observe(problem, frame, stride) for frame in range(problem.num_frames)]
        # Distances below a thousandth of the scene's size count quadratically: the norm has no second order at zero.
        self.floor = distance_floor(problem, cameras)

    def evaluate(self, cameras: Cameras, before: GridState | None = None) -> GridState:
        """Fill in the depths, starting from those of the state before if there is one, and measure the loss."""
        depths = []
        importance = self.importance(cameras)
        total = cameras.focal.new_zeros(())
        for frame, seen in enumerate(self.observed):
            world = transform_points(cameras.pair2world[seen.pairs], seen.points)
            dropped = feet(world, cameras.cam2world[frame], self._rays(cameras, frame))
            weight = importance[seen.pairs, None] * seen.weight
            depth = best_depth(
                dropped,
                weight,
                floor=self.floor,
                rounds=_FIRST_DEPTH_ROUNDS if before is None else _DEPTH_ROUNDS,
                start=None if before is None else before.depth[frame],
            )
            distance = dropped.distance(depth)
            smooth = torch.where(distance < self.floor, (distance.square() / self.floor + self.floor) / 2, distance)
            total += (weight * smooth).sum()
            depths.append(depth)
        return GridState(cameras, tuple(depths), float(total) / (len(importance) * len(depths[0])))

    def importance(self, cameras: Cameras) -> Tensor:
        """(E,) what a unit of distance in the world counts for in each pair."""
        return (cameras.pair2world[:, 0, :3].norm(dim=-1) * self.sizes).pow(-self.relative)

    def reduced_system(self, here: GridState) -> tuple[Tensor, Tensor, Tensor]:
        """(M, M) matrix, (M,) gradient and (M,) diagonal for damping, depths eliminated."""
        size = self.unknowns.size + FRAME_UNKNOWNS  # the pose of frame 0 collects past the end, and is dropped
        like, importance = here.cameras.focal, self.importance(here.cameras)
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
        weight = importance[seen.pairs, None] * seen.weight / dot(residual, residual).sqrt().clamp(min=self.floor)
        # A pair that grows by its log-scale moves its points by q, and measures the residual with a longer rule.
        z = q + self.relative * residual
        return frame_system(y, along_axis, q, z, residual, weight, depth > self.floor)

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


def stride_for(image_size: tuple[int, int], most_pixels: int) -> int:
    """The smallest stride whose grid over (H, W) has at most so many pixels."""
    stride = 1
    while -(-image_size[0] // stride) * -(-image_size[1] // stride) > most_pixels:
        stride += 1
    return stride


def pair_sizes(problem: AlignmentProblem) -> Tensor:
    """(E,) float32 size of what each pair shows: the median distance of view 0's points, in the pair's own unit."""
    stride = stride_for(problem.image_size, 300)
    seen = problem.prediction.pointmap0[:, stride // 2 :: stride, stride // 2 :: stride].float()
    return seen.norm(dim=-1).flatten(1).median(1).values.clamp(min=1e-30)


def distance_floor(problem: AlignmentProblem, cameras: Cameras) -> float:
    """A thousandth of the scene's size: of the median of what the pairs show, in the world's unit."""
    size = cameras.pair2world[:, 0, :3].norm(dim=-1) * pair_sizes(problem).to(cameras.focal)
    return max(1e-3 * float(size.median()), 1e-12)


def _observe(problem: AlignmentProblem, frame: int, stride: int) -> _Observed:
    points, weight = problem.observations(frame, stride)
    # A pair without any confidence would leave its own similarity without an equation.
    least = 1e-3 * float(weight.mean()) + 1e-9
    return _Observed(torch.cat(problem.incident(frame)), points.double(), weight.double().clamp(min=least))
