"""What descriptors are trained for: pixels of the same surface point alike, all others unlike.

Source: MASt3R (Leroy et al. 2024), section 3.2; the confidence and the three forms of the loss follow its released
training, but are computed in logarithms, where no exponential overflows, and in float32 also under autocast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.objective import LossValue, MatchTruth, Objective
from stereo4d.network.pooling import own_mean, pooled_ratio
from stereo4d.types import PairPrediction
from stereo4d_heads.correspondences import PixelDraw, PixelPairs


@dataclass(frozen=True)
class Contrast(ABC):
    """How unlikely every true match is among all drawn pixels: InfoNCE (van den Oord et al. 2018)."""

    temperature: float = 0.05
    """Similarities are divided by it; > 0."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}; it must be above 0")

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor, same: Tensor) -> Tensor:
        """The loss of every match.

        Args:
            descriptors0: (N, K) of unit length, of N pixels of view 0.
            descriptors1: (N, K) of N pixels of view 1, in the same order.
            same: (N,) bool: the two are a match; the others only stand for what a match must be told from.

        Returns:
            (M,) one value per match, in order.
        """
        wide = torch.promote_types(descriptors0.dtype, torch.float32)
        with torch.autocast(descriptors0.device.type, enabled=False):
            return self.losses(descriptors0.to(wide) @ descriptors1.to(wide).T / self.temperature)[same]

    @abstractmethod
    def losses(self, similarities: Tensor) -> Tensor:
        """(N,) losses of the diagonal of (N, N) similarities, view 0 first."""


LEAST = math.log(1e-8)
"""A match less likely than that costs no more, and is not learnt from: most such matches are wrong."""


@dataclass(frozen=True)
class EachWay(Contrast):
    """Every match told from the others of its own pixel in view 0, and of its own pixel in view 1."""

    def losses(self, similarities: Tensor) -> Tensor:
        """See ``Contrast``."""
        way0, way1 = _log_shares(similarities)
        return -way0.clamp(min=LEAST) - way1.clamp(min=LEAST)


@dataclass(frozen=True)
class BothWays(Contrast):
    """As ``EachWay``; what is too unlikely is judged for both ways at once."""

    def losses(self, similarities: Tensor) -> Tensor:
        """See ``Contrast``."""
        way0, way1 = _log_shares(similarities)
        return -(way0 + way1).clamp(min=LEAST)


@dataclass(frozen=True)
class AmongAll(Contrast):
    """Every match told from all combinations of the drawn pixels."""

    def losses(self, similarities: Tensor) -> Tensor:
        """See ``Contrast``."""
        return similarities.flatten().logsumexp(0) - similarities.diagonal()


class MatchConfidence(ABC):
    """How sure a match is, of how sure its two descriptors are."""

    @abstractmethod
    def __call__(self, confidence0: Tensor, confidence1: Tensor) -> Tensor:
        """(M,), > 0, of (M,) and (M,), > 0."""


@dataclass(frozen=True)
class MeanConfidence(MatchConfidence):
    """Half of each."""

    def __call__(self, confidence0: Tensor, confidence1: Tensor) -> Tensor:
        """See ``MatchConfidence``."""
        return (confidence0 + confidence1) / 2


@dataclass(frozen=True)
class ProductConfidence(MatchConfidence):
    """One times the other: a match is sure only where both are."""

    def __call__(self, confidence0: Tensor, confidence1: Tensor) -> Tensor:
        """See ``MatchConfidence``."""
        return confidence0 * confidence1


@dataclass(frozen=True)
class DescriptorMatching(Objective):
    """Contrast of drawn matches weighted by predicted confidence: ``C * loss - alpha * log C``, mean over all matches.

    Published recipes add it to the confidence-weighted regression of metric pointmaps with weight 0.075.
    """

    name: str = "descriptors"
    """Of the maps in ``PairPrediction.extras``: that of the head beside the main one, or as it is for a main head."""
    contrast: Contrast = EachWay()
    confidence: MatchConfidence = MeanConfidence()
    alpha: float = 10.0
    """Reward for confidence; > 0."""
    draw: PixelDraw = field(default_factory=PixelDraw)
    """Of the pixels of every pair."""
    block: int = 8192
    """Pixels are told apart in random blocks of at most so many, of which memory takes the square,
    268 MB at the default in float32, once per block of the batch."""

    def __post_init__(self) -> None:
        if not self.alpha > 0 or self.block < 1:
            raise UsageError(f"alpha {self.alpha} must be above 0, and block {self.block} at least 1")

    def __call__(self, prediction: PairPrediction, truth: MatchTruth) -> LossValue:  # type: ignore[override]
        """The loss of a batch; 0, attached to the graph, where no pair has a match.

        Raises:
            UsageError: nothing wrote descriptors under the name.
        """
        maps = _maps(prediction, self.name)
        # an empty selection of every map: the sum has a graph even if no pair has a match
        losses, weights = [maps["descriptors0"].flatten()[:0]], [maps["descriptor_confidence0"].flatten()[:0]]
        for pairs, described in _drawn(maps, truth, self.draw):
            for part in torch.arange(len(pairs.same), device=pairs.same.device).split(self.block):
                same, (features0, features1, sure0, sure1) = pairs.same[part], (each[part] for each in described)
                if same.any():
                    losses.append(self.contrast(features0, features1, same))
                    weights.append(self.confidence(sure0[same], sure1[same]))
        loss, weight = torch.cat(losses), torch.cat(weights)
        # a confidence may underflow to zero, which has no logarithm
        rewarded = weight * loss - self.alpha * weight.clamp(min=torch.finfo(weight.dtype).tiny).log()
        everywhere = torch.ones_like(loss, dtype=torch.bool)
        figures = {"loss": own_mean(loss, everywhere), "confidence": own_mean(weight, everywhere)}
        return LossValue(
            pooled_ratio(rewarded.sum(), everywhere.sum()),
            {f"{self.name}_match_{figure}": value for figure, value in figures.items()},
        )


@torch.no_grad()
def match_figures(
    prediction: PairPrediction, truth: MatchTruth, name: str, draw: PixelDraw | None = None
) -> dict[str, Tensor]:
    """How well descriptors find the true match among pixels drawn from the other view.

    Args:
        prediction: of B pairs.
        truth: of the same pairs.
        name: as for ``DescriptorMatching``.
        draw: of the pixels that are compared; None draws 2048.

    Returns:
        (B,) each, NaN where a pair has no match: ``match_first``, the share of matches that are more alike than all
        others, and ``match_precision``, the mean of one over their rank (average precision), both ways together.
    """
    first, precision = [], []
    for pairs, (features0, features1, *_) in _drawn(_maps(prediction, name), truth, draw or PixelDraw(2048)):
        with torch.autocast(features0.device.type, enabled=False):
            similarities = features0.float() @ features1.float().T
        own = similarities.diagonal()
        # ranks are pessimistic: descriptors that are all the same find nothing
        rank0, rank1 = (similarities >= own[:, None]).sum(1)[pairs.same], (similarities >= own).sum(0)[pairs.same]
        ranks = torch.cat([rank0, rank1]).float()
        first.append((ranks == 1).float().mean())
        precision.append(ranks.reciprocal().mean())
    return {"match_first": torch.stack(first), "match_precision": torch.stack(precision)}


def _drawn(
    maps: dict[str, Tensor], truth: MatchTruth, draw: PixelDraw
) -> Iterator[tuple[PixelPairs, tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Per pair of images the drawn pixels, with descriptors (N, K) and confidences (N,) of both views there."""
    for number in range(len(truth.match0)):
        pairs = draw(truth.match0[number], truth.match1[number])
        yield (
            pairs,
            (
                maps["descriptors0"][number].flatten(0, 1)[pairs.pixel0],
                maps["descriptors1"][number].flatten(0, 1)[pairs.pixel1],
                maps["descriptor_confidence0"][number].flatten()[pairs.pixel0],
                maps["descriptor_confidence1"][number].flatten()[pairs.pixel1],
            ),
        )


def _log_shares(similarities: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) logarithms of how likely every match is among all pixels of view 0, and among all of view 1."""
    own = similarities.diagonal()
    return own - similarities.logsumexp(0), own - similarities.logsumexp(1)


def _maps(prediction: PairPrediction, name: str) -> dict[str, Tensor]:
    maps = prediction.extras.get(name, {})
    if "descriptors0" not in maps:
        found = ", ".join(prediction.extras) or "none"
        raise UsageError(f"no descriptors under {name!r}; maps beside the pointmaps are: {found}: give the head's name")
    return dict(maps)
