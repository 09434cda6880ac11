"""What a head is trained for: the contract of objectives, which add up, and the scale that they share.

An objective compares what a network says of a batch of pairs with the truth. Objectives add: ``A() + 0.1 * B()``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from stereo4d.network.pooling import masked_mean as masked_mean  # part of the contract: how an objective pools pixels
from stereo4d.types import PairPrediction


class PairTruth(Protocol):
    """What an objective may ask of a batch of B pairs; data that lack a part fail where it is asked for."""

    @property
    def pointmap0(self) -> Tensor:
        """(B, H, W, 3) points of view 0's pixels at view 0's time, in view 0's camera."""

    @property
    def pointmap1(self) -> Tensor:
        """(B, H, W, 3) points of view 1's pixels at view 1's time, in view 0's camera."""

    @property
    def valid0(self) -> Tensor:
        """(B, H, W) bool: ``pointmap0`` has a measurement."""

    @property
    def valid1(self) -> Tensor:
        """(B, H, W) bool."""


class MetricTruth(PairTruth, Protocol):
    """Truth that knows which pairs are in metres."""

    @property
    def metric(self) -> Tensor:
        """(B,) bool: lengths are metres."""


class SkyTruth(PairTruth, Protocol):
    """Truth that knows the sky."""

    @property
    def sky0(self) -> Tensor:
        """(B, H, W) bool: the pixel is known to show the sky."""

    @property
    def sky1(self) -> Tensor:
        """(B, H, W) bool."""


class MatchTruth(Protocol):
    """Truth that knows where surfaces are seen in the other view."""

    @property
    def match0(self) -> Tensor:
        """(B, H, W, 2): where view 0's surface points are seen in view 1, in pixels (u, v); NaN where they are not."""

    @property
    def match1(self) -> Tensor:
        """(B, H, W, 2): where view 1's surface points are seen in view 0; NaN where they are not."""


class MotionTruth(PairTruth, Protocol):
    """Truth that knows how surfaces move: what ``stereo4d.types.PairPrediction`` says at Q query times."""

    @property
    def times(self) -> Tensor:
        """(B, Q) query times: 0 is the time of view 0, 1 that of view 1."""

    @property
    def motion0(self) -> Tensor:
        """(B, Q, H, W, 3) displacement of view 0's points from view 0's time to the query times, view 0's camera."""

    @property
    def motion1(self) -> Tensor:
        """(B, Q, H, W, 3) displacement of view 1's points from view 1's time, also in view 0's camera."""

    @property
    def motion_valid0(self) -> Tensor:
        """(B, Q, H, W) bool: ``motion0`` has a measurement."""

    @property
    def motion_valid1(self) -> Tensor:
        """(B, Q, H, W) bool."""

    @property
    def moving0(self) -> Tensor:
        """(B, H, W) bool: the surface moves on its own."""

    @property
    def moving1(self) -> Tensor:
        """(B, H, W) bool."""


@dataclass(frozen=True)
class LossValue:
    """A loss and the figures worth logging beside it."""

    total: Tensor
    """Scalar, to be minimised."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars by name."""


class Objective(ABC):
    """One term of what is minimised; terms add and take weights."""

    @abstractmethod
    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """The loss of a batch."""

    def __add__(self, other: Objective) -> Objective:
        """Both at once."""
        return WeightedSum(((1.0, self),)) + other

    def __rmul__(self, weight: float) -> Objective:
        """The same, weighted."""
        return WeightedSum(((weight, self),))


@dataclass(frozen=True)
class WeightedSum(Objective):
    """Several objectives with their weights."""

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """The weighted sum of the losses; figures are those of all terms, unweighted.

        A figure of a name that an earlier term has is called after its term: ``term2_error0``.
        """
        values = [(weight, term(prediction, truth)) for weight, term in self.terms]
        parts: dict[str, Tensor] = {}
        for number, (_, value) in enumerate(values, start=1):
            parts |= {f"term{number}_{name}" if name in parts else name: part for name, part in value.parts.items()}
        return LossValue(torch.stack([weight * value.total for weight, value in values]).sum(), parts)

    def __add__(self, other: Objective) -> Objective:
        """One sum of all terms."""
        return WeightedSum(self.terms + (other.terms if isinstance(other, WeightedSum) else ((1.0, other),)))

    def __rmul__(self, weight: float) -> Objective:
        """Every term weighted once more."""
        return WeightedSum(tuple((weight * own, term) for own, term in self.terms))


def mean_distance(pointmap0: Tensor, pointmap1: Tensor, valid0: Tensor, valid1: Tensor) -> Tensor:
    """(B,) mean distance of both views' valid points to camera 0: the scale by which a pair is normalised."""
    distance0 = torch.where(valid0, pointmap0.norm(dim=-1), 0)
    distance1 = torch.where(valid1, pointmap1.norm(dim=-1), 0)
    count = valid0.flatten(1).sum(1) + valid1.flatten(1).sum(1)
    total = distance0.flatten(1).sum(1) + distance1.flatten(1).sum(1)
    return (total / (count + 1e-8)).clamp(min=1e-8)
