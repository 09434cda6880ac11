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
from stereo4d.network.objective import LossValue, MotionTruth, Objective, masked_mean, mean_distance
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

    def __call__(self, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Tensor:
        """See ``Weighting``."""
        static = valid & ~moving
        largest = torch.where(static, confidence.detach(), 1).amax()
        by_confidence = confidence * residual - self.alpha * confidence.log()
        # confidence of moving pixels learns too, but from their residual alone, which it cannot make smaller
        fair = self.factor * largest * residual + confidence * residual.detach() - self.alpha * confidence.log()
        return masked_mean(torch.where(moving, fair, by_confidence), valid)


@dataclass(frozen=True)
class MotionRegression(Objective):
    """Distance of predicted to true positions at the query times, in units of the pair's mean distance."""

    name: str = "motion"
    """Of the head, in ``PairPrediction.extras``."""
    weighting: Weighting = ByConfidence()
    detach_points: bool = False
    """Let motion learn only, not the pointmaps that it starts from."""

    def __call__(self, prediction: PairPrediction, truth: MotionTruth) -> LossValue:  # type: ignore[override]
        """The loss over both views.

        Raises:
            ShapeError: the prediction is not at the truth's query times.
        """
        maps = prediction.extras[self.name]
        points, true_points, scale, true_scale = self._normalised(prediction, truth)
        total = torch.zeros((), device=scale.device)
        parts: dict[str, Tensor] = {}
        for view, (motion, known, measured, moving) in enumerate(
            (
                (truth.motion0, truth.motion_valid0, truth.valid0, truth.moving0),
                (truth.motion1, truth.motion_valid1, truth.valid1, truth.moving1),
            )
        ):
            valid = known & measured[:, None]
            displacement = maps[f"displacement{view}"]
            if displacement.shape != motion.shape:
                raise ShapeError(
                    f"displacement{view} {tuple(displacement.shape)} is not at the truth's query times "
                    f"{tuple(motion.shape)}; predict with times=truth.times"
                )
            true_motion = torch.where(valid[..., None], motion, 0)
            after = points[view][:, None] + displacement / scale[:, None]
            residual = (after - true_points[view][:, None] - true_motion / true_scale[:, None]).norm(dim=-1)
            there = moving[:, None].expand_as(valid)
            total = total + self.weighting(residual, maps[f"confidence{view}"], valid, there)
            parts |= _figures(f"{self.name}{view}", residual, maps[f"confidence{view}"], valid, there)
        return LossValue(total, parts)

    def _normalised(
        self, prediction: PairPrediction, truth: MotionTruth
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor, Tensor]:
        """Points of both views, predicted and true, each divided by its scale, and the scales (B, 1, 1, 1)."""
        valid = (truth.valid0, truth.valid1)
        # Invalid truth may be NaN: zero it first, so that no gradient passes through it.
        true0 = torch.where(truth.valid0[..., None], truth.pointmap0, 0)
        true1 = torch.where(truth.valid1[..., None], truth.pointmap1, 0)
        points0, points1 = prediction.pointmap0, prediction.pointmap1
        if self.detach_points:
            points0, points1 = points0.detach(), points1.detach()
        scale = mean_distance(points0, points1, *valid)[:, None, None, None]
        true_scale = mean_distance(true0, true1, *valid)[:, None, None, None]
        return (points0 / scale, points1 / scale), (true0 / true_scale, true1 / true_scale), scale, true_scale


def _figures(name: str, residual: Tensor, confidence: Tensor, valid: Tensor, moving: Tensor) -> Mapping[str, Tensor]:
    """What to log of one view: residual and confidence of moving and of static pixels."""
    figures = {}
    for kind, mask in (("moving", valid & moving), ("static", valid & ~moving)):
        figures[f"{name}_{kind}_error"] = masked_mean(residual, mask).detach()
        figures[f"{name}_{kind}_confidence"] = masked_mean(confidence, mask).detach()
    return figures
