import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.errors import ShapeError
from stereo4d.evaluation.metrics import (
    absolute_trajectory_error,
    align_trajectory,
    depth_errors,
    median_scale,
    path_length,
    relative_pose_error,
    rotation_error,
    translation_direction_error,
)
from stereo4d.geometry.rigid import invert

GOLDEN = Path(__file__).parents[1] / "golden"
RESULTS = json.loads((GOLDEN / "metrics_results.json").read_text())


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "metrics_inputs.npz").items()}


def test_depth_errors_of_a_sequence_equal_the_stored_reference(inputs):
    truth, predicted = inputs["depth_gt"].double()[None], inputs["depth_pred"].double()[None]
    for name, cap in (("median", 70.0), ("median_nocap", torch.inf)):
        golden = RESULTS["depth_per_sequence"][name]
        valid = (truth > 0) & (truth < cap)
        errors = depth_errors(predicted, truth, valid)
        assert int(valid.sum()) == golden["valid_pixels"]
        assert errors.abs_rel.item() == pytest.approx(golden["Abs Rel"], rel=1e-5)
        assert errors.delta_125.item() == pytest.approx(golden["δ < 1.25"], rel=1e-5)


def test_depth_errors_per_frame_equal_the_stored_reference(inputs):
    truth, predicted = inputs["depth_gt"].double(), inputs["depth_pred"].double()
    valid = (truth > 0) & (truth < 70)
    errors, pixels = depth_errors(predicted, truth, valid), valid.flatten(1).sum(1)
    golden = RESULTS["depth_per_frame_median"]
    assert (errors.abs_rel * pixels).sum() / pixels.sum() == pytest.approx(golden["Abs Rel"], rel=1e-5)
    assert (errors.delta_125 * pixels).sum() / pixels.sum() == pytest.approx(golden["δ < 1.25"], rel=1e-5)


def test_the_median_scale_takes_the_lower_median():
    assert median_scale(torch.ones(1, 4), torch.tensor([[1.0, 2.0, 3.0, 4.0]])).item() == 2.0


def test_unmeasured_truth_does_not_count():
    truth = torch.tensor([[1.0, 1.0, 0.0, torch.nan]])
    errors = depth_errors(torch.tensor([[2.0, 2.0, 99.0, 99.0]]), truth)
    assert errors.abs_rel.item() == 0.0
    assert errors.delta_125.item() == 1.0
    assert depth_errors(torch.ones(1, 2), torch.zeros(1, 2)).abs_rel.isnan().all()


def test_depth_behind_the_camera_is_not_close():
    errors = depth_errors(torch.tensor([[1.0, 1.0, -1.0]]), torch.ones(1, 3), scale=torch.ones(1))
    assert errors.delta_125.item() == pytest.approx(2 / 3)


def test_depth_errors_refuse_different_shapes():
    with pytest.raises(ShapeError, match="one shape"):
        depth_errors(torch.ones(1, 3), torch.ones(1, 4))


def test_trajectory_errors_equal_evo(inputs):
    truth, predicted, golden = inputs["traj_gt"], inputs["traj_est"], RESULTS["evo_sim3"]
    translation, rotation = relative_pose_error(predicted, truth)
    assert absolute_trajectory_error(predicted, truth) == pytest.approx(golden["ate_rmse"], rel=1e-6)
    assert translation == pytest.approx(golden["rpe_trans_rmse"], rel=1e-6)
    assert rotation == pytest.approx(golden["rpe_rot_deg_rmse"], rel=1e-6)


def test_the_alignment_equals_umeyama(inputs):
    golden = RESULTS["umeyama"]
    linear, translation = torch.tensor(golden["R"]).double() * golden["s"], torch.tensor(golden["t"]).double()
    moved = inputs["traj_est"][:, :3, 3] @ linear.T + translation
    aligned = align_trajectory(inputs["traj_est"], inputs["traj_gt"])
    torch.testing.assert_close(aligned[:, :3, 3], moved, rtol=0, atol=1e-5)


def test_relative_pose_errors_equal_the_stored_reference(inputs):
    truth, predicted = inputs["traj_gt"], inputs["pose_est_noisy"]
    first, second = torch.triu_indices(len(truth), len(truth), offset=1)
    found, expected = (invert(poses[second]) @ poses[first] for poses in (predicted, truth))
    torch.testing.assert_close(rotation_error(found, expected), inputs["rel_rot_err_deg"], rtol=1e-6, atol=1e-5)
    for signed, name in ((True, "rel_trans_err_deg_signed"), (False, "rel_trans_err_deg")):
        angle = translation_direction_error(found, expected, signed=signed)
        torch.testing.assert_close(angle, inputs[name], rtol=1e-5, atol=1e-4)


def test_a_pose_without_translation_has_no_direction():
    still, moving = torch.eye(4)[None], torch.eye(4)[None].clone()
    moving[0, 0, 3] = 1
    assert translation_direction_error(still, moving).item() == 90.0


def test_a_straight_line_and_a_static_camera_have_errors_too():
    line = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    line[:, 0, 3] = torch.arange(5)
    static = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    assert absolute_trajectory_error(2 * line, line) == pytest.approx(0, abs=1e-9)
    assert absolute_trajectory_error(static, line) == pytest.approx(2**0.5)
    assert path_length(line) == 4.0
