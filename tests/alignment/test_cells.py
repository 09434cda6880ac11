from dataclasses import replace

import pytest
import torch

from stereo4d.alignment.cells import Cells, cell_side, cell_sum, coarsened, gather_cells
from stereo4d.alignment.depth import feet, ray_directions
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.known import Known, KnownDepths, Masks
from stereo4d.alignment.survey import survey
from tests.worlds import problem_of


def worst_residual(problem, cells: Cells, cameras) -> float:
    """Largest distance between what any pair says of a cell and the cell's ray, in the world."""
    directions = ray_directions(cells.pixels, cameras.intrinsics, cameras.cam2world[:, :3, :3])
    told = cameras.pair2world[cells.pair]
    shift = told[:, :3, 3] - cameras.cam2world[cells.frame, :3, 3]
    relative = told[:, :3, :3] @ cells.points.double() + shift[..., None]
    return float(feet(relative, directions[cells.frame]).offset_squared.max().sqrt())


@pytest.mark.parametrize("most_cells", [999, 60, 12, 4])
def test_cells_of_exact_pairs_lie_on_their_rays_whatever_their_size(most_cells):
    # Cells of several pixels hold edges of balls: depth runs and jumps within them, and the mean is exact all the same.
    _, problem = problem_of(5, 18, 24)
    cameras = initialise(survey(problem))
    assert worst_residual(problem, gather_cells(problem, cameras, most_cells), cameras) < 2e-5


def test_coarser_cells_are_those_gathered_from_the_pixels_themselves():
    _, problem = problem_of(4, 12, 16, noise=0.05)
    cameras = initialise(survey(problem))
    fine, coarse = gather_cells(problem, cameras, 999), gather_cells(problem, cameras, 12)
    made = coarsened(fine, 12)
    assert made.grid == coarse.grid == (3, 4)
    for name in ("pixels", "points", "weight", "share", "depth_share"):
        torch.testing.assert_close(getattr(made, name), getattr(coarse, name), rtol=1e-4, atol=1e-4)


def test_noise_goes_down_with_the_side_of_a_cell():
    _, problem = problem_of(4, 24, 32, noise=0.01)
    _, exact = problem_of(4, 24, 32)
    cameras = initialise(survey(exact))
    spread = []
    for most_cells in (999, 48):
        noisy, clean = (gather_cells(p, cameras, most_cells).points for p in (problem, exact))
        spread.append(float((noisy - clean).abs().median()))
    assert spread[1] < 1.5 * spread[0] / 4  # cells of 4 x 4 pixels


def test_ignored_pixels_do_not_take_part_in_their_cell():
    _, problem = problem_of(3, 12, 16)
    cameras = initialise(survey(problem))
    ignored = torch.zeros(3, 12, 16, dtype=torch.bool)
    ignored[1, :, ::2] = True
    ignored[1, :4, :4] = True
    spoiled = replace(
        problem.prediction,
        pointmap0=torch.where(ignored[problem.edges[:, 0]][..., None], 1e3, problem.prediction.pointmap0),
        pointmap1=torch.where(ignored[problem.edges[:, 1]][..., None], 1e3, problem.prediction.pointmap1),
    )
    masks = Masks(torch.tensor([1]), ignored[[1]])
    cells = gather_cells(replace(problem, prediction=spoiled, known=Known(masks=masks)), cameras, 12)
    seen = cells.weight > 0
    assert not seen[cells.frame == 1][:, 0].any()
    assert seen[cells.frame == 1][:, 1:].all()
    assert cells.weight[cells.frame == 1][:, 1:].mean() < 0.6 * cells.weight[cells.frame == 0][:, 1:].mean() * 1.3
    assert float(cells.points.transpose(1, 2)[seen].abs().max()) < 100


def test_a_cell_has_known_depth_where_all_of_its_pixels_have():
    world, problem = problem_of(3, 12, 16)
    given = world.depth[[1]].float()
    given[0, 0, 0] = 0
    known = replace(problem, known=Known(depths=KnownDepths(torch.tensor([1]), given)))
    cells = gather_cells(known, initialise(survey(problem)), 12)
    assert cells.known is not None
    assert (cells.known.depth[1] > 0).tolist() == [False] + [True] * 11
    assert not cells.known.depth[[0, 2]].any()
    inside = given[0, 4:8, 4:8]
    assert inside.min() <= cells.known.depth[1, 5] <= inside.max()
    assert coarsened(cells, 3).known is not None


def test_sums_over_cells_leave_out_what_does_not_fill_one():
    values = torch.arange(24.0).reshape(1, 4, 6, 1)
    assert cell_sum(values, 2)[0, :, :, 0].tolist() == [[14, 22, 30], [62, 70, 78]]
    assert cell_side((288, 512), 1200) == 11
    assert cell_side((3, 4), 12) == 1
