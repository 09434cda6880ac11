"""Regressions that overlook what they are not about: where the scene lies in depth, its scale, or how far is far.

Each wraps another regression and takes its points as that has prepared them, by default divided by their mean distance.
Medians are lower ones and carry no gradient. Unlike the released training's classes, every one of them also takes a
regression with a limit of distance, and none changes the network's output in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stereo4d.network.objective import PairTruth
from stereo4d.training.normalisations import BothViews, MeanDistance, Normalisation, in_log
from stereo4d.training.regression import Compared, PointmapRegression, Regression, known_points
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class ShiftInvariant(Regression):
    """Overlooks where a pair's points lie in depth: both sides are compared less their median depth."""

    regression: Regression = field(default_factory=PointmapRegression)

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        found = self.regression.compared(prediction, truth)
        points, known = (_less_median_depth(side, found.valid) for side in (found.points, found.truth))
        return replace(found, points=points, truth=known)


@dataclass(frozen=True)
class ScaleInvariant(Regression):
    """Overlooks scale, measured as the median distance to the median point of a pair."""

    regression: Regression = field(default_factory=PointmapRegression)
    in_truth_unit: bool = False
    """Bring predictions to the truth's scale, so that errors are in its unit; otherwise both have scale 1.

    The truth has a unit only where ``regression`` leaves it one: with its own ``in_truth_unit``.
    """

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        found = self.regression.compared(prediction, truth)
        # a prediction of next to no size must not become a prediction of the right one by division
        scale = _spread(found.points, found.valid).clamp(1e-3, 1e3)
        true_scale = _spread(found.truth, found.valid)
        if self.in_truth_unit:
            return replace(found, points=_times(found.points, true_scale / scale))
        # a truth of one single point has no size
        size = true_scale.clamp(min=1e-8)
        return replace(found, points=_times(found.points, 1 / scale), truth=_times(found.truth, 1 / size))


@dataclass(frozen=True)
class ScaleShiftInvariant(Regression):
    """Overlooks depth of the median point and, after that, scale: what published networks are tested by."""

    normalise: Normalisation = field(default_factory=MeanDistance)
    """Of what the two steps are applied to."""
    in_truth_unit: bool = False
    """Errors are in the truth's unit, as published figures are."""
    farthest: float | None = None
    """As for ``PointmapRegression``."""

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        plain = PointmapRegression(self.normalise, self.in_truth_unit, self.farthest)
        return ScaleInvariant(ShiftInvariant(plain), self.in_truth_unit).compared(prediction, truth)


@dataclass(frozen=True)
class InLog(Regression):
    """Compares points that are moved along their rays from distance d to log(1 + d): far errors weigh less."""

    regression: Regression = field(default_factory=PointmapRegression)

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        found = self.regression.compared(prediction, truth)
        points, known = ((in_log(side[0]), in_log(side[1])) for side in (found.points, found.truth))
        return replace(found, points=points, truth=known)


@dataclass(frozen=True)
class TruthInLog(Regression):
    """For networks that write points moved to log(1 + d): the truth is moved there first, and normalised after that."""

    regression: Regression = field(default_factory=PointmapRegression)

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        (known0, known1), valid = known_points(truth)
        metric = getattr(truth, "metric", torch.zeros(len(known0), dtype=torch.bool, device=known0.device))
        return self.regression.compared(prediction, _LogTruth(in_log(known0), in_log(known1), *valid, metric))


@dataclass(frozen=True)
class _LogTruth:
    """Truth in logarithmic space."""

    pointmap0: Tensor
    pointmap1: Tensor
    valid0: Tensor
    valid1: Tensor
    metric: Tensor


def _less_median_depth(points: BothViews, valid: BothViews) -> BothViews:
    depths = _flat(points, valid)[..., 2]
    shift = torch.zeros_like(points[0][:, :1, :1])  # (B, 1, 1, 3)
    shift[..., 2] = _median(depths)[:, None, None]
    return points[0] - shift, points[1] - shift


def _spread(points: BothViews, valid: BothViews) -> Tensor:
    """(B,) median distance to the median point, without gradient; 1 where nothing is valid."""
    flat = _flat(points, valid)
    middle = flat.nanmedian(dim=1, keepdim=True).values
    return _median((flat - middle).norm(dim=-1), nothing=1.0)


def _flat(points: BothViews, valid: BothViews) -> Tensor:
    """(B, P, 3) points of both views without gradient, NaN where not valid."""
    marked = [
        torch.where(here[..., None], side.detach(), torch.nan).flatten(1, 2)
        for side, here in zip(points, valid, strict=True)
    ]
    return torch.cat(marked, dim=1)


def _median(values: Tensor, nothing: float = 0.0) -> Tensor:
    """(B,) lower medians of (B, P) values that are not NaN."""
    return values.nanmedian(dim=1).values.nan_to_num(nan=nothing)


def _times(points: BothViews, factor: Tensor) -> BothViews:
    each = factor[:, None, None, None]
    return points[0] * each, points[1] * each
