"""What a two-view network is trained for: the confidence-weighted pointmap regression of DUSt3R, and the sky.

Sources: DUSt3R (Wang et al. 2024), section 3.2; MASt3R (Leroy et al. 2024). Which errors are weighted is a class of its
own: ``stereo4d.training.regression``, ``stereo4d.training.invariances``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.objective import LossValue, Objective, PairTruth, SkyTruth
from stereo4d.network.pooling import masked_mean, own_mean
from stereo4d.training.normalisations import BothViews
from stereo4d.training.regression import MetricRegression, PixelErrors, PointmapRegression, Residuals
from stereo4d.types import PairPrediction

__all__ = ["ConfidenceWeighted", "MetricRegression", "PointmapRegression", "WithSky"]


@dataclass(frozen=True)
class ConfidenceWeighted(Objective):
    """Errors weighted by predicted confidence: ``C * error - alpha * log C``."""

    regression: PixelErrors = field(default_factory=PointmapRegression)
    alpha: float = 0.2
    """Reward for confidence; > 0."""

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(
                f"alpha is {self.alpha}; it must be above 0: without a reward confidence falls to its least"
            )

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        """The loss over both views; a view without any valid pixel contributes 0, attached to the graph."""
        found = self.regression.residuals(prediction, truth)
        total = torch.zeros((), device=found.error[0].device)
        parts: dict[str, Tensor] = {}
        confidences = (prediction.confidence0, prediction.confidence1)
        for view, (error, valid, confidence) in enumerate(zip(found.error, found.valid, confidences, strict=True)):
            total = total + masked_mean(confidence * error - self.alpha * confidence.log(), valid)
            parts[f"error{view}"] = own_mean(error, valid)
            parts[f"confidence{view}"] = own_mean(confidence, valid)
        return LossValue(total, parts)


@dataclass(frozen=True)
class WithSky(PixelErrors):
    """Also counts sky without a measurement, as pixels with an error that nothing lessens but low confidence.

    It is no objective of its own, since without confidence there is nothing to learn from a constant. Figures of the
    error include it.
    """

    regression: PixelErrors = field(default_factory=MetricRegression)
    error: float = 2.0
    """Of a sky pixel, in units of the regression's errors; above ``alpha``, or the sky is worth trusting."""

    def __post_init__(self) -> None:
        if not self.error > 0:
            raise UsageError(f"error of the sky is {self.error}; it must be above 0, or leave WithSky out")

    def residuals(self, prediction: PairPrediction, truth: SkyTruth) -> Residuals:  # type: ignore[override]
        """See ``PixelErrors``."""
        found = self.regression.residuals(prediction, truth)
        unmeasured: BothViews = (truth.sky0 & ~truth.valid0, truth.sky1 & ~truth.valid1)
        error0, error1 = (
            torch.where(sky, self.error, error) for error, sky in zip(found.error, unmeasured, strict=True)
        )
        return Residuals((error0, error1), (found.valid[0] | unmeasured[0], found.valid[1] | unmeasured[1]))
