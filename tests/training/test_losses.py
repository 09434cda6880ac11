"""The losses equal the stored reference values, gradients included."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.geometry.rigid import invert, transform_points
from stereo4d.network.objective import mean_distance
from stereo4d.training.losses import ConfidenceWeighted, PointmapRegression
from stereo4d.types import PairPrediction

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")


@dataclass(frozen=True)
class Truth:
    pointmap0: torch.Tensor
    pointmap1: torch.Tensor
    valid0: torch.Tensor
    valid1: torch.Tensor


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


@pytest.fixture
def truth() -> Truth:
    to_camera0 = invert(golden("cam2world1"))
    return Truth(
        transform_points(to_camera0, golden("gt_pts1_world")),
        transform_points(to_camera0, golden("gt_pts2_world")),
        golden("valid1"),
        golden("valid2"),
    )


@pytest.fixture
def prediction() -> PairPrediction:
    names = ("pred_pts1", "conf1", "pred_pts2", "conf2")
    return PairPrediction(*(golden(name).clone().requires_grad_() for name in names))


def close(value: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(value.detach(), expected.to(value.dtype), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (PointmapRegression(), "regr3d_avg_dis"),
        (PointmapRegression(normalise=False), "regr3d_nonorm"),
        (ConfidenceWeighted(alpha=0.2), "conf_a0.2_regr3d"),
        (ConfidenceWeighted(alpha=1.0), "conf_a1.0_regr3d"),
    ],
)
def test_losses_equal_the_reference(objective, name, prediction, truth):
    close(objective(prediction, truth).total, golden(name))


@pytest.mark.parametrize(
    ("objective", "name"),
    [(PointmapRegression(), "regr3d_avg_dis"), (ConfidenceWeighted(alpha=0.2), "conf_a0.2_regr3d")],
)
def test_gradients_equal_the_reference(objective, name, prediction, truth):
    objective(prediction, truth).total.backward()
    close(prediction.pointmap0.grad, golden(f"{name}__grad_pred_pts1"))
    close(prediction.pointmap1.grad, golden(f"{name}__grad_pred_pts2"))
    if "conf" in name:
        close(prediction.confidence0.grad, golden(f"{name}__grad_conf1"))
        close(prediction.confidence1.grad, golden(f"{name}__grad_conf2"))


def test_normalisation_factors_equal_the_reference(prediction, truth):
    close(mean_distance(truth.pointmap0, truth.pointmap1, truth.valid0, truth.valid1), golden("factor_gt_avg_dis"))
    predicted = mean_distance(prediction.pointmap0, prediction.pointmap1, truth.valid0, truth.valid1)
    close(predicted, golden("factor_pred_avg_dis"))


def test_nothing_valid_costs_nothing_and_can_still_be_differentiated(prediction, truth):
    nothing = torch.zeros_like(truth.valid0)
    value = ConfidenceWeighted()(prediction, Truth(truth.pointmap0, truth.pointmap1, nothing, nothing))
    assert float(value.total.detach()) == 0
    value.total.backward()
    assert not prediction.pointmap0.grad.any()


def test_invalid_truth_may_be_nan_without_harm(prediction, truth):
    holes = torch.where(truth.valid0[..., None], truth.pointmap0, torch.nan)
    value = ConfidenceWeighted()(prediction, Truth(holes, truth.pointmap1, truth.valid0, truth.valid1))
    close(value.total, golden("conf_a0.2_regr3d"))
    value.total.backward()
    assert bool(prediction.pointmap0.grad.isfinite().all())


def test_the_regression_does_not_see_the_scale_of_a_prediction(prediction, truth):
    larger = PairPrediction(
        7 * prediction.pointmap0, prediction.confidence0, 7 * prediction.pointmap1, prediction.confidence1
    )
    close(PointmapRegression()(larger, truth).total, golden("regr3d_avg_dis"))
