"""How far the motion that a pair's prediction says is from the truth, of all pixels and of moving ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.geometry.scene_flow import MotionErrors, motion_errors, pair_scale
from stereo4d.network.objective import MotionTruth
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class ErrorsBesideStillness:
    """Errors of predicted motion, and of a prediction that nothing moves."""

    predicted: MotionErrors
    nothing_moves: MotionErrors


def errors_of_motion(
    maps: Mapping[str, Tensor], prediction: PairPrediction, truth: MotionTruth
) -> dict[str, ErrorsBesideStillness]:
    """Compare after scaling by the median distance of both views' points (Stereo4D, Jin et al. 2025, section 5).

    Args:
        maps: ``displacement0`` and ``displacement1``, (B, Q, H, W, 3), at the truth's query times.
        prediction: of the same B pairs.
        truth: of the same pairs.

    Returns:
        Errors of ``"moving"`` pixels and of ``"all"``.
    """
    predicted = torch.stack([maps["displacement0"], maps["displacement1"]], 1)
    true = torch.stack([truth.motion0, truth.motion1], 1)
    valid = torch.stack([truth.motion_valid0 & truth.valid0[:, None], truth.motion_valid1 & truth.valid1[:, None]], 1)
    moving = valid & torch.stack([truth.moving0, truth.moving1], 1)[:, :, None]
    pointmaps = (prediction.pointmap0, prediction.pointmap1)
    scale = pair_scale(pointmaps, (truth.pointmap0, truth.pointmap1), (truth.valid0, truth.valid1))
    still = torch.zeros_like(true)
    return {
        kind: ErrorsBesideStillness(
            motion_errors(predicted, true, mask, scale), motion_errors(still, true, mask, scale)
        )
        for kind, mask in (("moving", moving), ("all", valid))
    }
