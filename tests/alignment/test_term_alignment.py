"""Terms in the solver: the system's gradient is the loss's, and cameras that pairs leave vague become sharp."""

from dataclasses import replace

import pytest
import torch
from stereo4d_plugins.solvers.adam import Adam
from stereo4d_plugins.terms.acceleration import Acceleration
from stereo4d_plugins.terms.flow import FlowTerm
from stereo4d_plugins.terms.still import Still

from stereo4d.alignment import AlignmentProblem, align
from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.cells import cell_side, coarsened, gather_cells
from stereo4d.alignment.ego_flow import ego_flow
from stereo4d.alignment.grid import CellGrid
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.structure import Structure
from stereo4d.alignment.survey import survey
from stereo4d.alignment.terms import FlowCells
from stereo4d.errors import AlignmentError
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.geometry.camera import pinhole, pixel_grid
from tests.worlds import World, predict, render, smooth_cameras, window_edges

FRAMES, HEIGHT, WIDTH = 6, 24, 32


@pytest.fixture(scope="module")
def world() -> World:
    return render(smooth_cameras(FRAMES, 2), torch.full((FRAMES,), 28.0).double(), HEIGHT, WIDTH)


def exact_flow(world: World, edges: torch.Tensor, most_cells: int = 1200) -> FlowCells:
    """Where still pixels truly go, a value for every cell of one pixel."""
    pairs = edges[edges[:, 0].argsort(stable=True)]
    first, second = pairs.unbind(1)
    lens = pinhole(world.focal, HEIGHT, WIDTH)
    pixels = pixel_grid(HEIGHT, WIDTH).double().reshape(1, -1, 2).expand(len(pairs), -1, -1)
    flow, ahead = ego_flow(
        pixels,
        world.depth[first].flatten(1),
        (lens[first], lens[second]),
        (world.cam2world[first], world.cam2world[second]),
    )
    assert cell_side((HEIGHT, WIDTH), most_cells) == 1
    return FlowCells(pairs, flow.float(), (ahead > 0).float(), (HEIGHT, WIDTH))


def problem_with(world: World, *terms, noise: float = 0.05, seed: int = 0) -> AlignmentProblem:
    edges = window_edges(FRAMES, 2)
    return AlignmentProblem(edges, predict(world, edges, noise=noise, seed=seed), FRAMES, terms=tuple(terms))


def flow_term(world: World) -> FlowTerm:
    return FlowTerm(exact_flow(world, window_edges(FRAMES, 2)), float(WIDTH))


@pytest.mark.parametrize("which", ["flow", "acceleration", "still"])
def test_the_gradient_of_the_reduced_system_is_that_of_the_loss_at_its_best_depth(world, which):
    term = {
        "flow": flow_term(world),
        "acceleration": Acceleration(torch.arange(FRAMES).double(), weight=3.0),
        "still": Still(FRAMES, weight=3.0),
    }[which]
    problem = problem_with(world, term)
    start, anchors = initialise(survey(problem)), Anchors(problem)
    cells = coarsened(gather_cells(problem, start, 1200), 48)
    grid = CellGrid(problem, anchors, Structure(problem, anchors, cells), cells, start, 1.0)

    def settled(cameras):
        here = grid.evaluate(cameras)
        for _ in range(8):
            here = grid.evaluate(cameras, here)
        return here

    here = settled(start)
    count = len(problem.edges) * cells.weight.shape[1]
    _, gradient, _ = grid.reduced_system(here)
    for unknown in (*grid.layout.pose[2, 2:4].tolist(), int(grid.layout.lens[0, 0])):
        h, losses = 2e-3, []
        for sign in (1, -1):
            step = torch.zeros(grid.layout.size, dtype=torch.float64)
            step[unknown] = sign * h
            losses.append(settled(grid.moved(start, step)).loss * count)
        expected = (losses[0] - losses[1]) / (2 * h)
        assert float(gradient[unknown]) == pytest.approx(expected, rel=0.05, abs=0.02 * float(gradient.abs().max()))


def error_of(problem: AlignmentProblem, world: World) -> float:
    result = align(problem)
    truth = world.cam2world.float()
    return absolute_trajectory_error(result.cam2world, truth) / path_length(truth)


def test_exact_flow_makes_cameras_sharp_that_noisy_pairs_leave_vague(world):
    without = [error_of(problem_with(world, seed=seed), world) for seed in range(2)]
    with_flow = [error_of(problem_with(world, flow_term(world), seed=seed), world) for seed in range(2)]
    assert sum(with_flow) < sum(without) / 3


def test_priors_cost_exact_pairs_nothing(world):
    exact = problem_with(world, noise=0.0)
    smooth = replace(exact, terms=(Acceleration(torch.arange(FRAMES).double()),))
    still = replace(exact, terms=(Still(FRAMES, weight=1.0),))  # contradicted by what moves: it is left aside
    assert error_of(smooth, world) < 2e-3
    assert error_of(still, world) < 2e-3


def test_flow_that_says_nothing_changes_nothing(world):
    plain = problem_with(world)
    silent = flow_term(world)
    silent = FlowTerm(replace(silent.cells, weight=torch.zeros_like(silent.cells.weight)), silent.side)
    torch.testing.assert_close(
        align(replace(plain, terms=(silent,))).cam2world, align(plain).cam2world, rtol=1e-4, atol=1e-4
    )


def test_frames_that_terms_tie_and_pairs_do_not_fit_into_one_system(world):
    # A star: every pair has frame 3 in it, neighbours in time are not paired.
    edges = torch.tensor([[3, n] for n in range(FRAMES) if n != 3] + [[n, 3] for n in range(FRAMES) if n != 3])
    term = Acceleration(torch.arange(FRAMES).double())
    problem = AlignmentProblem(edges, predict(world, edges, noise=0.02), FRAMES, terms=(term,))
    assert error_of(problem, world) < 0.05


def test_adam_refuses_terms(world):
    with pytest.raises(AlignmentError, match="adam takes no terms"):
        align(problem_with(world, flow_term(world)), solver=Adam(iterations=2))


def test_flow_that_contradicts_the_pairs_altogether_is_left_aside_and_said(world, caplog):
    wild = flow_term(world)
    wrong = 4 * torch.randn(wild.cells.flow.shape, generator=torch.Generator().manual_seed(0))
    term = FlowTerm(replace(wild.cells, flow=wrong), wild.side, weight=200.0)
    plain = problem_with(world, noise=0.01)
    result = align(replace(plain, terms=(term,)))
    assert result.solved_loss <= result.start_loss
    assert "what FlowTerm say do not go together" in caplog.text
