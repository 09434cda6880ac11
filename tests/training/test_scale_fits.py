"""Scales that fit predictions to the truth equal the stored ones, and a regression overlooks them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.geometry.rigid import invert, transform_points
from stereo4d.training.normalisations import Unscaled
from stereo4d.training.regression import Compared, PointmapRegression
from stereo4d.training.scale_fits import LeastDistances, LeastSquares, MedianRatio, ScaleFit, ScaleFitted
from stereo4d.types import PairPrediction
from tests.golden_numbers import load

FITS: dict[str, ScaleFit] = {
    "avg": LeastSquares(),
    "median": MedianRatio(),
    "weiszfeld_stop_grad": LeastDistances(),
}


def golden(name: str) -> Tensor:
    return torch.from_numpy(load("losses")[name])


@pytest.fixture
def compared() -> Compared:
    to_camera0 = invert(golden("cam2world1"))
    truth = tuple(transform_points(to_camera0, golden(f"gt_pts{view}_world")) for view in (1, 2))
    points = (golden("pred_pts1"), golden("pred_pts2"))
    return Compared(points, (truth[0], truth[1]), (golden("valid1"), golden("valid2")))


@pytest.mark.parametrize("name", FITS)
def test_fitted_scales_equal_the_reference(name: str, compared: Compared) -> None:
    torch.testing.assert_close(FITS[name](compared), golden(f"optscale_{name}"), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_finds_the_scale_of_a_right_prediction_and_one_where_there_is_nothing(
    name: str, compared: Compared
) -> None:
    right = replace(compared, points=(3 * compared.truth[0], 3 * compared.truth[1]))
    torch.testing.assert_close(FITS[name](right), torch.full((3,), 3.0))
    nothing = torch.zeros_like(compared.valid[0])
    assert FITS[name](replace(right, valid=(nothing, nothing))).tolist() == [1, 1, 1]


def test_few_wrong_points_harm_squares_most(compared: Compared) -> None:
    points = (3 * compared.truth[0], 3 * compared.truth[1])
    points[0][:, :1] *= 20
    spoilt = replace(compared, points=points)
    off = {name: float((fit(spoilt) - 3).abs().max()) for name, fit in FITS.items()}
    assert off["avg"] > 3
    assert off["median"] < 0.01
    assert off["weiszfeld_stop_grad"] < 0.5


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_a_fitted_regression_costs_nothing_for_another_scale_but_for_the_opposite(
    fit: ScaleFit, compared: Compared
) -> None:
    class Truth:
        pointmap0, pointmap1 = compared.truth
        valid0, valid1 = compared.valid

    sure = torch.ones_like(compared.truth[0][..., 0])

    def loss(factor: float) -> Tensor:
        said = [(factor * side).requires_grad_() for side in compared.truth]
        total = ScaleFitted(fit)(PairPrediction(said[0], sure, said[1], sure), Truth()).total  # type: ignore[arg-type]
        total.backward()
        assert said[0].grad is not None
        assert said[0].grad.isfinite().all()
        return total.detach()

    assert loss(5.0) < 1e-4
    assert loss(0.0) > 1
    assert loss(-1.0) > 1
    assert ScaleFitted(fit).regression == PointmapRegression(Unscaled())


def test_a_fit_without_rounds_is_refused() -> None:
    with pytest.raises(UsageError, match="rounds is 0"):
        LeastDistances(0)
