"""Regressions up to the one scale that fits best: by least squares, by the median of ratios, or by least distances.

Unlike the sizes of ``stereo4d.training.invariances``, which are measured on either side alone, a fit compares the two
sides point by point. No gradient flows through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.objective import PairTruth
from stereo4d.training.normalisations import Unscaled
from stereo4d.training.regression import Compared, PointmapRegression, Regression
from stereo4d.types import PairPrediction


class ScaleFit(ABC):
    """Finds by what to multiply the truth of a pair so that it lies at the predictions."""

    def __call__(self, compared: Compared) -> Tensor:
        """(B,) scales, both views together, without gradient; 1 for a pair without any valid point."""
        valid = torch.cat([view.flatten(1) for view in compared.valid], dim=1)
        points, truth = (
            torch.where(valid[..., None], torch.cat([view.detach().flatten(1, 2) for view in side], dim=1), 0)
            for side in (compared.points, compared.truth)
        )
        return torch.where(valid.any(1), self.fit(points, truth, valid), 1)

    @abstractmethod
    def fit(self, points: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """(B,) scales of (B, P, 3) points and truth, both zero where (B, P) ``valid`` does not hold."""


@dataclass(frozen=True)
class LeastSquares(ScaleFit):
    """The sum of squared distances is least."""

    def fit(self, points: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """See ``ScaleFit``."""
        return _weighted(points, truth, valid.to(points.dtype))


@dataclass(frozen=True)
class MedianRatio(ScaleFit):
    """The lower median of every point's own best scale."""

    def fit(self, points: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """See ``ScaleFit``."""
        own = (points * truth).sum(-1) / truth.square().sum(-1)  # NaN without a truth, as in the camera itself
        return torch.where(valid, own, torch.nan).nanmedian(dim=1).values.nan_to_num(nan=1.0)


@dataclass(frozen=True)
class LeastDistances(ScaleFit):
    """The sum of distances, not squared, is least: few wrong points do little harm."""

    rounds: int = 10
    """Of reweighting (Weiszfeld 1937), from least squares; >= 1."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"rounds is {self.rounds}; at least 1 must be made, or take LeastSquares")

    def fit(self, points: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """See ``ScaleFit``."""
        scale = _weighted(points, truth, valid.to(points.dtype))
        for _ in range(self.rounds):
            distance = (points - scale[:, None, None] * truth).norm(dim=-1)
            scale = _weighted(points, truth, valid / distance.clamp(min=1e-8))
        return scale


def _plain() -> Regression:
    return PointmapRegression(Unscaled())


@dataclass(frozen=True)
class ScaleFitted(Regression):
    """Compares predictions, divided by the scale that fits best, with the truth, in whose unit errors are."""

    fit: ScaleFit = LeastDistances()
    regression: Regression = field(default_factory=_plain)
    """Whose points are compared; by default as they come."""

    def compared(self, prediction: PairPrediction, truth: PairTruth) -> Compared:
        """See ``Regression``."""
        found = self.regression.compared(prediction, truth)
        # a prediction of next to no size, or inside out, must not become a right one by division
        scale = self.fit(found).clamp(1e-3, 1e3)[:, None, None, None]
        return replace(found, points=(found.points[0] / scale, found.points[1] / scale))


def _weighted(points: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B,) scales of least weighted squares; (B, P) weights."""
    above, below = (weight * (points * truth).sum(-1)).sum(1), (weight * truth.square().sum(-1)).sum(1)
    return torch.where(below > 0, above / below.clamp(min=1e-30), 1)
