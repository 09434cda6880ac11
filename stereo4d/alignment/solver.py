"""Solvers of the alignment objective, and the one that ships: reweighted least squares with depths eliminated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.depth import best_depth, camera_rays, feet
from stereo4d.alignment.normal_equations import FrameSystem, Unknowns, frame_system
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.geometry.rigid import rotation_from_vector, transform_points

_FOCAL_STEP = 0.5
Progress = Callable[[int, int, float], None]
"""Called with steps done, most steps there can be, and the loss now."""


@dataclass(frozen=True)
class Solution:
    """Cameras found, and how."""

    cameras: Cameras
    losses: tuple[float, ...]
    """On the pixels that took part: before the first step, then after every step."""
    reason: str
    """Why the solver stopped, in words."""


class Solver(ABC):
    """Finds cameras that explain the pairs; depth is filled in afterwards, in closed form."""

    @abstractmethod
    def solve(self, problem: AlignmentProblem, start: Cameras, *, progress: Progress | None = None) -> Solution:
        """Improve the cameras.

        Args:
            problem: E pairs of N frames.
            start: cameras with frame 0 at the identity and pair scales of geometric mean ``PAIR_SCALE``.
            progress: told after every step.

        Returns:
            Cameras in the same gauge, whose loss on the solver's pixels is not above the start's.
        """


@dataclass(frozen=True)
class _Observed:
    """What the pairs say about one frame's sampled pixels: pair indices (K,), points (K, P, 3), weights (K, P)."""

    pairs: Tensor
    points: Tensor
    weight: Tensor


@dataclass(frozen=True)
class _Step:
    """A state of the iteration: cameras, depth (N entries of (P,)) and loss."""

    cameras: Cameras
    depth: list[Tensor]
    loss: float


@dataclass(frozen=True, kw_only=True)
class ReweightedLeastSquares(Solver):
    """Iteratively reweighted Levenberg-Marquardt steps on the reduced system, coarse to fine."""

    pixels: tuple[int, ...] = (300, 2400)
    """At most so many pixels of every frame take part, level by level."""
    most_steps: int = 60
    """Per level."""
    tolerance: float = 1e-5
    """A level ends when two steps in a row lower the loss by less than this share."""
    depth_rounds: int = 3
    """Reweighting rounds of the depths after every step."""

    def solve(self, problem: AlignmentProblem, start: Cameras, *, progress: Progress | None = None) -> Solution:
        """See ``Solver.solve``."""
        cameras, reason = _double(start), ""
        losses: list[float] = []
        strides = list(dict.fromkeys(stride_for(problem.image_size, most) for most in self.pixels))
        for level, stride in enumerate(strides):
            work = _Level(problem, stride, cameras, self.depth_rounds)
            done, reason = self._descend(work, cameras, level, len(strides), progress)
            cameras = done[-1].cameras
            losses.extend(step.loss for step in done)
        return Solution(cameras, tuple(losses), reason)

    def _descend(
        self, work: _Level, cameras: Cameras, level: int, levels: int, progress: Progress | None
    ) -> tuple[list[_Step], str]:
        here = work.evaluate(cameras, None)
        path, damping, small = [here], 1e-4, 0
        for step in range(self.most_steps):
            there, damping = self._step(work, here, damping)
            if there is None:
                return path, "no step lowers the loss any more"
            gain, here = 1 - there.loss / here.loss if here.loss > 0 else 0.0, there
            path.append(here)
            if progress is not None:
                progress(level * self.most_steps + step + 1, levels * self.most_steps, here.loss)
            small = small + 1 if gain < self.tolerance else 0
            if small == 2:
                return path, f"converged: two steps in a row lowered the loss by less than {self.tolerance:g} of it"
        return path, f"stopped after {self.most_steps} steps"

    def _step(self, work: _Level, here: _Step, damping: float) -> tuple[_Step | None, float]:
        matrix, gradient, curvature = work.reduced_system(here)
        for _ in range(10):
            delta = solve_with_fixed_scale(matrix, gradient, damping * curvature, work.unknowns.log_scales())
            if delta is not None:
                there = work.evaluate(work.moved(here.cameras, delta), here.depth)
                if there.loss < here.loss:
                    return there, max(damping / 10, 1e-10)
            damping = min(damping * 10, 1e10)
        return None, damping


def stride_for(image_size: tuple[int, int], most_pixels: int) -> int:
    """The smallest stride whose grid over (H, W) has at most so many pixels."""
    stride = 1
    while -(-image_size[0] // stride) * -(-image_size[1] // stride) > most_pixels:
        stride += 1
    return stride


def solve_with_fixed_scale(matrix: Tensor, gradient: Tensor, damping: Tensor, log_scales: Tensor) -> Tensor | None:
    """The damped Newton step that leaves the sum of the log-scales alone.

    The objective shrinks with the world, so a free scale would be pulled to zero; the constraint is hard.

    Args:
        matrix: (M, M) positive semi-definite.
        gradient: (M,).
        damping: (M,) added to the diagonal.
        log_scales: indices of the unknowns whose sum must not change.

    Returns:
        (M,) step, or None where the damped matrix is not positive definite to working precision.
    """
    system = matrix.clone()
    system.diagonal().add_(damping)
    constraint = torch.zeros_like(gradient)
    constraint[log_scales] = 1
    # A multiple of the constraint's outer product changes nothing on the constraint and lifts the flattest direction.
    lift = system.diagonal()[log_scales].mean()
    system[log_scales[:, None], log_scales[None, :]] += lift
    factor, failed = torch.linalg.cholesky_ex(system)
    if int(failed):
        return None
    solved = torch.cholesky_solve(torch.stack([-gradient, constraint], dim=1), factor)
    free, correction = solved.unbind(1)
    step = free - correction * (constraint @ free) / (constraint @ correction)
    return step if bool(torch.isfinite(step).all()) else None


class _Level:
    """One grid of pixels: evaluates cameras on it and builds their reduced system."""

    def __init__(self, problem: AlignmentProblem, stride: int, cameras: Cameras, depth_rounds: int) -> None:
        self.problem, self.stride, self.depth_rounds = problem, stride, depth_rounds
        self.unknowns = Unknowns(problem.num_frames, len(problem.edges), problem.shared_focal)
        self.observed = [_observe(problem, frame, stride) for frame in range(problem.num_frames)]
        self.count = len(problem.edges) * self.observed[0].points.shape[1]
        # Distances below a thousandth of the scene's size count quadratically: the norm has no second order at zero.
        self.floor = distance_floor(problem, cameras)

    def _world(self, cameras: Cameras, frame: int) -> Tensor:
        seen = self.observed[frame]
        return transform_points(cameras.pair2world[seen.pairs], seen.points)

    def evaluate(self, cameras: Cameras, depth: list[Tensor] | None) -> _Step:
        """Fill in the depths, (N of (P,)) to begin with or None, and measure the loss on the grid."""
        found, total = [], 0.0
        for frame, seen in enumerate(self.observed):
            rays = camera_rays(*self.problem.image_size, self.stride, cameras.focal[frame])
            dropped = feet(self._world(cameras, frame), cameras.cam2world[frame], rays)
            start = None if depth is None else depth[frame]
            rounds = self.depth_rounds if depth is not None else 10
            best = best_depth(dropped, seen.weight, floor=self.floor, rounds=rounds, start=start)
            distance = dropped.distance(best)
            smooth = torch.where(distance < self.floor, (distance.square() / self.floor + self.floor) / 2, distance)
            total += float((seen.weight * smooth).sum())
            found.append(best)
        return _Step(cameras, found, total / self.count)

    def reduced_system(self, here: _Step) -> tuple[Tensor, Tensor, Tensor]:
        """(M, M) matrix, (M,) gradient and (M,) diagonal for damping, depths eliminated."""
        size = self.unknowns.size + 6  # the pose of frame 0 collects in six more rows, which are dropped
        reference = here.cameras.cam2world
        matrix, gradient, curvature = reference.new_zeros(size, size), *reference.new_zeros(2, size)
        for frame, seen in enumerate(self.observed):
            part = self._frame_system(here, frame)
            columns = self.unknowns.columns(frame, seen.pairs).to(reference.device)
            # Accumulating: a frame that is paired with itself meets the same pair twice.
            matrix.index_put_((columns[:, None], columns[None, :]), part.matrix / self.count, accumulate=True)
            gradient.index_add_(0, columns, part.gradient / self.count)
            curvature.index_add_(0, columns, part.curvature / self.count)
        kept = self.unknowns.size
        curvature = curvature[:kept]
        return matrix[:kept, :kept], gradient[:kept], curvature + 1e-9 * curvature.mean()

    def _frame_system(self, here: _Step, frame: int) -> FrameSystem:
        cameras, seen, depth = here.cameras, self.observed[frame], here.depth[frame]
        rotation, centre = cameras.cam2world[frame, :3, :3], cameras.cam2world[frame, :3, 3]
        rays = camera_rays(*self.problem.image_size, self.stride, cameras.focal[frame])
        y = depth[:, None] * rays @ rotation.T
        axis_part = depth[:, None] * rotation[:, 2]
        q = seen.points @ cameras.pair2world[seen.pairs, :3, :3].transpose(1, 2)
        residual = y + centre - q - cameras.pair2world[seen.pairs, None, :3, 3]
        weight = seen.weight / residual.norm(dim=-1).clamp(min=self.floor)
        return frame_system(y, axis_part, q, residual, weight, depth > self.floor)

    def moved(self, cameras: Cameras, delta: Tensor) -> Cameras:
        """Cameras after a step of the reduced unknowns, (M,)."""
        unknowns = self.unknowns
        pose = delta[: unknowns.focal_start].reshape(-1, 6)
        pair = delta[unknowns.pair_start :].reshape(-1, 7)
        cam2world, pair2world = cameras.cam2world.clone(), cameras.pair2world.clone()
        cam2world[1:, :3, :3] = rotation_from_vector(pose[:, :3]) @ cam2world[1:, :3, :3]
        cam2world[1:, :3, 3] += pose[:, 3:]
        turned = rotation_from_vector(pair[:, :3]) @ pair2world[:, :3, :3]
        pair2world[:, :3, :3] = pair[:, 6].exp()[:, None, None] * turned
        pair2world[:, :3, 3] += pair[:, 3:6]
        focal_step = delta[unknowns.focal_start : unknowns.pair_start].clamp(-_FOCAL_STEP, _FOCAL_STEP).exp()
        size = max(self.problem.image_size)
        # A lens beyond these limits (150 and 4 degrees wide) is a sign of pairs that say nothing.
        focal = (cameras.focal * focal_step).clamp(0.13 * size, 15 * size)
        return Cameras(cam2world, focal, pair2world)


def distance_floor(problem: AlignmentProblem, cameras: Cameras) -> float:
    """A thousandth of the scene's size: the median depth that the first views of all pairs have in the world's unit."""
    scale = cameras.pair2world[:, 0, :3].norm(dim=-1)
    told = problem.prediction.pointmap0
    stride = stride_for(problem.image_size, 300)
    size = told[:, ::stride, ::stride].float().norm(dim=-1).flatten(1).median(1).values
    return max(1e-3 * float((scale.to(size) * size).median()), 1e-12)


def _observe(problem: AlignmentProblem, frame: int, stride: int) -> _Observed:
    points, weight = problem.observations(frame, stride)
    # A pair without any confidence would leave its own similarity without an equation.
    floor = 1e-3 * weight.mean() + 1e-9
    return _Observed(torch.cat(problem.incident(frame)), points.double(), weight.double().clamp(min=float(floor)))


def _double(cameras: Cameras) -> Cameras:
    return Cameras(cameras.cam2world.double(), cameras.focal.double(), cameras.pair2world.double())
