"""By what pointmaps are divided before they are compared: one small class per way.

Source: DUSt3R (Wang et al. 2024), equation 3, and what the released training offers beside it. A factor is that of a
pair, from both views' points together; it is never below 1e-8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from stereo4d.network.objective import mean_distance

BothViews: TypeAlias = tuple[Tensor, Tensor]
"""A map of view 0 and one of view 1."""


class Normalisation(ABC):
    """How the scale of a pair's pointmaps is measured."""

    @abstractmethod
    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """What to divide the points by.

        Args:
            points: (B, H, W, 3) each, finite, in view 0's camera.
            valid: (B, H, W) bool each, where the *truth* has a measurement, also for predicted points.

        Returns:
            (B,), >= 1e-8.
        """

    def warped(self, points: Tensor) -> Tensor:
        """The points that are divided by the factor of the original ones; as they are, unless a way says otherwise."""
        return points


@dataclass(frozen=True)
class Unscaled(Normalisation):
    """Nothing is divided: for data and networks in one unit, such as metres."""

    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """See ``Normalisation``: ones."""
        return points[0].new_ones(len(points[0]))


@dataclass(frozen=True)
class MeanDistance(Normalisation):
    """By the mean distance to camera 0: the family's way."""

    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """See ``Normalisation``."""
        return mean_distance(*points, *valid)


@dataclass(frozen=True)
class MeanLogDistance(Normalisation):
    """By the mean of log(1 + distance): far points weigh less, and the result is not free of scale."""

    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """See ``Normalisation``."""
        return _mean(_distances(points).log1p(), _together(valid)).clamp(min=1e-8)


@dataclass(frozen=True)
class WarpedByLogDistance(MeanLogDistance):
    """Points are first moved along their rays to log(1 + distance), then divided by the mean of that."""

    def warped(self, points: Tensor) -> Tensor:
        """See ``Normalisation``."""
        return in_log(points)


@dataclass(frozen=True)
class MedianDistance(Normalisation):
    """By the lower median of distances, through which no gradient flows."""

    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """See ``Normalisation``."""
        distances = torch.where(_together(valid), _distances(points), torch.nan).detach()
        # a pair without any valid point has no median, and nothing to divide
        return distances.nanmedian(dim=1).values.nan_to_num(nan=1.0).clamp(min=1e-8)


@dataclass(frozen=True)
class MeanRootDistance(Normalisation):
    """By the squared mean of square roots of distances: between mean and median."""

    def factor(self, points: BothViews, valid: BothViews) -> Tensor:
        """See ``Normalisation``."""
        counted = _together(valid)
        # the slope of a root has no end at zero, and where() passes its product with zero on as NaN
        distances = torch.where(counted, _distances(points), 1).clamp(min=1e-12)
        return _mean(distances.sqrt(), counted).square().clamp(min=1e-8)


def in_log(points: Tensor) -> Tensor:
    """(..., 3) points moved along their rays from distance d to log(1 + d)."""
    distance = points.norm(dim=-1, keepdim=True)
    return points * (distance.log1p() / distance.clamp(min=1e-8))


def _together(maps: BothViews) -> Tensor:
    """(B, P) pixels of both views."""
    return torch.cat([maps[0].flatten(1), maps[1].flatten(1)], dim=1)


def _distances(points: BothViews) -> Tensor:
    return _together((points[0].norm(dim=-1), points[1].norm(dim=-1)))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """(B,) means over the counted of (B, P) values."""
    return torch.where(counted, values, 0).sum(1) / (counted.sum(1) + 1e-8)
