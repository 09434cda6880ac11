"""Solvers of the alignment objective, and the one that ships: reweighted least squares with depths eliminated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.grid import GridState, PixelGrid, stride_for
from stereo4d.alignment.problem import AlignmentProblem, Cameras

Progress = Callable[[int, int, float], None]
"""Called with steps done, most steps there can be, and the loss now."""


@dataclass(frozen=True)
class Solution:
    """Cameras found, and how."""

    cameras: Cameras
    losses: tuple[tuple[float, ...], ...]
    """For every level: the solver's loss on its pixels before the first step, then after every step."""
    reason: str
    """Why the last level stopped, in words."""


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
            Cameras in the same gauge.
        """


@dataclass(frozen=True, kw_only=True)
class Level:
    """One stage of a descent from coarse to fine."""

    pixels: int
    """At most so many pixels of every frame take part."""
    tolerance: float
    """The stage ends when two steps in a row lower the loss by less than this share."""
    most_steps: int = 60


@dataclass(frozen=True, kw_only=True)
class ReweightedLeastSquares(Solver):
    """Iteratively reweighted Levenberg-Marquardt steps on the reduced system, coarse to fine."""

    levels: tuple[Level, ...] = (Level(pixels=300, tolerance=1e-3), Level(pixels=2400, tolerance=1e-5))
    relative: float = 1.0
    """Distances of a pair are divided by this power of the pair's size in the world; 0 is DUSt3R's objective.

    DUSt3R measures all distances in the world, so a pair with a larger loss pulls harder towards a smaller world, and
    where the pairs of some frames are noisier or see farther the scale drifts along the clip: by 18 % over 24 frames at
    2 % noise, against 2 % where every pair is measured in its own unit, which leaves nothing to be gained by shrinking.
    Where pairs agree, both have the same optimum: on the stored scene their losses differ by a hundred-thousandth."""

    def solve(self, problem: AlignmentProblem, start: Cameras, *, progress: Progress | None = None) -> Solution:
        """See ``Solver.solve``."""
        cameras = Cameras(start.cam2world.double(), start.focal.double(), start.pair2world.double())
        losses: list[tuple[float, ...]] = []
        reason, most = "", sum(level.most_steps for level in self.levels)
        for level in self.levels:
            before = sum(level.most_steps for level in self.levels[: len(losses)])

            def report(step: int, loss: float, before: int = before) -> None:
                if progress is not None:
                    progress(before + step, most, loss)

            grid = PixelGrid(problem, stride_for(problem.image_size, level.pixels), cameras, self.relative)
            cameras, path, reason = _descend(grid, cameras, level, report)
            losses.append(tuple(path))
        return Solution(cameras, tuple(losses), reason)


def _descend(
    grid: PixelGrid, cameras: Cameras, level: Level, report: Callable[[int, float], None]
) -> tuple[Cameras, list[float], str]:
    """The steps of one level: the last cameras, the losses, and why it ended."""
    here, damping, small = grid.evaluate(cameras), 1e-4, 0
    losses = [here.loss]
    for step in range(1, level.most_steps + 1):
        there, damping = _step(grid, here, damping)
        if there is None:
            return here.cameras, losses, "no step lowers the loss any more"
        small = small + 1 if 1 - there.loss / here.loss < level.tolerance else 0
        here = there
        losses.append(here.loss)
        report(step, here.loss)
        if small == 2:
            return here.cameras, losses, f"two steps in a row lowered the loss by less than {level.tolerance:g} of it"
    return here.cameras, losses, f"stopped after {level.most_steps} steps"


def _step(grid: PixelGrid, here: GridState, damping: float) -> tuple[GridState | None, float]:
    """The next state and the damping for the step after it; None where no damping gives a lower loss."""
    matrix, gradient, curvature = grid.reduced_system(here)
    while damping < 1e10:
        step = solve_with_fixed_scale(matrix, gradient, damping * curvature, grid.unknowns.log_scales())
        if step is not None:
            there = grid.evaluate(grid.moved(here.cameras, step), here)
            if there.loss < here.loss:
                return there, max(damping / 10, 1e-10)
        damping = damping * 10
    return None, damping


def solve_with_fixed_scale(matrix: Tensor, gradient: Tensor, damping: Tensor, log_scales: Tensor) -> Tensor | None:
    """The damped Newton step that leaves the sum of the log-scales alone.

    DUSt3R's objective shrinks with the world, so a free scale would be pulled to zero; the constraint is hard.

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
    free, correction = torch.cholesky_solve(torch.stack([-gradient, constraint], dim=1), factor).unbind(1)
    step = free - correction * (constraint @ free) / (constraint @ correction)
    return step if bool(torch.isfinite(step).all()) else None
