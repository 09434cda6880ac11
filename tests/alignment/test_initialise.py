import pytest
import torch

from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.problem import PAIR_SCALE
from stereo4d.alignment.survey import spanning_tree, survey
from stereo4d.alignment.trust import trusted_pairs
from stereo4d.errors import AlignmentError
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length, relative_poses, rotation_error
from tests.worlds import problem_of


def test_scores_equal_the_stored_reference(golden_problem, golden_results):
    expected = [golden_results["edge_scores"][f"{i}_{j}"] for i, j in golden_problem.edges.tolist()]
    assert survey(golden_problem).scores.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_tree_equals_the_stored_reference(golden_problem, golden_results):
    tree = spanning_tree(golden_problem.edges, survey(golden_problem).scores, 5)
    assert golden_problem.edges[tree].tolist() == golden_results["mst_edges"]


def test_a_single_frame_has_its_best_self_pair_as_tree():
    assert spanning_tree(torch.tensor([[0, 0], [0, 0]]), torch.tensor([1.0, 2.0]), 1) == [1]


def test_every_frame_gets_its_own_focal_not_that_of_the_pair_before(golden_problem):
    # The reference gives frames 2 and 4 the focal of frame 1; the truth is 30 ... 34.
    focals = survey(golden_problem).focals()
    torch.testing.assert_close(focals, torch.tensor([30.0, 31.0, 32.0, 33.0, 34.0]).double(), rtol=0.005, atol=0)


def test_frames_that_start_no_pair_hear_the_others():
    world, problem = problem_of(4, shared_focal=False)
    forward = problem.restricted((problem.edges[:, 0] < problem.edges[:, 1]).nonzero()[:, 0])
    focals = survey(forward).focals()
    assert focals[3] in focals[:3]
    torch.testing.assert_close(focals[:3], world.focal[:3], rtol=1e-4, atol=0)


def test_exact_pairs_give_exact_cameras_without_any_solver():
    world, problem = problem_of(6)
    start = initialise(survey(problem))
    assert absolute_trajectory_error(start.cam2world, world.cam2world) < 1e-4 * path_length(world.cam2world)
    assert rotation_error(relative_poses(start.cam2world), relative_poses(world.cam2world)).max() < 0.01
    assert start.pair2world[:, 0, :3].norm(dim=-1).log().mean().exp().item() == pytest.approx(PAIR_SCALE)
    torch.testing.assert_close(start.cam2world[0], torch.eye(4).double())


def test_frames_that_only_ever_come_second_are_placed_by_pnp():
    world, problem = problem_of(5)
    spokes = problem.restricted((problem.edges[:, 0] == 2).nonzero()[:, 0])
    start = initialise(survey(spokes))
    assert absolute_trajectory_error(start.cam2world, world.cam2world) < 1e-3 * path_length(world.cam2world)


def test_confidently_wrong_pairs_are_not_trusted():
    for seed in range(3):
        _, problem = problem_of(8, noise=0.01, garbage=0.3, seed=seed)
        _, clean = problem_of(8, noise=0.01, seed=seed)
        garbage = (problem.prediction.pointmap0 != clean.prediction.pointmap0).flatten(1).any(1)
        assert garbage.sum() >= 5
        kept = torch.zeros(len(garbage), dtype=torch.bool)
        kept[trusted_pairs(survey(problem))] = True
        assert not (kept & garbage).any()
        assert (kept | garbage).float().mean() > 0.9


def test_all_pairs_are_trusted_where_all_agree(golden_problem):
    assert len(trusted_pairs(survey(golden_problem))) == 20
    _, noisy = problem_of(8, noise=0.05)
    assert len(trusted_pairs(survey(noisy))) == len(noisy.edges)


def test_points_in_one_place_are_refused_by_name():
    _, problem = problem_of(4)
    hit = (problem.edges == 3).any(1)
    problem.prediction.pointmap0[hit] = 0.0
    with pytest.raises(AlignmentError, match="one place"):
        trusted_pairs(survey(problem))
