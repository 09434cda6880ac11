from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.alignment import AlignmentProblem, AlignmentState, alignment_loss
from stereo4d.alignment.problem import PAIR_SCALE, Cameras, components, normalise_scale
from stereo4d.errors import AlignmentError, GraphError, ShapeError
from stereo4d.geometry.camera import pinhole
from tests.worlds import problem_of

GOLDEN = Path(__file__).parents[1] / "golden"


def true_state(scene: dict[str, torch.Tensor]) -> AlignmentState:
    """The truth of the golden scene in the gauge of the reference."""
    pair2world = scene["gt_c2w"][scene["edges"][:, 0]].clone()
    pair2world[:, :3, :3] /= scene["pair_scale"][:, None, None]
    factor = normalise_scale(pair2world)
    moved = Cameras(scene["gt_c2w"], scene["gt_K"], pair2world).rescaled(factor)
    return AlignmentState(moved.cam2world, moved.intrinsics, scene["gt_depth"] * factor, moved.pair2world)


def test_the_loss_of_the_truth_equals_the_stored_reference(golden_problem, golden_scene, golden_results):
    found = alignment_loss(golden_problem, true_state(golden_scene))
    assert found == pytest.approx(golden_results["loss_gt_exact"], rel=1e-5)


def test_the_loss_of_the_spanning_tree_state_equals_the_stored_reference(golden_problem, golden_results):
    stored = np.load(GOLDEN / "align_results.npz")
    poses, depth, pairs = (torch.from_numpy(stored[f"mst_{n}"]) for n in ("im_poses", "depth", "pw_poses"))
    intrinsics = pinhole(torch.tensor(golden_results["mst_focals_init"]), *golden_problem.image_size)
    state = AlignmentState(poses, intrinsics, depth, pairs)
    assert alignment_loss(golden_problem, state) == pytest.approx(golden_results["loss_mst_init"], rel=1e-5)


def test_the_scale_gauge_equals_the_stored_reference(golden_scene, golden_results):
    pair2world = true_state(golden_scene).pair2world
    assert pair2world[:, 0, :3].norm(dim=-1).log().mean().exp().item() == pytest.approx(PAIR_SCALE)
    unscaled = golden_scene["gt_c2w"][golden_scene["edges"][:, 0]].clone()
    unscaled[:, :3, :3] /= golden_scene["pair_scale"][:, None, None]
    assert normalise_scale(unscaled).item() == pytest.approx(golden_results["gt_exact_norm_factor"])


def test_a_disconnected_graph_names_the_frames_and_the_remedy():
    _, whole = problem_of(6)
    inside = (whole.edges < 3).all(1) | (whole.edges >= 3).all(1)
    with pytest.raises(GraphError, match=r"2 parts.*frames 3, 4, 5: widen the window"):
        whole.restricted(inside.nonzero()[:, 0])


def test_a_frame_without_any_pair_is_named():
    _, whole = problem_of(4)
    with pytest.raises(GraphError, match="frames 4: widen"):
        replace(whole, num_frames=5)


def test_edges_out_of_range_and_no_edges_are_refused():
    _, whole = problem_of(4)
    with pytest.raises(GraphError, match=r"the frames are 0 \.\.\. 2"):
        replace(whole, num_frames=3)
    with pytest.raises(GraphError, match="paired with itself"):
        whole.restricted(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ShapeError, match="int64"):
        replace(whole, edges=whole.edges.int())


@pytest.mark.parametrize("name", ["pointmap0", "pointmap1", "confidence0", "confidence1"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_a_bad_value_names_the_pair(name, value):
    _, problem = problem_of(4)
    values = getattr(problem.prediction, name).clone()
    values[2, 3, 4] = value
    bad = replace(problem.prediction, **{name: values})
    if "pointmap" in name and value == 0.5:
        replace(problem, prediction=bad)  # any finite point is fine
        return
    i, j = problem.edges[2].tolist()
    with pytest.raises(AlignmentError, match=f"{name}.*pairs {i}→{j}:"):
        replace(problem, prediction=bad)


def test_shapes_that_do_not_fit_are_refused():
    _, problem = problem_of(4)
    short = replace(problem.prediction, pointmap1=problem.prediction.pointmap1[:, :, :-1])
    with pytest.raises(ShapeError, match="pointmap1"):
        AlignmentProblem(problem.edges, short, 4)


def test_components_follow_chains_of_pairs():
    edges = torch.tensor([[0, 2], [4, 2], [1, 3], [5, 5]])
    assert components(edges, 6) == [[0, 2, 4], [1, 3], [5]]


def test_observations_of_a_frame_are_the_pointmaps_of_its_pixels():
    _, problem = problem_of(4, 6, 8)
    points, weight = problem.observations(1, (slice(1, None, 3), slice(1, None, 3)))
    starts, ends = problem.incident(1)
    assert points.shape == (len(starts) + len(ends), 2, 3, 3)
    torch.testing.assert_close(points[0, 0, 1], problem.prediction.pointmap0[starts[0], 1, 4])
    torch.testing.assert_close(weight[-1, 1, 2], problem.prediction.confidence1[ends[-1], 4, 7].log())


def test_a_part_of_a_problem_shares_the_predictions_of_the_whole():
    _, whole = problem_of(4)
    some = torch.tensor([0, 2, 3, 5, 7])
    part = whole.restricted(some).restricted(torch.tensor([0, 1, 2, 4]))
    assert part.prediction is whole.prediction
    assert torch.equal(part.edges, whole.edges[some[[0, 1, 2, 4]]])
    last = torch.tensor([3])
    assert torch.equal(part.points(1, last)[0], whole.prediction.pointmap1[some[4]])
    assert torch.equal(part.confidence(0, last)[0], whole.prediction.confidence0[some[4]])
