"""What motion heads are trained for: where points are at the query times (DynaDUSt3R, Jin et al. 2025, section 4).

Residuals are distances of positions *after* motion, divided by the scale of the pointmaps. How a residual is weighted
is a class of its own: by confidence alone, moving pixels come out with low confidence instead of right motion (observed
by St4RTrack, Feng et al. 2025).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.network.objective import LossValue, MotionTruth, Objective, mean_distance
from stereo4d.network.pooling import masked_mean, own_mean, pooled_max
from stereo4d.types import PairPrediction


class Weighting(ABC):
    """Turns residuals into a loss with the help of the predicted confidence."""

    @abstractmethod
    def __call__(self, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Tensor:
        """The loss of one view.

        Args:
            residual: (B, Q, H, W), >= 0.
            confidence: (B, Q, H, W), > 1.
            valid: (B, Q, H, W) bool.
            moving: (B, 1, H, W) bool.

        Returns:
            A scalar.
        """


@dataclass(frozen=True)
class ByConfidence(Weighting):
    """``C * residual - alpha * log C``, as for pointmaps."""

    alpha: float = 0.2
    """Reward for confidence; > 0."""

    def __call__(self, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Tensor:
        """See ``Weighting``."""
        return masked_mean(confidence * residual - self.alpha * confidence.log(), valid)


@dataclass(frozen=True)
class MovingCounts(Weighting):
    """As ``ByConfidence`` where nothing moves; moving pixels weigh as the most confident static ones do.

    So a low confidence does not buy moving pixels off.
    """

    alpha: float = 0.2
    """Reward for confidence; > 0."""
    factor: float = 1.0
    """Weight of moving pixels, as a multiple of the largest confidence of static ones."""
    limit: float = 20.0
    """That confidence counts up to here: it has no end where a static pixel's motion is exactly nothing."""

    def __call__(self, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Tensor:
        """See ``Weighting``."""
        static = valid & ~moving
        largest = pooled_max(torch.where(static, confidence, 1)).clamp(max=self.limit)
        by_confidence = confidence * residual - self.alpha * confidence.log()
        # confidence of moving pixels learns too, but from their residual alone, which it cannot make smaller
        fair = self.factor * largest * residual + confidence * residual.detach() - self.alpha * confidence.log()
        return masked_mean(torch.where(moving, fair, by_confidence), valid)


@dataclass(frozen=True)
class MovingApart(Weighting):
    """Moving pixels count as much as all static ones together, whatever the confidence, which learns from residuals.

    For networks that learn motion from little: where nearly all pixels rest, and are soon known to, confidence makes
    every doubt about them dearer than all motion is worth.
    """

    alpha: float = 0.2
    """Reward for confidence; > 0."""
    floor: float = 0.01
    """Residuals are at least this large to confidence, which has no end where a static pixel's motion is exactly none:
    it settles at alpha / floor, and one moving pixel taken for static does not outweigh all others."""
    weight: float = 20.0
    """Of residuals: motions are some hundredths of the mean distance, and what pointmaps teach must not drown them."""

    def __call__(self, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Tensor:
        """See ``Weighting``."""
        found = residual.detach().clamp(min=self.floor)
        apart = masked_mean(residual, valid & moving) + masked_mean(residual, valid & ~moving)
        return self.weight * apart + masked_mean(confidence * found - self.alpha * confidence.log(), valid)


class _OfMotion(Objective):
    """What objectives of motion have in common: residuals of both views, weighted."""

    name: str
    weighting: Weighting

    @abstractmethod
    def residuals(self, prediction: PairPrediction, truth: MotionTruth) -> tuple[Tensor, Tensor]:
        """(B, Q, H, W) of each view; meaningless where the truth is not valid."""

    def __call__(self, prediction: PairPrediction, truth: MotionTruth) -> LossValue:  # type: ignore[override]
        """The loss over both views.

        Raises:
            ShapeError: the prediction is not at the truth's query times.
        """
        maps = prediction.extras[self.name]
        for view, motion in enumerate((truth.motion0, truth.motion1)):
            if maps[f"displacement{view}"].shape != motion.shape:
                raise ShapeError(
                    f"displacement{view} {tuple(maps[f'displacement{view}'].shape)} is not at the truth's query times "
                    f"{tuple(motion.shape)}; predict with times=truth.times"
                )
        residuals = self.residuals(prediction, truth)
        total = torch.zeros((), device=residuals[0].device)
        parts: dict[str, Tensor] = {}
        views = ((truth.motion_valid0, truth.valid0, truth.moving0), (truth.motion_valid1, truth.valid1, truth.moving1))
        for view, (known, measured, moving) in enumerate(views):
            valid, there = known & measured[:, None], moving[:, None].expand_as(known)
            confidence = maps[f"confidence{view}"]
            total = total + self.weighting(residuals[view], confidence, valid, there)
            parts |= _figures(f"{self.name}{view}", residuals[view], confidence, valid, there)
        return LossValue(total, parts)


@dataclass(frozen=True)
class MotionRegression(_OfMotion):
    """Distance of predicted to true positions at the query times, in units of the pair's mean distance: as published.

    The residual holds the pointmap's error, too. As long as that is larger than motions are, a motion head learns to
    make up for it rather than to move: see ``DisplacementRegression``.
    """

    name: str = "motion"
    """Of the head, in ``PairPrediction.extras``."""
    weighting: Weighting = ByConfidence()
    detach_points: bool = False
    """Let motion learn only, not the pointmaps that it starts from."""

    def residuals(self, prediction: PairPrediction, truth: MotionTruth) -> tuple[Tensor, Tensor]:
        """See ``_OfMotion``."""
        points = (prediction.pointmap0, prediction.pointmap1)
        if self.detach_points:
            points = (points[0].detach(), points[1].detach())
        true_points, scale, true_scale = _scales(points, truth)
        maps, motion = prediction.extras[self.name], _known_motion(truth)

        def distance(view: int) -> Tensor:
            """(B, Q, H, W): how far the points of a view, moved, end from where they should."""
            after = (points[view][:, None] + maps[f"displacement{view}"]) / scale
            return (after - (true_points[view][:, None] + motion[view]) / true_scale).norm(dim=-1)

        return distance(0), distance(1)


@dataclass(frozen=True)
class DisplacementRegression(_OfMotion):
    """Distance of predicted to true displacements, in units of the pair's mean distance; pointmaps learn nothing of it.

    For networks whose pointmaps are not much better than motions are large.
    """

    name: str = "motion"
    """Of the head, in ``PairPrediction.extras``."""
    weighting: Weighting = ByConfidence()
    softness: float = 0.0
    """Distances below about this many mean distances count by their square.

    A plain distance is smallest at the median. Most pixels stand still, so a head that cannot tell yet which ones move
    does best by moving none, and stays there; squares are smallest at the mean, which leads on from the first hint.
    """

    def residuals(self, prediction: PairPrediction, truth: MotionTruth) -> tuple[Tensor, Tensor]:
        """See ``_OfMotion``."""
        points = (prediction.pointmap0.detach(), prediction.pointmap1.detach())
        _, scale, true_scale = _scales(points, truth)
        maps, (motion0, motion1) = prediction.extras[self.name], _known_motion(truth)
        return (
            self._soft(maps["displacement0"] / scale - motion0 / true_scale),
            self._soft(maps["displacement1"] / scale - motion1 / true_scale),
        )

    def _soft(self, difference: Tensor) -> Tensor:
        """Lengths of (..., 3) vectors, rounded off at zero (Charbonnier)."""
        if not self.softness:
            return difference.norm(dim=-1)
        return (difference.square().sum(-1) + self.softness**2).sqrt() - self.softness


def _scales(points: tuple[Tensor, Tensor], truth: MotionTruth) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """True points of both views, zero where there are none, and the scales of points and truth, (B, 1, 1, 1, 1)."""
    valid = (truth.valid0, truth.valid1)
    # Invalid truth may be NaN: zero it first, so that no gradient passes through it.
    true0 = torch.where(truth.valid0[..., None], truth.pointmap0, 0)
    true1 = torch.where(truth.valid1[..., None], truth.pointmap1, 0)
    scale, true_scale = mean_distance(*points, *valid), mean_distance(true0, true1, *valid)
    return (true0, true1), scale[:, None, None, None, None], true_scale[:, None, None, None, None]


def _known_motion(truth: MotionTruth) -> tuple[Tensor, Tensor]:
    """True motion of both views, zero where there is none."""
    return (
        torch.where(truth.motion_valid0[..., None], truth.motion0, 0),
        torch.where(truth.motion_valid1[..., None], truth.motion1, 0),
    )


def _figures(name: str, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Mapping[str, Tensor]:
    """What to log of one view: residual and confidence of moving and of static pixels."""
    figures = {}
    for kind, mask in (("moving", valid & moving), ("static", valid & ~moving)):
        figures[f"{name}_{kind}_error"] = own_mean(residual, mask)
        figures[f"{name}_{kind}_confidence"] = own_mean(confidence, mask)
    return figures
