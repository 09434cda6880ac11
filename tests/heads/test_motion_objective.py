"""The motion loss and the motion errors equal stored numbers; re-weighting keeps moving pixels in the game."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from stereo4d_heads.motion import MotionHead
from stereo4d_heads.motion_objective import (
    ByConfidence,
    DisplacementRegression,
    MotionRegression,
    MovingCounts,
    Weighting,
)
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.geometry.scene_flow import motion_errors, pair_scale
from stereo4d.network.head import BackboneDims
from stereo4d.network.objective import Objective
from stereo4d.types import PairPrediction
from tests.golden_numbers import load

NARROW = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}


def golden(name: str) -> Tensor:
    return torch.from_numpy(load("dyna")[name])


def one_time(name: str) -> Tensor:
    return golden(name)[:, None]


@pytest.fixture
def truth() -> SimpleNamespace:
    return SimpleNamespace(
        pointmap0=golden("loss_gt_pts0"),
        pointmap1=golden("loss_gt_pts1"),
        valid0=golden("loss_valid0"),
        valid1=golden("loss_valid1"),
        motion0=one_time("loss_gt_mot0"),
        motion1=one_time("loss_gt_mot1"),
        motion_valid0=one_time("loss_mvalid0"),
        motion_valid1=one_time("loss_mvalid1"),
        moving0=torch.arange(42).reshape(1, 6, 7).expand(2, -1, -1) % 3 == 0,
        moving1=torch.arange(42).reshape(1, 6, 7).expand(2, -1, -1) % 4 == 0,
        times=torch.tensor([[0.5], [0.25]]),
    )


@pytest.fixture
def prediction() -> PairPrediction:
    maps = {f"displacement{view}": one_time(f"loss_pr_mot{view}").clone().requires_grad_() for view in (0, 1)}
    maps |= {f"confidence{view}": one_time(f"loss_conf_m{view}").clone().requires_grad_() for view in (0, 1)}
    return PairPrediction(
        golden("loss_pr_pts0").clone().requires_grad_(),
        golden("loss_conf_p0"),
        golden("loss_pr_pts1").clone().requires_grad_(),
        golden("loss_conf_p1"),
        {"motion": maps},
    )


def test_the_loss_equals_the_stored_one(truth: SimpleNamespace, prediction: PairPrediction) -> None:
    found = MotionRegression()(prediction, truth)
    expected = golden("loss_motion0_conf") + golden("loss_motion1_conf")
    torch.testing.assert_close(found.total, expected, rtol=1e-9, atol=1e-9)


def test_displacements_alone_leave_the_points_alone(truth: SimpleNamespace, prediction: PairPrediction) -> None:
    found = DisplacementRegression()(prediction, truth)
    found.total.backward()
    assert prediction.pointmap0.grad is None
    scale, true_scale = golden("loss_z_pred"), golden("loss_z_gt")
    valid = golden("loss_mvalid0") & golden("loss_valid0")
    residual = golden("loss_pr_mot0") / scale.view(2, 1, 1, 1) - golden("loss_gt_mot0") / true_scale.view(2, 1, 1, 1)
    moving = valid & truth.moving0
    torch.testing.assert_close(found.parts["motion0_moving_error"], residual.norm(dim=-1)[moving].mean())


def test_soft_distances_are_squares_near_zero_and_distances_far_away() -> None:
    soft, plain = DisplacementRegression(softness=0.1), DisplacementRegression()
    near, far = torch.tensor([[1e-3, 0, 0]]), torch.tensor([[0.0, 30.0, 40.0]])
    torch.testing.assert_close(soft._soft(near), near.norm(dim=-1).square() / 0.2, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(soft._soft(far), plain._soft(far) - 0.1, rtol=1e-4, atol=1e-4)


def test_where_most_pixels_stand_still_only_squares_lead_away_from_no_motion() -> None:
    """Two pixels stand still, one moves by 0.3; a head that cannot tell them apart says one motion for all."""
    motion = torch.tensor([[0.0, 0, 0], [0.0, 0, 0], [0.3, 0, 0]])

    def pull(objective: DisplacementRegression) -> float:
        said = torch.full((1, 3), 1e-3).mul(torch.tensor([1.0, 0, 0])).requires_grad_()
        objective._soft(said - motion).sum().backward()
        return said.grad[0, 0].item()

    assert pull(DisplacementRegression()) > 0.9  # back to no motion
    assert pull(DisplacementRegression(softness=0.3)) < -0.5  # on to the mean


def test_wrong_points_do_not_disturb_the_loss_of_displacements(
    truth: SimpleNamespace, prediction: PairPrediction
) -> None:
    def figures(objective: Objective, shift: float) -> Tensor:
        moved = replace(prediction, pointmap0=-prediction.pointmap0 if shift else prediction.pointmap0)
        return objective(moved, truth).parts["motion0_moving_error"]

    assert figures(DisplacementRegression(), 1) == figures(DisplacementRegression(), 0)
    assert figures(MotionRegression(), 1) > 5 * figures(MotionRegression(), 0)


def test_the_loss_moves_the_points_too_unless_they_are_detached(
    truth: SimpleNamespace, prediction: PairPrediction
) -> None:
    MotionRegression(detach_points=True)(prediction, truth).total.backward()
    assert prediction.pointmap0.grad is None
    assert prediction.extras["motion"]["displacement0"].grad.abs().sum() > 0
    MotionRegression()(prediction, truth).total.backward()
    assert prediction.pointmap0.grad.abs().sum() > 0
    assert prediction.pointmap1.grad.abs().sum() > 0


def test_what_has_no_truth_has_no_gradient(truth: SimpleNamespace, prediction: PairPrediction) -> None:
    truth.motion0 = torch.where(truth.motion_valid0[..., None], truth.motion0, torch.nan)
    truth.pointmap0 = torch.where(truth.valid0[..., None], truth.pointmap0, torch.nan)
    found = MotionRegression()(prediction, truth)
    found.total.backward()
    gradient = prediction.extras["motion"]["displacement0"].grad
    used = truth.motion_valid0 & truth.valid0[:, None]
    assert gradient.isfinite().all()
    assert (gradient[~used] == 0).all()
    assert (gradient[used].norm(dim=-1) > 0).all()


@pytest.mark.parametrize(("weighting", "pays"), [(ByConfidence(), True), (MovingCounts(), False)])
def test_low_confidence_buys_moving_pixels_off_only_where_confidence_alone_weighs(
    weighting: Weighting, pays: bool
) -> None:
    residual = torch.full((1, 1, 1, 2), 3.0)
    moving = torch.tensor([[[[True, False]]]])
    valid = torch.ones_like(moving)
    confidence = torch.tensor([[[[1.0, 8.0]]]])

    def pull(low: float) -> float:
        """Gradient of the loss by the moving pixel's residual when its confidence is this."""
        held = residual.clone().requires_grad_()
        given = confidence.clone()
        given[..., 0] = low
        weighting(held, given, valid, moving).backward()
        return held.grad[0, 0, 0, 0].item()

    assert (pull(1.0) < 0.2 * pull(8.0)) == pays
    if not pays:
        assert pull(1.0) == pytest.approx(8.0 / 2)  # as the most confident static pixel of the two


def test_confidence_of_moving_pixels_still_tells_their_error() -> None:
    residual = torch.tensor([[[[0.1, 2.0, 0.1]]]])
    moving = torch.tensor([[[[True, True, False]]]])
    confidence = torch.full_like(residual, 2.0).requires_grad_()
    MovingCounts()(residual, confidence, torch.ones_like(moving), moving).backward()
    right, wrong, _ = confidence.grad.flatten()
    # minimised at C = alpha / residual: the right one is at it, the wrong one is asked to fall
    torch.testing.assert_close(right, torch.tensor(0.0))
    assert wrong > 0.5


def test_one_very_sure_static_pixel_does_not_outweigh_everything() -> None:
    residual = torch.tensor([[[[0.5, 1e-9]]]]).requires_grad_()
    moving = torch.tensor([[[[True, False]]]])
    sure = torch.tensor([[[[2.0, 1e6]]]])
    MovingCounts()(residual, sure, torch.ones_like(moving), moving).backward()
    assert residual.grad[0, 0, 0, 0].item() == pytest.approx(20 / 2)


def test_a_prediction_at_other_times_is_refused(truth: SimpleNamespace, prediction: PairPrediction) -> None:
    truth.motion0 = truth.motion0.expand(-1, 2, -1, -1, -1)
    with pytest.raises(ShapeError, match=r"not at the truth's query times"):
        MotionRegression()(prediction, truth)


def test_motion_errors_equal_the_stored_ones(truth: SimpleNamespace, prediction: PairPrediction) -> None:
    points = (prediction.pointmap0, prediction.pointmap1)
    scale = pair_scale(points, (truth.pointmap0, truth.pointmap1), (truth.valid0, truth.valid1))
    torch.testing.assert_close(scale.detach(), golden("metric_scale"))
    maps = prediction.extras["motion"]
    found = motion_errors(
        torch.stack([maps["displacement0"], maps["displacement1"]], 1),
        torch.stack([truth.motion0, truth.motion1], 1),
        torch.stack([truth.motion_valid0 & truth.valid0[:, None], truth.motion_valid1 & truth.valid1[:, None]], 1),
        scale,
    )
    torch.testing.assert_close(found.epe3d.detach(), golden("metric_epe3d"))
    torch.testing.assert_close(100 * found.delta_near, golden("metric_d05"))
    torch.testing.assert_close(100 * found.delta_far, golden("metric_d10"))


def test_a_pair_without_anything_that_moves_has_no_error_of_moving_pixels(
    truth: SimpleNamespace, prediction: PairPrediction
) -> None:
    truth.moving0 = truth.moving0.clone()
    truth.moving1 = truth.moving1.clone()
    truth.moving0[0] = truth.moving1[0] = False
    head = MotionHead(BackboneDims(16, 8, 8, 4), **NARROW)  # type: ignore[arg-type]
    figures = head.measure("motion", prediction, truth)
    assert figures["epe3d_moving"].isnan().tolist() == [True, False]
    assert figures["epe3d_all_zero_motion"].isfinite().all()
    torch.testing.assert_close(figures["epe3d_all"].detach(), golden("metric_epe3d"))
