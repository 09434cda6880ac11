"""Global alignment, said in five steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.depth import dense_depth, sampled_loss
from stereo4d.alignment.grid import pair_sizes, size_in_world
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.known import KnownResidual
from stereo4d.alignment.known_report import known_residuals
from stereo4d.alignment.problem import AlignmentProblem, Cameras, normalise_scale
from stereo4d.alignment.solver import Progress, ReweightedLeastSquares, Solution, Solver
from stereo4d.alignment.survey import Survey, survey
from stereo4d.alignment.trust import trusted_pairs
from stereo4d.alignment.watching import Watch

log = logging.getLogger(__name__)

_TERMS_MAY_COST = 1.1
"""Noisy pairs may fit a little worse than at the start where flow sees better; wrong ones fit many times worse."""
_TELLING_NOTHING = 0.5
"""Noise of a tenth of the distance in every coordinate leaves a misfit of 0.27; random points leave more than 1."""


@dataclass(frozen=True)
class AlignmentResult:
    """N frames in one world: that of known poses, else the first frame's camera.

    The unit is that of known poses or depths (``scale_given``), else the pairs' scales fix it (``PAIR_SCALE``)."""

    cam2world: Tensor
    """(N, 4, 4) float32, rigid."""
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
    """For every level of the solver: its loss, on its cells, before the first step and after every step."""
    start_loss: float
    """The objective (``alignment_loss``) of the start with its best depth, on a sample of the pixels of these pairs.

    Like ``solved_loss`` in the unit that the pairs' scales fix (``PAIR_SCALE``), whatever the unit of the answer."""
    solved_loss: float
    """The same of this result; never above ``start_loss`` unless weighted known quantities or terms pull it there."""
    final_loss: float
    """The objective of this result over all pixels, in the unit of the answer."""
    misfit: float
    """Mean distance between points and what the pairs say of them, as a share of the scene's size."""
    iterations: int
    reason: str
    """Why the solver stopped, in words."""
    known: tuple[KnownResidual, ...] = ()
    """How what was known agrees with this result, and with the pairs."""
    scale_given: bool = False
    """Whether lengths are in the unit of known poses or depths."""


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
    problem: AlignmentProblem,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    solver: Solver | None = None,
    watch: Watch | None = None,
) -> AlignmentResult:
    """Bring all pairs into one world.

    Args:
        problem: E pairs of N frames, and what is known of them.
        seed: the same seed gives the same result.
        progress: told of every step of the solver: steps done, most steps there can be, loss.
        solver: None takes ``ReweightedLeastSquares()``.
        watch: shown the state before the first step and after every step.

    Raises:
        AlignmentError: no finite answer was found.
    """
    seen = survey(problem)
    trusted = trusted_pairs(seen, seed=seed)
    seen, problem = seen.of(trusted), problem.restricted(trusted)
    start = initialise(seen, seed=seed)
    anchors, sizes = Anchors(problem), pair_sizes(problem)
    floor = 1e-4 * size_in_world(sizes, start)
    solve = partial((solver or ReweightedLeastSquares()).solve, start=start, progress=progress, watch=watch)

    def loss_of(cameras: Cameras) -> float:
        # In the unit of the pairs: where known quantities set the world's, a smaller world would look better.
        return float(normalise_scale(cameras.pair2world)) * sampled_loss(problem, cameras, floor=floor)

    start_loss = loss_of(start)
    problem, solution, solved_loss = solve_and_doubt(problem, solve, loss_of, start_loss, pulled=bool(anchors.pulls))
    cameras, reason = solution.cameras, solution.reason
    if not solved_loss <= start_loss and not anchors.pulls and not problem.terms:
        # The solver saw cells; on the pixels themselves its answer must not be worse either.
        cameras, solved_loss, reason = start, start_loss, "the start is better"
    depth, final_loss = dense_depth(problem, cameras, floor=floor)
    misfit = final_loss / (seen.weight() * size_in_world(sizes, cameras))
    warn_if_meaningless(seen, misfit)
    return AlignmentResult(
        cam2world=cameras.cam2world.float(),
        intrinsics=cameras.intrinsics.float(),
        depth=depth,
        confidence=best_confidence(problem),
        pairs=trusted,
        pair2world=cameras.pair2world.float(),
        losses=solution.losses,
        start_loss=start_loss,
        solved_loss=solved_loss,
        final_loss=final_loss,
        misfit=misfit,
        iterations=sum(len(level) - 1 for level in solution.losses),
        reason=reason,
        known=known_residuals(seen, cameras, depth, floor=floor),
        scale_given=anchors.scale_given,
    )


def solve_and_doubt(
    problem: AlignmentProblem,
    solve: Callable[[AlignmentProblem], Solution],
    loss_of: Callable[[Cameras], float],
    start_loss: float,
    *,
    pulled: bool,
) -> tuple[AlignmentProblem, Solution, float]:
    """Solve, and once more without terms where these and the pairs contradict each other.

    Args:
        problem: E pairs, and terms.
        solve: finds cameras.
        loss_of: how badly the pairs fit cameras.
        start_loss: that of the start.
        pulled: whether known quantities may make the pairs fit worse than at the start.

    Returns:
        The problem that was solved, its solution, and how badly the pairs fit that.
    """
    solution = solve(problem)
    solved_loss = loss_of(solution.cameras)
    if pulled or not problem.terms or solved_loss <= _TERMS_MAY_COST * start_loss:
        return problem, solution, solved_loss
    log.warning(
        "alignment: what the pairs say and what %s say do not go together; only the pairs are heard",
        " and ".join(type(term).__name__ for term in problem.terms),
    )
    problem = replace(problem, terms=())
    solution = solve(problem)
    return problem, solution, loss_of(solution.cameras)


def warn_if_meaningless(seen: Survey, misfit: float) -> None:
    """Say so where no answer can mean anything: axes turned round, or pairs that contradict one another altogether."""
    if misfit > _TELLING_NOTHING:
        log.warning(
            "alignment: in the mean, points lie %.0f %% of the scene's size away from what the pairs say: the pairs do "
            "not tell one story, and neither cameras nor depth mean anything; check weights, frames and pair graph",
            100 * misfit,
        )
    if float((seen.points[0][..., 2] > 0).double().mean()) < 0.5 or bool(seen.votes.isnan().all()):
        log.warning(
            "alignment: the first views' pointmaps do not lie before their own cameras, behind their own pixels; axes "
            "must be x right, y down, z forward, and neither cameras nor depth mean anything otherwise"
        )


def best_confidence(problem: AlignmentProblem) -> Tensor:
    """(N, H, W) float32: the highest confidence that any pair gives each pixel."""
    best = torch.zeros(problem.num_frames, *problem.image_size, device=problem.edges.device)
    for frame in range(problem.num_frames):
        for side, pairs in enumerate(problem.incident(frame)):
            if len(pairs):
                best[frame] = torch.maximum(best[frame], problem.confidence(side, pairs).amax(0))
    return best
