"""Pointmaps against true ones: how both are brought to one scale, and how far they are apart then.

Sources: DUSt3R (Wang et al. 2024), section 3.2, and MASt3R (Leroy et al. 2024), section 3.1; the pooling of pixels over
the batch follows the released training: pairs with few valid pixels weigh less.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.objective import LossValue, MetricTruth, Objective, PairTruth
from stereo4d.network.pooling import masked_mean, own_mean
from stereo4d.training.normalisations import BothViews, MeanDistance, Normalisation
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class Compared:
    """Points of B pairs as they are compared; meaningless where not valid, but finite."""

    points: BothViews
    """(B, H, W, 3) predicted, in view 0's camera."""
    truth: BothViews
    """(B, H, W, 3) true, in view 0's camera; zero where the data have none."""
    valid: BothViews
    """(B, H, W) bool."""


@dataclass(frozen=True)
class Residuals:
    """What every pixel of B pairs is off."""

    error: BothViews
    """(B, H, W), >= 0; meaningless where not valid."""
    valid: BothViews
    """(B, H, W) bool: the pixel counts."""


class PixelErrors(ABC):
    """Says how far every pixel of a prediction is off; a weighting makes a loss of it."""

    @abstractmethod
    def residuals(self, prediction: PairPrediction, truth: PairTruth) -> Residuals:
        """Errors of both views, before any weighting or pooling."""


class Regression(PixelErrors, Objective):
    """Euclidean distance of predicted to true points; derived classes say in which unit."""

    @abstractmethod
    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """The points whose distance is the error."""

    def residuals(self, prediction: PairPrediction, truth: PairTruth) -> Residuals:
        """See ``PixelErrors``."""
        found = self.compared(prediction, truth)
        error0, error1 = ((ours - true).norm(dim=-1) for ours, true in zip(found.points, found.truth, strict=True))
        return Residuals((error0, error1), found.valid)

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """Mean error of view 0 plus that of view 1, each over all valid pixels of the batch; 0 where there are none."""
        found = self.residuals(prediction, truth)
        views = tuple(zip(found.error, found.valid, strict=True))
        parts = {f"error{view}": own_mean(*errors) for view, errors in enumerate(views)}
        return LossValue(masked_mean(*views[0]) + masked_mean(*views[1]), parts)


@dataclass(frozen=True)
class PointmapRegression(Regression):
    """Predictions divided by their own scale against truth divided by its own."""

    normalise: Normalisation = field(default_factory=MeanDistance)
    """How scale is measured."""
    in_truth_unit: bool = False
    """Leave the truth as it is. Predictions are divided all the same, as in the released training, where this only
    serves as the first step of tests that bring predictions to the truth's scale: ``ScaleInvariant``."""
    farthest: float | None = None
    """True points beyond this distance from camera 0 do not count, in the unit of the data."""

    def __post_init__(self) -> None:
        _check_distance("farthest", self.farthest)

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        known, valid = known_points(truth, self.farthest)
        true_factor = self._truth_factor(known, valid)
        points = (prediction.pointmap0, prediction.pointmap1)
        factor = self._factor(points, true_factor, valid, truth)
        return Compared(self._over(points, factor), self._over(known, true_factor), valid)

    def _factor(self, points: BothViews, true_factor: Tensor, valid: BothViews, truth: PairTruth) -> Tensor:
        """(B,) what predicted points are divided by."""
        return self.normalise.factor(points, valid)

    def _over(self, points: BothViews, factor: Tensor) -> BothViews:
        divisor = factor[:, None, None, None]
        return self.normalise.warped(points[0]) / divisor, self.normalise.warped(points[1]) / divisor

    def _truth_factor(self, known: BothViews, valid: BothViews) -> Tensor:
        return known[0].new_ones(len(known[0])) if self.in_truth_unit else self.normalise.factor(known, valid)


@dataclass(frozen=True)
class MetricRegression(PointmapRegression):
    """As ``PointmapRegression``, but pairs in metres are to be predicted in metres (MASt3R, Leroy et al. 2024).

    Their predictions are divided by the *truth's* scale, so that a wrong scale costs; other pairs are free of scale.
    """

    largest_metric: float | None = None
    """A pair in metres whose farthest true point lies at this distance or beyond is taken as one of unknown scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_distance("largest_metric", self.largest_metric)

    def _factor(self, points: BothViews, true_factor: Tensor, valid: BothViews, truth: MetricTruth) -> Tensor:  # type: ignore[override]
        metric = truth.metric & self._near(truth, valid)
        return torch.where(metric, true_factor, self.normalise.factor(points, valid))

    def _near(self, truth: MetricTruth, valid: BothViews) -> Tensor:
        """(B,) bool: no true point is too far for the pair to be learnt in metres."""
        if self.largest_metric is None:
            return torch.ones_like(truth.metric)
        known, _ = known_points(truth)
        reach = [
            torch.where(here, points.norm(dim=-1), 0).flatten(1).amax(1)
            for points, here in zip(known, valid, strict=True)
        ]
        return torch.maximum(*reach) < self.largest_metric


def known_points(truth: PairTruth, farthest: float | None = None) -> tuple[BothViews, BothViews]:
    """True points (B, H, W, 3) of both views, zero where there are none, and where they are valid, (B, H, W) bool.

    Args:
        truth: of B pairs.
        farthest: points beyond this distance from camera 0 are not valid.
    """
    valid = (truth.valid0, truth.valid1)
    # Invalid truth may be NaN: zero it first, so that no gradient passes through it.
    known0 = torch.where(valid[0][..., None], truth.pointmap0, 0)
    known1 = torch.where(valid[1][..., None], truth.pointmap1, 0)
    if farthest is not None:
        valid = (valid[0] & (known0.norm(dim=-1) <= farthest), valid[1] & (known1.norm(dim=-1) <= farthest))
    return (known0, known1), valid


def _check_distance(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{name} is {value}; it is a distance and must be above 0, or null for no limit")
