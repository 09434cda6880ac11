"""Pairs that see one place in two windows far apart in time: what they say of how the windows lie to one another.

Such a pair is laid onto each of the two windows by the frame that it shares with it. It is believed only if the shapes
it shows are those that the windows know, and if its two directions, where both were predicted, say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.pose_graph import deviations_between, halfway
from stereo4d.alignment.windows import SeenFrames, robust_similarity
from stereo4d.geometry.rigid import invert, transform_points

_TOLERATED_MISFIT = 0.08
_TOLERATED_DISAGREEMENT = 0.15


@dataclass(frozen=True)
class PairInTwoWindows:
    """What one directed pair says of a frame of one window and a frame of another, on their samples of P pixels."""

    points: tuple[Tensor, Tensor]
    """Of the first window's frame and of the second's, (P, 3) float64 each, in the pair's frame and scale."""
    confidence: tuple[Tensor, Tensor]
    """(P,) likewise."""


@dataclass(frozen=True)
class Loop:
    """How the second window's world lies in the first one's, by one pair of frames."""

    transform: Tensor
    """(4, 4) similarity from the second window's world to the first one's."""
    misfit: float
    """Median distance between what pair and windows say of the same pixels, as a share of their depth."""
    disagreement: float
    """Between both directions: rotation in radians, translation as a share of the size, log-scale; 0 for one alone."""

    @property
    def holds(self) -> bool:
        """Whether the pair can be believed."""
        return self.misfit <= _TOLERATED_MISFIT and self.disagreement <= _TOLERATED_DISAGREEMENT


def measure_loop(first: SeenFrames, second: SeenFrames, told: tuple[PairInTwoWindows, ...]) -> Loop:
    """Tie two windows together by a frame of each.

    Args:
        first: one frame as the first window has it.
        second: one frame as the second window has it.
        told: what the pair of these frames says, in one direction or in both.
    """
    found = [_laid_onto_both(first, second, pair) for pair in told]
    transform, misfit = found[0][0], max(misfit for _, misfit in found)
    if len(found) == 1:
        return Loop(transform, misfit, 0.0)
    size = torch.tensor([second.size], dtype=torch.float64)
    apart = deviations_between(found[0][0][None], found[1][0][None], size)
    return Loop(halfway(found[0][0], found[1][0], second.size), misfit, float(apart.norm()))


def _laid_onto_both(first: SeenFrames, second: SeenFrames, pair: PairInTwoWindows) -> tuple[Tensor, float]:
    """From the second window to the first through the pair, and the larger of its misfits."""
    onto, misfits = [], []
    for window, points, confidence in zip((first, second), pair.points, pair.confidence, strict=True):
        reach = window.depth[0]
        weight = window.weight[0] * confidence.clamp(min=1 + 1e-3).log()
        carried = robust_similarity(points, window.points[0], weight, reach)
        away = (transform_points(carried[None], points[None])[0] - window.points[0]).norm(dim=-1) / reach
        counted = weight > 0
        misfits.append(float(away[counted].median()) if bool(counted.any()) else float("inf"))
        onto.append(carried)
    return onto[0] @ invert(onto[1]), max(misfits)
