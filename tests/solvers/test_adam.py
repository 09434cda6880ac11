import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stereo4d_plugins.solvers.adam import Adam, descend, learning_rate
from stereo4d_plugins.solvers.adam_objective import ByAutograd, WrittenOut
from stereo4d_plugins.solvers.adam_unknowns import Unknowns, world_points

from stereo4d import registry
from stereo4d.alignment import AlignmentProblem, align
from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.known import HARD, Known, KnownDepths, KnownIntrinsics, KnownPoses, Masks
from stereo4d.alignment.problem import PAIR_SCALE, Cameras
from stereo4d.alignment.solver import Solver
from stereo4d.alignment.survey import survey
from stereo4d.errors import AlignmentError
from stereo4d.evaluation.metrics import absolute_trajectory_error, align_trajectory, path_length
from stereo4d.geometry.camera import pinhole
from stereo4d.types import PairPrediction
from tests.worlds import problem_of

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads((GOLDEN / "align_results.json").read_text())


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "align_results.npz").items()}


@pytest.fixture(scope="module")
def scene() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "align_scene.npz").items()}


@pytest.fixture(scope="module")
def problem(scene) -> AlignmentProblem:
    told = PairPrediction(scene["pts3d_1"], scene["conf_1"], scene["pts3d_2"], scene["conf_2"])
    return AlignmentProblem(scene["edges"], told, 5, shared_focal=False)


def stored_unknowns(stored: dict[str, torch.Tensor]) -> Unknowns:
    unknowns = Unknowns(
        log_depth=stored["mst_param_im_depthmaps"].clone(),
        pose=stored["mst_param_im_poses"].clone(),
        focal=stored["mst_param_im_focals"][:, 0].clone(),
        centre=torch.zeros(5, 2),
        pair=stored["mst_param_pw_poses"].clone(),
        image_size=(24, 32),
    )
    for tensor in unknowns.trained():
        tensor.requires_grad_()
    return unknowns


def loss_of(unknowns: Unknowns, objective: WrittenOut) -> torch.Tensor:
    state = unknowns.state()
    return objective.loss(world_points(state), state.pair2world[:, :3, :3], state.pair2world[:, :3, 3])


@pytest.mark.parametrize("terms", [WrittenOut, ByAutograd])
def test_loss_and_gradients_at_the_spanning_tree_equal_the_stored_reference(terms, problem, stored, results):
    unknowns = stored_unknowns(stored)
    loss = loss_of(unknowns, terms(problem))
    loss.backward()
    assert loss.item() == pytest.approx(results["loss_mst_init"], rel=1e-5)
    pairs = {
        "im_depthmaps": unknowns.log_depth,
        "im_poses": unknowns.pose,
        "im_focals": unknowns.focal,
        "pw_poses": unknowns.pair,
    }
    for name, tensor in pairs.items():
        expected = stored[f"mst_grad_{name}"].view(tensor.shape)
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_learning_rates_fall_as_stored(stored):
    for schedule in ("cosine", "linear"):
        rates = torch.tensor([learning_rate(step / 300, schedule) for step in range(300)])
        torch.testing.assert_close(rates, stored[f"{schedule}_lr"], rtol=1e-5, atol=1e-9)


def test_from_the_stored_start_the_loss_runs_as_stored(problem, stored, results):
    intrinsics = pinhole(torch.tensor(results["mst_focals_init"]), 24, 32)
    start = Cameras(stored["mst_im_poses"], intrinsics, stored["mst_pw_poses"])
    _, losses = descend(problem, start, depth=stored["mst_depth"])
    # Later the last digits have grown.
    np.testing.assert_allclose(losses[:40], stored["cosine_loss_curve"][:40], rtol=2e-3)
    assert losses[-1] == pytest.approx(results["cosine"]["loss_final"], rel=1e-2)


def test_from_a_correct_start_the_stored_scene_ends_near_the_optimum(problem, scene):
    result = align(problem, solver=Adam())
    (losses,) = result.losses
    assert len(losses) == 301
    assert np.isfinite(losses).all()
    assert losses[-1] <= 0.08645
    assert losses[-1] < losses[0]
    assert result.final_loss <= 0.08645
    centres = (align_trajectory(result.cam2world.double(), scene["gt_c2w"]) - scene["gt_c2w"])[:, :3, 3]
    assert centres.norm(dim=-1).mean() < 0.005


@pytest.mark.parametrize("shared", [True, False])
def test_both_ways_to_the_gradient_take_the_same_first_steps(shared):
    _, problem = problem_of(5, noise=0.02, shared_focal=shared)
    start = initialise(survey(problem))
    (_, first), (_, second) = (descend(problem, start, iterations=20, terms=t) for t in (WrittenOut, ByAutograd))
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_the_same_start_gives_the_same_answer():
    _, problem = problem_of(5, noise=0.02)
    start = initialise(survey(problem))
    first, second = (Adam(iterations=30).solve(problem, start) for _ in range(2))
    assert first.losses == second.losses
    assert torch.equal(first.cameras.cam2world, second.cameras.cam2world)


def test_a_shared_focal_stays_shared_and_the_gauge_is_that_of_the_contract():
    world, problem = problem_of(6, noise=0.01)
    cameras = Adam(iterations=150).solve(problem, initialise(survey(problem))).cameras
    assert torch.equal(cameras.intrinsics, cameras.intrinsics[:1].expand(6, 3, 3))
    assert torch.equal(cameras.cam2world[0], torch.eye(4))
    assert cameras.pair2world[:, 0, :3].norm(dim=-1).log().mean().exp().item() == pytest.approx(PAIR_SCALE, rel=1e-4)
    error = absolute_trajectory_error(cameras.cam2world.double(), world.cam2world) / path_length(world.cam2world)
    assert error < 0.05


def test_a_free_principal_point_moves_to_where_the_images_were_cut():
    _, whole = problem_of(5, noise=0.002)
    told = whole.prediction
    # Without the first four columns the optical axis is two pixels left of the middle.
    cut = PairPrediction(*(t[:, :, 4:] for t in (told.pointmap0, told.confidence0, told.pointmap1, told.confidence1)))
    problem = AlignmentProblem(whole.edges, cut, 5, free_principal_point=True)
    held = Adam(iterations=150).solve(replace(problem, free_principal_point=False), initialise(survey(problem))).cameras
    free = Adam(iterations=150).solve(problem, initialise(survey(problem))).cameras
    assert held.intrinsics[0, 0, 2] == 8
    assert free.intrinsics[0, 0, 2].item() == pytest.approx(6, abs=0.3)
    assert free.intrinsics[0, 1, 2].item() == pytest.approx(7.5, abs=1)


def test_what_a_mask_ignores_pulls_at_no_camera():
    _, problem = problem_of(5, noise=0.02)
    start, told = initialise(survey(problem)), problem.prediction
    ignored = torch.zeros(5, *problem.image_size, dtype=torch.bool)
    ignored[:, :, :5] = True
    spoiled = PairPrediction(
        told.pointmap0.clone(), told.confidence0.clone(), told.pointmap1.clone(), told.confidence1.clone()
    )
    spoiled.pointmap0[:, :, :5] += 1
    spoiled.pointmap1[:, :, :5] *= 2
    known = Known(masks=Masks(torch.arange(5), ignored))
    clean, dirty = (replace(problem, prediction=p, known=known) for p in (told, spoiled))
    found = [Adam(iterations=20).solve(p, start).losses for p in (clean, dirty)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def what_is_known(world, problem, *frames: int, weight: float = HARD) -> Known:
    some = torch.tensor(frames)
    return Known(
        KnownIntrinsics(some, pinhole(world.focal[some], *problem.image_size), weight),
        KnownPoses(some, world.cam2world[some], weight),
        KnownDepths(some, world.depth[some].float(), weight),
    )


def test_known_quantities_do_not_move_and_the_rest_finds_its_place_beside_them():
    world, problem = problem_of(6, noise=0.01)
    known = what_is_known(world, problem, 1, 2, 4)
    holes = known.depths.depth.clone()
    holes[:, :5] = 0  # nothing measured there
    known = replace(known, depths=replace(known.depths, depth=holes))
    held = replace(problem, known=known)
    start = Anchors(held).placed(initialise(survey(held)))
    state, losses = descend(held, start, iterations=60)
    frames = known.poses.frames
    assert losses[-1] < losses[0]
    assert state.cam2world[frames].numpy() == pytest.approx(world.cam2world[frames].numpy(), abs=1e-5)
    assert state.intrinsics[:, 0, 0].numpy() == pytest.approx(world.focal.numpy(), rel=1e-5)
    assert state.depth[frames, 5:].numpy() == pytest.approx(world.depth[frames, 5:].numpy(), rel=1e-5)
    moved = (state.cam2world - start.cam2world).norm(dim=(1, 2))
    assert (moved[[0, 3, 5]] > 1e-4).all()
    others = [0, 3, 5]
    off = (state.cam2world[others, :3, 3] - world.cam2world[others, :3, 3]).norm(dim=-1)
    assert off.max() < 0.05 * float(world.depth.median())
    ratio = state.depth / world.depth
    assert float(ratio[others].median()) == pytest.approx(1, rel=0.02)
    assert float((ratio[frames, :5] - 1).abs().max()) > 1e-4


def test_known_quantities_that_are_weighed_are_refused_by_name():
    world, problem = problem_of(4)
    known = what_is_known(world, problem, 0, weight=2.0)
    with pytest.raises(AlignmentError, match=r"takes no weights, as of known intrinsics, poses, depths; .*default"):
        Adam().solve(replace(problem, known=known), initialise(survey(problem)))


def test_focals_that_differ_in_x_and_y_are_refused():
    world, problem = problem_of(4)
    wide = pinhole(world.focal[:1], *problem.image_size)
    wide[:, 0, 0] *= 1.1
    known = Known(KnownIntrinsics(torch.tensor([0]), wide))
    with pytest.raises(AlignmentError, match="one focal for x and y"):
        Adam().solve(replace(problem, known=known), initialise(survey(problem)))


def test_a_watcher_sees_every_state_and_where_the_residuals_are():
    _, problem = problem_of(4, noise=0.01)
    problem.prediction.pointmap0[0, 3, 4] += 2.0
    steps, told = [], []
    solution = Adam(iterations=5).solve(
        problem, initialise(survey(problem)), watch=steps.append, progress=lambda *values: told.append(values)
    )
    assert [step.loss for step in steps] == list(solution.losses[0])
    assert [values[:2] for values in told] == [(step, 5) for step in range(1, 6)]
    frame = int(problem.edges[0, 0])
    residual = steps[0].residual
    assert residual.shape == (4, *problem.image_size)
    assert residual.argmax().item() == residual[0].numel() * frame + 3 * problem.image_size[1] + 4


def test_the_solver_is_found_by_its_name():
    assert issubclass(registry.load("stereo4d.solvers", "adam"), Solver)
    assert isinstance(registry.load("stereo4d.solvers", "adam")(), Adam)
