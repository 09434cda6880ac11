"""The losses equal the stored reference values, gradients included; what they promise beyond those numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.geometry.rigid import invert, transform_points
from stereo4d.network.completion import Completion
from stereo4d.network.completion_loss import CompletionLoss
from stereo4d.network.objective import Objective, WeightedSum
from stereo4d.training.invariances import InLog, ScaleInvariant, ScaleShiftInvariant, ShiftInvariant, TruthInLog
from stereo4d.training.losses import ConfidenceWeighted, MetricRegression, PointmapRegression, WithSky
from stereo4d.training.normalisations import (
    MeanDistance,
    MeanLogDistance,
    MeanRootDistance,
    MedianDistance,
    Normalisation,
    Unscaled,
    WarpedByLogDistance,
    in_log,
)
from stereo4d.training.regression import Regression
from stereo4d.types import PairPrediction
from tests.golden_numbers import load


@dataclass(frozen=True)
class Truth:
    pointmap0: Tensor
    pointmap1: Tensor
    valid0: Tensor
    valid1: Tensor
    metric: Tensor
    sky0: Tensor
    sky1: Tensor


WAYS: dict[str, Normalisation] = {
    "avg_dis": MeanDistance(),
    "median_dis": MedianDistance(),
    "sqrt_dis": MeanRootDistance(),
    "avg_log1p": MeanLogDistance(),
    "avg_warp-log1p": WarpedByLogDistance(),
}
RAW = PointmapRegression(Unscaled())
METRIC_WITHOUT_SKY = MetricRegression()
OBJECTIVES: dict[str, Objective] = {
    **{f"regr3d_{name}": PointmapRegression(way) for name, way in WAYS.items()},
    "regr3d_nonorm": RAW,
    "regr3d_avg_dis_gtscale": PointmapRegression(in_truth_unit=True),
    "regr3d_avg_dis_clip4": PointmapRegression(farthest=4.0),
    "conf_a0.2_regr3d": ConfidenceWeighted(),
    "conf_a1.0_regr3d": ConfidenceWeighted(alpha=1.0),
    "shiftinv": ShiftInvariant(),
    "shiftinv_gtscale": ShiftInvariant(PointmapRegression(in_truth_unit=True)),
    "scaleinv": ScaleInvariant(),
    "scaleinv_gtscale": ScaleInvariant(PointmapRegression(in_truth_unit=True), in_truth_unit=True),
    "scaleinv_nonorm": ScaleInvariant(RAW),
    "scaleshiftinv": ScaleShiftInvariant(),
    "scaleshiftinv_gtscale": ScaleShiftInvariant(in_truth_unit=True),
    "scaleshiftinv_nonorm": ScaleShiftInvariant(Unscaled()),
    "test_dust3r_512": ScaleShiftInvariant(in_truth_unit=True),
    "mast3r_regr3d_q_avg_dis_sky0": METRIC_WITHOUT_SKY,
    "mast3r_regr3d_q_avg_dis_gtscale_sky0": MetricRegression(in_truth_unit=True),
    "mast3r_conf_a0.2_q_avg_dis_sky2": ConfidenceWeighted(WithSky(MetricRegression(), 2.0)),
    "mast3r_conf_a0.2_q_avg_dis_sky2_log": ConfidenceWeighted(WithSky(InLog(MetricRegression()), 2.0)),
}


def golden(name: str) -> Tensor:
    return torch.from_numpy(load("losses")[name])


@pytest.fixture
def truth() -> Truth:
    to_camera0 = invert(golden("cam2world1"))
    return Truth(
        transform_points(to_camera0, golden("gt_pts1_world")),
        transform_points(to_camera0, golden("gt_pts2_world")),
        *(golden(name) for name in ("valid1", "valid2", "is_metric", "sky1", "sky2")),
    )


@pytest.fixture
def prediction() -> PairPrediction:
    names = ("pred_pts1", "conf1", "pred_pts2", "conf2")
    return PairPrediction(*(golden(name).clone().requires_grad_() for name in names))


def close(value: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(value.detach(), expected.to(value.dtype), rtol=rtol, atol=1e-7)


def learnt(prediction: PairPrediction) -> list[Tensor]:
    return [prediction.pointmap0, prediction.pointmap1, prediction.confidence0, prediction.confidence1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_equal_the_reference(name: str, prediction: PairPrediction, truth: Truth) -> None:
    value = OBJECTIVES[name](prediction, truth)
    close(value.total, golden(name))
    details = {key: key[-1] for key in load("losses") if key.startswith(f"{name}__detail_") and "pts3d" in key}
    assert len(details) == 2
    for key, view in details.items():  # the reference counts views from one
        close(value.parts[f"error{int(view) - 1}"], golden(key))


def test_every_stored_loss_of_pointmaps_is_compared() -> None:
    scalars = {name for name, value in load("losses").items() if value.shape == () and "__" not in name}
    elsewhere = {name for name in scalars if name.startswith(("allinvalid_", "croco_"))}
    assert scalars - elsewhere == set(OBJECTIVES)


@pytest.mark.parametrize("name", ["regr3d_avg_dis", "conf_a0.2_regr3d"])
def test_gradients_equal_the_reference(name: str, prediction: PairPrediction, truth: Truth) -> None:
    OBJECTIVES[name](prediction, truth).total.backward()
    close(prediction.pointmap0.grad, golden(f"{name}__grad_pred_pts1"))
    close(prediction.pointmap1.grad, golden(f"{name}__grad_pred_pts2"))
    if "conf" in name:
        close(prediction.confidence0.grad, golden(f"{name}__grad_conf1"))
        close(prediction.confidence1.grad, golden(f"{name}__grad_conf2"))


@pytest.mark.parametrize("name", WAYS)
def test_normalisation_factors_equal_the_reference(name: str, prediction: PairPrediction, truth: Truth) -> None:
    valid = (truth.valid0, truth.valid1)
    close(WAYS[name].factor((truth.pointmap0, truth.pointmap1), valid), golden(f"factor_gt_{name}"))
    close(WAYS[name].factor((prediction.pointmap0, prediction.pointmap1), valid), golden(f"factor_pred_{name}"))


@pytest.mark.parametrize("name", ["regr3d_avg_dis", "scaleshiftinv"])
def test_compared_points_equal_the_reference(name: str, prediction: PairPrediction, truth: Truth) -> None:
    regression = OBJECTIVES[name]
    assert isinstance(regression, Regression)
    found = regression.compared(prediction, truth)
    for view in (0, 1):
        valid = found.valid[view]
        close(found.points[view][valid], golden(f"inter_{name}__pred{view + 1}")[valid])
        close(found.truth[view][valid], golden(f"inter_{name}__gt{view + 1}")[valid])


@pytest.mark.parametrize(("normalise", "name"), [(False, "croco_mse"), (True, "croco_mse_norm")])
def test_the_completion_loss_equals_the_reference(normalise: bool, name: str) -> None:
    completion = Completion(golden("croco_pred"), golden("croco_mask"), golden("croco_target"), (32, 48))
    close(CompletionLoss(normalise=normalise)(completion), golden(name))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_finite_differences(name: str, prediction: PairPrediction, truth: Truth) -> None:
    exact = [value.detach().double().requires_grad_() for value in learnt(prediction)]
    wide = replace(truth, pointmap0=truth.pointmap0.double(), pointmap1=truth.pointmap1.double())

    def total(point: Tensor) -> Tensor:
        points0 = torch.cat([point[None, None, None], exact[0].flatten(0, 2)[1:, None, None]]).view_as(exact[0])
        return OBJECTIVES[name](PairPrediction(points0, exact[2], exact[1], exact[3]), wide).total

    at = exact[0][0, 0, 0].detach().clone().requires_grad_()
    # medians are constants by intent: whatever leans on them has no such gradient to compare
    if "inv" not in name and "median" not in name and "test" not in name:
        assert torch.autograd.gradcheck(total, at, eps=1e-6, atol=1e-6)
    total(at).backward()
    assert at.grad is not None
    assert at.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_valid_costs_nothing_and_can_still_be_differentiated(
    name: str, prediction: PairPrediction, truth: Truth
) -> None:
    nothing = torch.zeros_like(truth.valid0)
    empty = replace(truth, valid0=nothing, valid1=nothing, sky0=nothing, sky1=nothing)
    total = OBJECTIVES[name](prediction, empty).total
    assert float(total.detach()) == float(load("losses")["allinvalid_conf"]) == 0
    total.backward()
    assert not prediction.pointmap0.grad.any()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_invalid_truth_may_be_nan_without_harm(name: str, prediction: PairPrediction, truth: Truth) -> None:
    holes = torch.where(truth.valid0[..., None], truth.pointmap0, torch.nan)
    value = OBJECTIVES[name](prediction, replace(truth, pointmap0=holes))
    close(value.total, golden(name))
    value.total.backward()
    assert bool(prediction.pointmap0.grad.isfinite().all())


@pytest.mark.parametrize("way", [way for name, way in WAYS.items() if "log" not in name], ids=lambda way: str(way))
def test_a_regression_does_not_see_the_scale_of_a_prediction(
    way: Normalisation, prediction: PairPrediction, truth: Truth
) -> None:
    larger = replace(prediction, pointmap0=7 * prediction.pointmap0, pointmap1=7 * prediction.pointmap1)
    close(PointmapRegression(way)(larger, truth).total, PointmapRegression(way)(prediction, truth).total.detach())
    assert RAW(larger, truth).total > 1.5 * RAW(prediction, truth).total


def test_what_is_overlooked_costs_nothing(truth: Truth) -> None:
    """Each regression is at zero for the truth spoilt in the way that it overlooks, and for no other."""
    spoilt = {
        "shift": [points + torch.tensor([0, 0, 5.0]) for points in (truth.pointmap0, truth.pointmap1)],
        "scale": [3 * points for points in (truth.pointmap0, truth.pointmap1)],
        "both": [3 * points + torch.tensor([0, 0, 5.0]) for points in (truth.pointmap0, truth.pointmap1)],
    }
    sure = torch.ones_like(truth.pointmap0[..., 0])
    overlooks = {"shift": ShiftInvariant(RAW), "scale": ScaleInvariant(RAW), "both": ScaleShiftInvariant(Unscaled())}
    for kind, regression in overlooks.items():
        free = {
            name: float(regression(PairPrediction(points0, sure, points1, sure), truth).total) < 1e-4
            for name, (points0, points1) in spoilt.items()
        }
        expected = {name: name == kind or kind == "both" for name in spoilt}
        assert free == expected, f"{kind}-invariant"


def test_a_pair_in_metres_pays_for_a_wrong_scale_unless_it_reaches_too_far(truth: Truth) -> None:
    sure = torch.ones_like(truth.pointmap0[..., 0])
    double = PairPrediction(2 * truth.pointmap0, sure, 2 * truth.pointmap1, sure)
    nobody, everybody = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    reach = [
        float((truth.pointmap0[pair][truth.valid0[pair]]).norm(dim=-1).max()) for pair in range(3)
    ]  # sample 2 has nothing in view 1

    def error(metric: Tensor, largest: float | None) -> Tensor:
        return MetricRegression(largest_metric=largest).residuals(double, replace(truth, metric=metric)).error[0]

    def pays(metric: Tensor, largest: float | None) -> list[bool]:
        off = torch.where(truth.valid0, error(metric, largest), 0)
        return [bool(pair.max() > 0.1) for pair in off]

    assert pays(nobody, None) == [False] * 3
    assert pays(everybody, None) == [True] * 3
    assert pays(everybody, reach[2]) == [True, True, False]
    assert pays(everybody, 1.001 * reach[2]) == [True] * 3


def test_sky_learns_to_be_trusted_least_and_moves_no_point(prediction: PairPrediction, truth: Truth) -> None:
    sky = truth.sky0 & ~truth.valid0
    assert sky.any()
    ConfidenceWeighted(WithSky())(prediction, truth).total.backward()
    assert (prediction.confidence0.grad[sky] > 0).all()
    assert not prediction.pointmap0.grad[sky].any()
    counted = truth.valid0 | sky
    assert not prediction.confidence0.grad[~counted].any()


def test_sky_that_is_measured_is_a_surface_like_any_other(prediction: PairPrediction, truth: Truth) -> None:
    everything = torch.ones_like(truth.sky0)
    plain = MetricRegression().residuals(prediction, truth)
    found = WithSky().residuals(prediction, replace(truth, sky0=everything, sky1=everything))
    for view, valid in enumerate((truth.valid0, truth.valid1)):
        close(found.error[view][valid], plain.error[view][valid].detach())
        assert (found.error[view][~valid] == 2).all()
        assert found.valid[view].all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_point_in_the_camera_itself_has_finite_gradients(name: str, prediction: PairPrediction, truth: Truth) -> None:
    points = prediction.pointmap0.detach().clone()
    points[0, 0] = points[1, 1] = 0
    assert truth.valid0[0, 0].any()
    points.requires_grad_()
    OBJECTIVES[name](replace(prediction, pointmap0=points), truth).total.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_no_gradient_flows_through_a_median(prediction: PairPrediction, truth: Truth) -> None:
    factor = MedianDistance().factor((prediction.pointmap0, prediction.pointmap1), (truth.valid0, truth.valid1))
    assert not factor.requires_grad
    assert (
        MeanDistance().factor((prediction.pointmap0, prediction.pointmap1), (truth.valid0, truth.valid1)).requires_grad
    )


def test_a_prediction_of_next_to_no_size_is_not_blown_up_to_the_right_one(truth: Truth) -> None:
    sure = torch.ones_like(truth.pointmap0[..., 0])

    def loss(size: float) -> float:
        said = PairPrediction(size * truth.pointmap0, sure, size * truth.pointmap1, sure)
        return float(ScaleInvariant(RAW)(said, truth).total)

    assert loss(0.1) < 1e-4
    assert loss(1e-7) > 0.5


def test_truth_in_log_is_met_by_a_network_that_writes_log_points(truth: Truth) -> None:
    sure = torch.ones_like(truth.pointmap0[..., 0])
    written = PairPrediction(in_log(truth.pointmap0), sure, in_log(truth.pointmap1), sure)
    assert float(TruthInLog()(written, truth).total) < 1e-6
    assert float(TruthInLog(MetricRegression())(written, truth).total) < 1e-6
    assert float(PointmapRegression()(written, truth).total) > 0.05


def test_objectives_add_with_their_weights(prediction: PairPrediction, truth: Truth) -> None:
    both = ConfidenceWeighted() + 0.5 * ShiftInvariant() + 2.0 * RAW
    assert isinstance(both, WeightedSum)
    expected = golden("conf_a0.2_regr3d") + 0.5 * golden("shiftinv") + 2 * golden("regr3d_nonorm")
    value = both(prediction, truth)
    close(value.total, expected)
    names = ("error0", "error1")
    assert set(value.parts) == {
        *(*names, "confidence0", "confidence1"),
        *(f"term{number}_{name}" for number in (2, 3) for name in names),
    }
    close(value.parts["term2_error0"], golden("shiftinv__detail_Regr3D_ShiftInv_pts3d_1"))
    close(value.parts["error0"], golden("regr3d_avg_dis__detail_Regr3D_pts3d_1"))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ConfidenceWeighted(alpha=0.0), "alpha is 0.0; it must be above 0"),
        (lambda: PointmapRegression(farthest=-1.0), "farthest is -1.0; .*null for no limit"),
        (lambda: MetricRegression(largest_metric=0.0), "largest_metric is 0.0"),
        (lambda: WithSky(error=0.0), "error of the sky is 0.0.*leave WithSky out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build()
