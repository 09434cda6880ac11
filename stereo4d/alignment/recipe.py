"""Global alignment, said in five steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.depth import dense_depth
from stereo4d.alignment.grid import distance_floor
from stereo4d.alignment.initialise import initialise, trusted_pairs
from stereo4d.alignment.problem import AlignmentProblem
from stereo4d.alignment.solver import Progress, ReweightedLeastSquares, Solver
from stereo4d.geometry.camera import pinhole


@dataclass(frozen=True)
class AlignmentResult:
    """N frames in one world: the first frame's camera, in a unit that the pairs' scales fix (``PAIR_SCALE``)."""

    cam2world: Tensor
    """(N, 4, 4) float32, rigid; the first is the identity."""
    intrinsics: Tensor
    """(N, 3, 3) float32, pixels."""
    depth: Tensor
    """(N, H, W) float32 > 0, along the optical axis."""
    confidence: Tensor
    """(N, H, W) float32: the highest confidence that any pair gave the pixel."""
    pairs: Tensor
    """(E',) indices of the pairs that took part; the others contradicted them (``trusted_pairs``)."""
    pair2world: Tensor
    """(E', 4, 4) float32 similarities from the frame and scale of each pair that took part to the world."""
    losses: tuple[tuple[float, ...], ...]
    """For every level of the solver: its loss, on its pixels, before the first step and after every step."""
    start_loss: float
    """The objective (``alignment_loss``) of the start with its best depth, over all pixels of these pairs."""
    final_loss: float
    """The same of this result; never above ``start_loss``."""
    iterations: int
    reason: str
    """Why the solver stopped, in words."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside the block.

    Alignment is a long row of small products: a second thread saves little on an idle machine, waits at every one of
    them on a busy one (17.9 s against 7.9 s measured), and would make the last digits depend on the machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def align(
    problem: AlignmentProblem, *, seed: int = 0, progress: Progress | None = None, solver: Solver | None = None
) -> AlignmentResult:
    """Bring all pairs into one world.

    Args:
        problem: E pairs of N frames.
        seed: the same seed gives the same result.
        progress: told of every step of the solver: steps done, most steps there can be, loss.
        solver: None takes ``ReweightedLeastSquares()``.

    Raises:
        AlignmentError: no finite answer was found.
    """
    trusted = trusted_pairs(problem, seed=seed)
    problem = problem.restricted(trusted)
    start = initialise(problem, seed=seed)
    solution = (solver or ReweightedLeastSquares()).solve(problem, start, progress=progress)
    floor = 0.1 * distance_floor(problem, start)
    start_depth, start_loss = dense_depth(problem, start, floor=floor)
    depth, final_loss = dense_depth(problem, solution.cameras, floor=floor)
    cameras, reason = solution.cameras, solution.reason
    if not final_loss <= start_loss:
        # The solver saw a grid of the pixels only; over all of them its answer must not be worse either.
        cameras, depth, final_loss, reason = start, start_depth, start_loss, "the start is better over all pixels"
    return AlignmentResult(
        cam2world=cameras.cam2world.float(),
        intrinsics=pinhole(cameras.focal.float(), *problem.image_size),
        depth=depth,
        confidence=best_confidence(problem),
        pairs=trusted,
        pair2world=cameras.pair2world.float(),
        losses=solution.losses,
        start_loss=start_loss,
        final_loss=final_loss,
        iterations=sum(len(level) - 1 for level in solution.losses),
        reason=reason,
    )


def best_confidence(problem: AlignmentProblem) -> Tensor:
    """(N, H, W) float32: the highest confidence that any pair gives each pixel."""
    told = problem.prediction
    best = torch.zeros(problem.num_frames, *problem.image_size, device=told.confidence0.device)
    for frame in range(problem.num_frames):
        starts, ends = problem.incident(frame)
        best[frame] = torch.cat([told.confidence0[starts], told.confidence1[ends]]).float().amax(0)
    return best
