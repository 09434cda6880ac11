"""Adam over every depth, pose, focal and pair: how the DUSt3R family aligns. For comparison only.

Objective, unknowns and constants are those of DUSt3R (Wang et al. 2024, section 3.4) and MonST3R (Zhang et al. 2024);
the start is the caller's. What is known is held, as there; it cannot be weighed against the pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stereo4d.alignment import AlignmentProblem, AlignmentState
from stereo4d.alignment.depth import dense_depth
from stereo4d.alignment.grid import scene_size
from stereo4d.alignment.known import HARD
from stereo4d.alignment.problem import Cameras
from stereo4d.alignment.solver import Progress, Solution, Solver
from stereo4d.alignment.watching import AlignmentStep, Watch
from stereo4d.errors import AlignmentError
from stereo4d.geometry.rigid import invert
from stereo4d_plugins.solvers.adam_objective import WrittenOut
from stereo4d_plugins.solvers.adam_unknowns import Unknowns, world_points

FIRST_RATE, LAST_RATE = 1e-2, 1e-6
BETAS = (0.9, 0.9)
"""The second is 0.9 too, not the usual 0.999."""
Schedule = Literal["cosine", "linear"]


@dataclass(frozen=True, kw_only=True)
class Adam(Solver):
    """A fixed number of Adam steps."""

    iterations: int = 300
    schedule: Schedule = "cosine"

    def solve(
        self,
        problem: AlignmentProblem,
        start: Cameras,
        *,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> Solution:
        """See ``Solver.solve``. Masked pixels count for what the masks say; other known quantities are held.

        Raises:
            AlignmentError: known quantities have weights, or known focals differ in x and y.
        """
        known = problem.known
        refused = [name for name in known.given() if getattr(getattr(known, name), "weight", HARD) != HARD]
        if refused:
            raise AlignmentError(
                f"the solver adam holds what is known and takes no weights, as of known {', '.join(refused)}; "
                "ReweightedLeastSquares, the default solver, does"
            )
        if known.intrinsics is not None:
            focals = known.intrinsics.intrinsics[:, [0, 1], [0, 1]]
            if not torch.allclose(focals[:, 0], focals[:, 1], rtol=1e-4):
                raise AlignmentError(
                    f"the solver adam has one focal for x and y, but {focals[0].tolist()} are known; take the default "
                    "solver, ReweightedLeastSquares"
                )
        if problem.terms:
            raise AlignmentError("the solver adam takes no terms beside the pairs; leave them out, or take another")
        state, losses = descend(
            problem, start, iterations=self.iterations, schedule=self.schedule, progress=progress, watch=watch
        )
        cameras = Cameras(state.cam2world, state.intrinsics, state.pair2world)
        return Solution(cameras, (losses,), f"all {self.iterations} steps of Adam are done")


def descend(
    problem: AlignmentProblem,
    start: Cameras,
    *,
    depth: Tensor | None = None,
    iterations: int = 300,
    schedule: Schedule = "cosine",
    terms: type[WrittenOut] = WrittenOut,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> tuple[AlignmentState, tuple[float, ...]]:
    """Go down from cameras and depths.

    Args:
        problem: E pairs of N frames.
        start: where to begin.
        depth: (N, H, W) to begin with; None takes those that are best for the cameras (``dense_depth``).
        iterations: how many steps; the learning rate falls over them.
        schedule: how it falls.
        terms: how loss and gradient are computed; the values are the same.
        progress: told after every step.
        watch: called before the first step and after every step; costs a pass over the pixels each time.

    Returns:
        Cameras, depths and pairs in float32, frame 0 at the identity and pair scales of geometric mean ``PAIR_SCALE``
        unless poses or depths are known, and the loss before the first step and after every step.
    """
    if depth is None:
        depth, _ = dense_depth(problem, start, floor=1e-4 * scene_size(problem, start))
    state = AlignmentState(start.cam2world, start.intrinsics, depth, start.pair2world)
    unknowns, objective = Unknowns.of(problem, state), terms(problem)
    trained = unknowns.trained(problem.free_principal_point)
    adam = torch.optim.Adam(trained, lr=FIRST_RATE, betas=BETAS)
    losses: list[float] = []
    settled = _from_first_camera if problem.known.poses is None else _detached
    for step in range(iterations + 1):
        adam.zero_grad()
        state = unknowns.state()
        linear, translation = state.pair2world[:, :3, :3], state.pair2world[:, :3, 3]
        loss = objective.loss(world_points(state), linear, translation)
        losses.append(float(loss.detach()))
        if progress is not None and step > 0:
            progress(step, iterations, losses[-1])
        if watch is not None:
            watch(_shown(problem, objective, settled(state), losses[-1]))
        if step < iterations:
            loss.backward()
            adam.param_groups[0]["lr"] = learning_rate(step / iterations, schedule)
            adam.step()
    return settled(state), tuple(losses)


def learning_rate(done: float, schedule: Schedule) -> float:
    """The rate of the step before which a share ``done`` of the steps, 0 to 1, has been made."""
    if schedule == "cosine":
        return LAST_RATE + (FIRST_RATE - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return FIRST_RATE + (LAST_RATE - FIRST_RATE) * done


def _detached(state: AlignmentState) -> AlignmentState:
    """The same answer, detached."""
    cam2world, pair2world = state.cam2world.detach(), state.pair2world.detach()
    return AlignmentState(cam2world, state.intrinsics.detach(), state.depth.detach(), pair2world)


def _from_first_camera(state: AlignmentState) -> AlignmentState:
    """The same answer, detached, seen from the first camera."""
    first = invert(state.cam2world[:1].detach())
    cam2world = first @ state.cam2world.detach()
    cam2world[0] = torch.eye(4)
    return AlignmentState(cam2world, state.intrinsics.detach(), state.depth.detach(), first @ state.pair2world.detach())


@torch.no_grad()
def _shown(problem: AlignmentProblem, objective: WrittenOut, state: AlignmentState, loss: float) -> AlignmentStep:
    """What a watcher sees of a state."""
    distance = objective.distances(world_points(state), state.pair2world[:, :3, :3], state.pair2world[:, :3, 3])
    seen = Cameras(state.cam2world, state.intrinsics, state.pair2world)
    residual = distance.view(-1, *problem.image_size) / scene_size(problem, seen)
    return AlignmentStep(0, loss, state.cam2world, state.intrinsics, residual)
