import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stereo4d.alignment import AlignmentProblem, AlignmentState, align, alignment_loss
from stereo4d.alignment.problem import PAIR_SCALE
from stereo4d.alignment.solver import Level, ReweightedLeastSquares
from stereo4d.evaluation.metrics import (
    absolute_trajectory_error,
    align_trajectory,
    depth_errors,
    path_length,
    relative_poses,
    rotation_error,
)
from stereo4d.geometry.camera import pinhole, unproject
from stereo4d.geometry.rigid import invert, rotation_from_vector, transform_points
from stereo4d.types import PairPrediction
from tests.worlds import predict, problem_of, render, smooth_cameras

GOLDEN = Path(__file__).parents[1] / "golden"


def trajectory_error(result, world) -> float:
    """ATE as a share of the path."""
    return absolute_trajectory_error(result.cam2world.double(), world.cam2world) / path_length(world.cam2world)


def all_finite(result) -> bool:
    arrays = (result.cam2world, result.intrinsics, result.depth, result.confidence, result.pair2world)
    return all(bool(torch.isfinite(array).all()) for array in arrays)


def test_the_stored_scene_ends_at_the_optimum_with_the_right_cameras(golden_problem, golden_scene):
    result = align(golden_problem)
    centres = (align_trajectory(result.cam2world.double(), golden_scene["gt_c2w"]) - golden_scene["gt_c2w"])[:, :3, 3]
    assert result.final_loss <= 0.0862
    assert centres.norm(dim=-1).mean() <= 0.003
    assert result.iterations <= 15


def test_distances_in_the_world_end_at_the_stored_optimum_of_the_objective(golden_problem):
    optimum = json.loads((GOLDEN / "align_optimum.json").read_text())["loss"]
    solver = ReweightedLeastSquares(levels=(Level(cells=768, tolerance=1e-7),), relative=0.0)
    assert align(golden_problem, solver=solver).final_loss == pytest.approx(optimum, rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_known_trajectory_is_recovered_up_to_similarity(seed, shared):
    world, problem = problem_of(6, seed=seed, shared_focal=shared)
    result = align(problem)
    assert trajectory_error(result, world) < 1e-4
    assert rotation_error(relative_poses(result.cam2world.double()), relative_poses(world.cam2world)).max() < 0.01
    torch.testing.assert_close(result.intrinsics[:, 0, 0].double(), world.focal, rtol=1e-3, atol=0)
    assert depth_errors(result.depth.double()[None], world.depth[None]).abs_rel < 1e-4


def test_the_reported_loss_is_the_objective_of_the_result():
    _, problem = problem_of(5, noise=0.02)
    result = align(problem)
    assert torch.equal(result.pairs, torch.arange(len(problem.edges)))
    state = AlignmentState(result.cam2world, result.intrinsics, result.depth, result.pair2world)
    assert alignment_loss(problem, state) == pytest.approx(result.final_loss, rel=1e-4)
    assert result.pair2world[:, 0, :3].norm(dim=-1).log().mean().exp().item() == pytest.approx(PAIR_SCALE, rel=1e-5)


@pytest.mark.parametrize("told", [{"noise": 0.02}, {"noise": 0.1}, {"noise": 0.02, "wrong": 0.2}, {"garbage": 0.3}])
def test_the_result_is_never_worse_than_its_start(told):
    _, problem = problem_of(6, **told)
    result = align(problem)
    assert result.solved_loss <= result.start_loss
    for level in result.losses:
        assert list(level) == sorted(level, reverse=True)


def test_the_start_is_kept_where_a_solver_spoils_it():
    class Spoiler(ReweightedLeastSquares):
        def solve(self, problem, start, **told):
            found = super().solve(problem, start, **told)
            halved = torch.tensor([[0.5, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
            return replace(found, cameras=replace(found.cameras, intrinsics=found.cameras.intrinsics * halved))

    world, problem = problem_of(5, noise=0.01)
    result = align(problem, solver=Spoiler())
    assert result.solved_loss == result.start_loss
    assert "start" in result.reason
    torch.testing.assert_close(result.intrinsics[:, 0, 0].double(), world.focal, rtol=0.05, atol=0)


def test_the_same_seed_gives_the_same_result():
    _, problem = problem_of(5, noise=0.03)
    first, second = align(problem, seed=3), align(problem, seed=3)
    assert torch.equal(first.cam2world, second.cam2world)
    assert torch.equal(first.depth, second.depth)


def test_noise_does_not_let_the_scale_drift_along_the_clip():
    world, problem = problem_of(14, noise=0.03)
    in_own_units, in_the_world = align(problem), align(problem, solver=ReweightedLeastSquares(relative=0.0))
    error = depth_errors(in_own_units.depth.double()[None], world.depth[None]).abs_rel.item()
    assert error < 0.03
    assert depth_errors(in_the_world.depth.double()[None], world.depth[None]).abs_rel.item() > 1.5 * error


@pytest.mark.parametrize("told", [{"wrong": 0.2}, {"garbage": 0.3}])
def test_confidently_wrong_pairs_barely_move_the_cameras(told):
    for seed in range(2):
        world, clean = problem_of(8, noise=0.01, seed=seed)
        _, spoiled = problem_of(8, noise=0.01, seed=seed, **told)
        bound = 3 * max(trajectory_error(align(clean), world), 0.01)
        assert trajectory_error(align(spoiled), world) < bound


# Invariances, on noisy pairs where nothing is exact by accident.


def same_up_to_scale(result, other, *, tolerance: float) -> bool:
    factor = (other.depth.double() / result.depth.double()).median()
    moved = result.cam2world.double().clone()
    moved[:, :3, 3] *= factor
    size = float(other.depth.median())
    return (
        float((moved - other.cam2world)[:, :3, 3].norm(dim=-1).max()) < tolerance * size
        and float(rotation_error(moved, other.cam2world.double()).max()) < 60 * tolerance
        and float((result.depth * factor / other.depth - 1).abs().median()) < tolerance
    )


def test_scaling_every_pair_by_its_own_factor_changes_nothing():
    _, problem = problem_of(5, noise=0.02)
    factor = torch.exp(torch.randn(len(problem.edges), 1, 1, 1, generator=torch.Generator().manual_seed(5)))
    told = problem.prediction
    scaled = replace(told, pointmap0=factor * told.pointmap0, pointmap1=factor * told.pointmap1)
    assert same_up_to_scale(align(problem), align(replace(problem, prediction=scaled)), tolerance=2e-3)


def test_permuting_pairs_changes_nothing():
    _, problem = problem_of(5, noise=0.02)
    order = torch.randperm(len(problem.edges), generator=torch.Generator().manual_seed(0))
    told = problem.prediction
    shuffled = PairPrediction(
        told.pointmap0[order], told.confidence0[order], told.pointmap1[order], told.confidence1[order]
    )
    assert same_up_to_scale(align(problem), align(AlignmentProblem(problem.edges[order], shuffled, 5)), tolerance=1e-4)


def test_permuting_frames_permutes_the_cameras():
    _, problem = problem_of(5, noise=0.02)
    label = torch.tensor([3, 0, 4, 1, 2])
    result, other = align(problem), align(replace(problem, edges=label[problem.edges]))
    back = other.cam2world[label].double()
    moved = replace(other, cam2world=(invert(back[:1]) @ back).float(), depth=other.depth[label])
    assert same_up_to_scale(result, moved, tolerance=2e-3)


def test_moving_the_world_changes_nothing():
    path = smooth_cameras(5)
    move = torch.eye(4).double()
    move[:3, :3], move[:3, 3] = (
        rotation_from_vector(torch.tensor([0.1, 0.2, -0.1]).double()),
        torch.tensor([0.1, 0.2, 0.3]),
    )
    world = render(path, torch.full((5,), 21.6).double(), 18, 24)
    elsewhere = replace(world, cam2world=move @ path)
    edges = problem_of(5)[1].edges
    result, other = (align(AlignmentProblem(edges, predict(w, edges, noise=0.02), 5)) for w in (world, elsewhere))
    assert same_up_to_scale(result, other, tolerance=1e-4)


def test_turning_pairs_round_changes_nothing():
    world, problem = problem_of(5, noise=0.02)
    told, edges = problem.prediction, problem.edges
    # The same prediction, told in view 1's camera and with the views swapped.
    into_view1 = (invert(world.cam2world[edges[:, 1]]) @ world.cam2world[edges[:, 0]]).float()
    into_view1[:, :3, 3] *= (pair_scales(world, problem))[:, None]
    turned = PairPrediction(
        transform_points(into_view1, told.pointmap1),
        told.confidence1,
        transform_points(into_view1, told.pointmap0),
        told.confidence0,
    )
    other = align(AlignmentProblem(edges.flip(1), turned, 5))
    assert same_up_to_scale(align(problem), other, tolerance=5e-3)


def pair_scales(world, problem) -> torch.Tensor:
    """(E,) the unit of every pair, from its first view's depth."""
    truth = world.depth[problem.edges[:, 0]]
    return (problem.prediction.pointmap0[..., 2] / truth).flatten(1).median(1).values.float()


# Degenerate input.


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("path", ["static", "pure rotation", "straight line"])
def test_a_camera_that_does_not_really_travel_gives_a_result(path, noise):
    cameras = smooth_cameras(5, turn=0.4 if path == "pure rotation" else 0.0, travel=0.0)
    if path == "straight line":
        cameras[:, 2, 3] = torch.linspace(0, 1, 5)
    world, problem = problem_of(5, path=cameras, noise=noise)
    result = align(problem)
    assert all_finite(result)
    unit = float(result.depth.median() / world.depth.median())
    centres = result.cam2world[:, :3, 3].double() / unit
    assert (centres - world.cam2world[:, :3, 3]).norm(dim=-1).max() < (0.002 if noise == 0 else 0.15)
    assert result.intrinsics[0, 0, 0].item() == pytest.approx(world.focal[0].item(), rel=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_plane_gives_a_result(noise):
    cameras = smooth_cameras(5)
    focal = torch.full((5,), 20.0).double()
    world = render(cameras, focal, 18, 24)
    rays = unproject(torch.ones(5, 18, 24).double(), pinhole(focal, 18, 24))
    direction = transform_points(torch.cat([cameras[:, :, :3], torch.eye(4).double()[:, 3:].expand(5, 4, 1)], 2), rays)
    # z = 4 everywhere
    world = replace(world, depth=(4 - cameras[:, 2, 3])[:, None, None] / direction[..., 2])
    edges = problem_of(5)[1].edges
    result = align(AlignmentProblem(edges, predict(world, edges, noise=noise), 5))
    assert all_finite(result)
    assert depth_errors(result.depth.double()[None], world.depth[None]).abs_rel < (1e-3 if noise == 0 else 0.03)


@pytest.mark.parametrize("edges", [[[0, 0]], [[0, 0], [0, 0]]])
def test_one_frame_paired_with_itself_gives_its_depth(edges):
    world = render(smooth_cameras(1), torch.tensor([20.0]).double(), 18, 24)
    pairs = torch.tensor(edges)
    result = align(AlignmentProblem(pairs, predict(world, pairs, noise=0.005), 1))
    assert depth_errors(result.depth.double(), world.depth).abs_rel < 0.02
    assert torch.equal(result.cam2world[0], torch.eye(4))


@pytest.mark.parametrize("edges", [[[0, 1]], [[1, 0]], [[0, 1], [1, 0]]])
def test_two_frames_suffice(edges):
    world = render(smooth_cameras(2), torch.full((2,), 20.0).double(), 18, 24)
    pairs = torch.tensor(edges)
    result = align(AlignmentProblem(pairs, predict(world, pairs), 2))
    moved = relative_poses(result.cam2world.double())
    assert rotation_error(moved, relative_poses(world.cam2world)).item() < 0.05
    assert depth_errors(result.depth.double()[None], world.depth[None]).abs_rel < 1e-3


@pytest.mark.parametrize("case", ["no confidence", "one frame without confidence", "noise only", "behind the camera"])
def test_predictions_that_say_little_never_give_nan(case):
    _, problem = problem_of(4)
    told = problem.prediction
    if case == "no confidence":
        ones = torch.ones_like(told.confidence0)
        told = replace(told, confidence0=ones, confidence1=ones)
    elif case == "one frame without confidence":
        told.confidence0[problem.edges[:, 0] == 2] = 1.0
        told.confidence1[problem.edges[:, 1] == 2] = 1.0
    elif case == "noise only":
        random = torch.randn(2, *told.pointmap0.shape, generator=torch.Generator().manual_seed(0))
        told = replace(told, pointmap0=random[0], pointmap1=random[1])
    else:
        told = replace(told, pointmap0=-told.pointmap0, pointmap1=-told.pointmap1)
    result = align(replace(problem, prediction=told))
    assert all_finite(result)
    assert (result.depth > 0).all()
    assert result.solved_loss <= result.start_loss


@pytest.mark.parametrize(
    ("case", "warning"),
    [("noise only", "one story"), ("behind", "x right, y down"), ("mirrored", "x right, y down"), ("noisy", "")],
)
def test_pairs_that_mean_nothing_are_warned_about(case, warning, caplog):
    _, problem = problem_of(4, noise=0.1 if case == "noisy" else 0.0)
    told = problem.prediction
    if case == "noise only":
        random = torch.randn(2, *told.pointmap0.shape, generator=torch.Generator().manual_seed(0))
        told = replace(told, pointmap0=random[0], pointmap1=random[1])
    elif case != "noisy":
        turned = torch.tensor([-1.0, 1.0, 1.0] if case == "mirrored" else [-1.0, -1.0, -1.0])
        told = replace(told, pointmap0=turned * told.pointmap0, pointmap1=turned * told.pointmap1)
    result = align(replace(problem, prediction=told))
    assert warning in caplog.text
    assert bool(caplog.text) is (case != "noisy")
    assert (result.misfit > 0.5) is (case == "noise only")


def test_half_precision_predictions_are_taken():
    world, problem = problem_of(5)
    told = problem.prediction
    halves = PairPrediction(*(t.half() for t in (told.pointmap0, told.confidence0, told.pointmap1, told.confidence1)))
    assert trajectory_error(align(replace(problem, prediction=halves)), world) < 5e-3


def test_progress_is_told_after_every_step():
    _, problem = problem_of(4, noise=0.02)
    told = []
    result = align(problem, progress=lambda done, most, loss: told.append((done, most, loss)))
    assert len(told) == result.iterations
    assert [loss for _, _, loss in told] == [loss for level in result.losses for loss in level[1:]]
    assert all(0 < done <= most for done, most, _ in told)


def test_every_state_is_shown_with_its_cameras_and_residuals():
    _, problem = problem_of(4, 24, 32, noise=0.02)
    shown = []
    solver = ReweightedLeastSquares(levels=(Level(cells=48, tolerance=1e-3), Level(cells=200, tolerance=1e-5)))
    result = align(problem, watch=shown.append, solver=solver)
    assert [step.loss for step in shown] == [loss for level in result.losses for loss in level]
    assert [step.level for step in shown] == [0] * len(result.losses[0]) + [1] * len(result.losses[1])
    assert shown[0].residual.shape == (4, 6, 8)
    assert shown[-1].residual.shape == (4, 12, 16)
    assert torch.equal(shown[-1].cam2world, result.cam2world)
    assert torch.equal(shown[-1].intrinsics, result.intrinsics)
    assert all(bool(torch.isfinite(step.residual).all()) for step in shown)
    assert 0 < shown[-1].residual.mean() < 0.05


def test_the_confidence_of_a_pixel_is_the_best_that_any_pair_gave():
    _, problem = problem_of(4)
    told = problem.prediction
    expected = torch.cat([told.confidence0[problem.edges[:, 0] == 1], told.confidence1[problem.edges[:, 1] == 1]]).amax(
        0
    )
    assert torch.equal(align(problem).confidence[1], expected)
