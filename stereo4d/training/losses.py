"""What a two-view network is trained for: the confidence-weighted pointmap regression of DUSt3R.

Source: DUSt3R (Wang et al. 2024), section 3.2; the pooling of pixels over the batch follows the released training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.network.objective import LossValue, Objective, PairTruth, masked_mean, mean_distance
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class PointmapRegression(Objective):
    """Euclidean distance of predicted to true points, both divided by their own mean distance.

    ``normalise=False`` compares raw points, for data and models in metres.
    """

    normalise: bool = True

    def residuals(self, prediction: PairPrediction, truth: PairTruth) -> tuple[Tensor, Tensor]:
        """(B, H, W) distances of each view; meaningless where the truth is not valid."""
        valid = (truth.valid0, truth.valid1)
        # Invalid truth may be NaN: zero it first, so that no gradient passes through it.
        true0 = torch.where(truth.valid0[..., None], truth.pointmap0, 0)
        true1 = torch.where(truth.valid1[..., None], truth.pointmap1, 0)
        predicted0, predicted1 = prediction.pointmap0, prediction.pointmap1
        if self.normalise:
            true_scale = mean_distance(true0, true1, *valid)[:, None, None, None]
            scale = mean_distance(predicted0, predicted1, *valid)[:, None, None, None]
            true0, true1 = true0 / true_scale, true1 / true_scale
            predicted0, predicted1 = predicted0 / scale, predicted1 / scale
        return (predicted0 - true0).norm(dim=-1), (predicted1 - true1).norm(dim=-1)

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """Mean residual of view 0 plus that of view 1, each over all valid pixels of the batch."""
        residual0, residual1 = self.residuals(prediction, truth)
        error0, error1 = masked_mean(residual0, truth.valid0), masked_mean(residual1, truth.valid1)
        return LossValue(error0 + error1, {"error0": error0.detach(), "error1": error1.detach()})


@dataclass(frozen=True)
class ConfidenceWeighted(Objective):
    """The regression weighted by predicted confidence: ``C * residual - alpha * log C``."""

    regression: PointmapRegression = PointmapRegression()
    alpha: float = 0.2
    """Reward for confidence; > 0."""

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """The loss over both views; a view without any valid pixel contributes 0."""
        residual0, residual1 = self.regression.residuals(prediction, truth)
        total = torch.zeros((), device=residual0.device)
        parts: dict[str, Tensor] = {}
        views = ((residual0, prediction.confidence0, truth.valid0), (residual1, prediction.confidence1, truth.valid1))
        for view, (residual, confidence, valid) in enumerate(views):
            total = total + masked_mean(confidence * residual - self.alpha * confidence.log(), valid)
            parts[f"error{view}"] = masked_mean(residual, valid).detach()
            parts[f"confidence{view}"] = masked_mean(confidence, valid).detach()
        return LossValue(total, parts)
