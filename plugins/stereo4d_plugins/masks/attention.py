"""What moves by a network's attention, without any training for it (Easi3R, Chen et al. 2025, section 3).

What stands still is looked at by the other view in the same way in all pairs; what moves is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.video.attention import AttentionScores, attention_scores
from stereo4d.video.masks import MaskEvidence, MaskMaker
from stereo4d.video.network_predictor import NetworkPredictor

_BINS = 64


@dataclass(frozen=True)
class Attention(MaskMaker):
    """Means and spreads of cross-attention over pairs, joined over time, above the highest of Otsu's thresholds."""

    clusters: int = 64
    seed: int = 42

    def moving(self, evidence: MaskEvidence) -> np.ndarray:
        """See ``MaskMaker.moving``."""
        if not isinstance(evidence.predictor, NetworkPredictor):
            raise UsageError(
                "--mask-by attention: looks into the network that predicts; use it with reconstruct and the weights of "
                "a network, or take ego-flow"
            )
        scores = attention_scores(evidence.predictor.network, evidence.clip, sorted(evidence.rows))
        dynamic = self._fused(scores, dynamic_scores(scores))
        image = dynamic.unflatten(1, scores.grid)[:, None]
        size = evidence.clip.rgb.shape[1:3]
        full = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)[:, 0].numpy()
        return full > otsu_threshold(full)

    def _fused(self, scores: AttentionScores, dynamic: Tensor) -> Tensor:
        """(N, T): tokens that look alike, in whatever frame, get their mean."""
        tokens = scores.tokens.flatten(0, 1).double().numpy()
        number = min(self.clusters, len(np.unique(tokens, axis=0)))
        _, label = kmeans2(tokens, number, minit="++", seed=self.seed)
        flat = dynamic.flatten().double()
        total, count = (torch.zeros(number, dtype=torch.float64) for _ in range(2))
        place = torch.from_numpy(label).long()
        total.index_add_(0, place, flat)
        count.index_add_(0, place, torch.ones_like(flat))
        return _per_frame((total / count.clamp(min=1))[place].view_as(dynamic).float())


def dynamic_scores(scores: AttentionScores) -> Tensor:
    """(N, T) 0 ... 1: how much speaks for motion, frame by frame."""
    source, source_spread, reference, reference_spread = (
        _stretched(_stretched(stack).mean(1))
        for stack in (scores.source_mean, scores.source_spread, scores.reference_mean, scores.reference_spread)
    )
    return _per_frame((1 - source) * source_spread * reference * (1 - reference_spread))


def otsu_threshold(values: np.ndarray) -> float:
    """The highest of Otsu's thresholds for two, three or four classes: the number whose classes lie furthest apart.

    That is the variance of the classes' means over the square root of their number.
    """
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, counts * centres))
    best, found = -np.inf, float(edges[-1])
    for classes in (2, 3, 4):
        cuts = np.array(list(combinations(range(1, _BINS), classes - 1)))
        ends = np.concatenate([np.zeros((len(cuts), 1), int), cuts, np.full((len(cuts), 1), _BINS)], axis=1)
        weight, total = np.diff(mass[ends], axis=1), np.diff(moment[ends], axis=1)
        means = total / np.maximum(weight, 1e-12)
        between = np.where((weight > 0).all(1), (weight * means**2).sum(1), -np.inf)
        chosen = int(between.argmax())
        if not np.isfinite(between[chosen]):
            continue
        apart = float(means[chosen].var()) / classes**0.5
        if apart > best:
            best, found = apart, float(edges[cuts[chosen][-1]])
    return found


def _stretched(values: Tensor) -> Tensor:
    """From the least value to the most, over everything."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-12)


def _per_frame(values: Tensor) -> Tensor:
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return (values - low) / (high - low).clamp(min=1e-12)
