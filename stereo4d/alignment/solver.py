"""Solvers of the alignment objective, and the one that ships: reweighted least squares with depths eliminated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.cells import coarsened, gather_cells
from stereo4d.alignment.grid import CellGrid, GridState
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.alignment.structure import Structure
from stereo4d.alignment.watching import AlignmentStep, Watch

_LEAST_DAMPING = 1e-8  # per-cell work is single precision: less than that is below its noise
_MOST_DAMPING = 1e10

Progress = Callable[[int, int, float], None]
"""Called with steps done, most steps there can be, and the loss now."""


@dataclass(frozen=True)
class Solution:
    """Cameras found, and how."""

    cameras: Cameras
    losses: tuple[tuple[float, ...], ...]
    """For every level: the solver's loss on its cells before the first step, then after every step."""
    reason: str
    """Why the last level stopped, in words."""


class Solver(ABC):
    """Finds cameras that explain the pairs; depth is filled in afterwards, in closed form."""

    @abstractmethod
    def solve(
        self,
        problem: AlignmentProblem,
        start: Cameras,
        *,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> Solution:
        """Improve the cameras.

        Args:
            problem: E pairs of N frames, and what is known.
            start: cameras in the world and unit of the answer, known quantities at their values (``Anchors.placed``):
                with frame 0 at the identity and pair scales of geometric mean ``PAIR_SCALE`` where nothing is known.
            progress: told after every step.
            watch: shown the state before the first step and after every step.

        Returns:
            Cameras in the same world and unit.

        Raises:
            AlignmentError: this solver cannot take what is known.
        """


@dataclass(frozen=True, kw_only=True)
class Level:
    """One stage of a descent from coarse to fine."""

    cells: int
    """At most so many cells of every frame take part (``cells.py``)."""
    tolerance: float
    """The stage ends when a step lowers the loss by less than this share."""
    most_steps: int = 60


@dataclass(frozen=True, kw_only=True)
class ReweightedLeastSquares(Solver):
    """Iteratively reweighted Levenberg-Marquardt steps on the reduced system, coarse to fine."""

    levels: tuple[Level, ...] = (Level(cells=200, tolerance=3e-3), Level(cells=1200, tolerance=3e-4))
    relative: float = 1.0
    """Distances of a pair are divided by this power of the pair's size in the world; 0 is DUSt3R's objective.

    DUSt3R measures all distances in the world, so a pair with a larger loss pulls harder towards a smaller world, and
    where the pairs of some frames are noisier or see farther the scale drifts along the clip: by 18 % over 24 frames at
    2 % noise, against 2 % where every pair is measured in its own unit, which leaves nothing to be gained by shrinking.
    Where pairs agree, both have the same optimum: on the stored scene their losses differ by a hundred-thousandth."""

    def solve(
        self,
        problem: AlignmentProblem,
        start: Cameras,
        *,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> Solution:
        """See ``Solver.solve``."""
        cameras = Cameras(start.cam2world.double(), start.intrinsics.double(), start.pair2world.double())
        anchors = Anchors(problem)
        cells = gather_cells(problem, cameras, max(level.cells for level in self.levels))
        structure = Structure(problem, anchors, cells)
        losses: list[tuple[float, ...]] = []
        reason, most = "", sum(level.most_steps for level in self.levels)
        for index, level in enumerate(self.levels):
            before = sum(level.most_steps for level in self.levels[:index])
            grid = CellGrid(problem, anchors, structure, coarsened(cells, level.cells), cameras, self.relative)

            def report(step: int, here: GridState, before: int = before, grid: CellGrid = grid) -> None:
                """Tell whoever listens about a step of this level."""
                if progress is not None and step:
                    progress(before + step, most, here.loss)
                if watch is not None:
                    watch(_seen_from_outside(grid, here, len(losses)))

            cameras, path, reason = _descend(grid, cameras, level, report)
            losses.append(tuple(path))
        return Solution(cameras, tuple(losses), reason)


def _descend(
    grid: CellGrid, cameras: Cameras, level: Level, report: Callable[[int, GridState], None]
) -> tuple[Cameras, list[float], str]:
    """The steps of one level: the last cameras, the losses, and why it ended."""
    here, damping = grid.evaluate(cameras), 1e-4
    losses = [here.loss]
    report(0, here)
    for step in range(1, level.most_steps + 1):
        there, damping = _step(grid, here, damping)
        if there is None:
            return here.cameras, losses, "no step lowers the loss any more"
        gained = 1 - there.loss / here.loss
        here = there
        losses.append(here.loss)
        report(step, here)
        if gained < level.tolerance:
            return here.cameras, losses, f"a step lowered the loss by less than {level.tolerance:g} of it"
    return here.cameras, losses, f"stopped after {level.most_steps} steps"


def _step(grid: CellGrid, here: GridState, damping: float) -> tuple[GridState | None, float]:
    """The next state and the damping for the step after it; None where no damping gives a lower loss."""
    system, gradient, curvature = grid.reduced_system(here)
    while damping < _MOST_DAMPING:
        step = system.solve(-gradient, damping * curvature)
        if step is not None:
            there = grid.evaluate(grid.moved(here.cameras, step), here)
            if there.loss < here.loss:
                return there, max(damping / 10, _LEAST_DAMPING)
        damping = damping * 10
    return None, damping


def _seen_from_outside(grid: CellGrid, here: GridState, level: int) -> AlignmentStep:
    """A state as a watcher sees it."""
    cameras = here.cameras
    intrinsics = cameras.intrinsics.float()
    return AlignmentStep(level, here.loss, cameras.cam2world.float(), intrinsics, grid.residual_images(here))
