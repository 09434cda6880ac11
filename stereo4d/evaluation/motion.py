"""How well predicted 3D motion does on pairs with exact truth, beside what standing still would score."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stereo4d.evaluation.pairs import Figure
from stereo4d.network.motion_errors import errors_of_motion
from stereo4d.network.objective import MotionTruth
from stereo4d.types import PairPrediction

_GUESS = "no motion"


def motion_figures(maps: Mapping[str, Tensor], prediction: PairPrediction, truth: MotionTruth) -> dict[str, Figure]:
    """EPE3D, delta 0.05 and delta 0.10 of B pairs' motion, in the unit of the truth; see ``errors_of_motion``."""
    figures: dict[str, Figure] = {}
    for kind, errors in errors_of_motion(maps, prediction, truth).items():
        found, still, pixels = errors.predicted, errors.nothing_moves, f"{kind} pixels"
        figures[f"epe3d_{kind}"] = Figure(f"motion EPE3D, {pixels}", "", found.epe3d, still.epe3d, _GUESS)
        figures[f"delta005_{kind}"] = Figure(
            f"motion within 0.05, {pixels}", "", found.delta_near, still.delta_near, _GUESS, larger_is_better=True
        )
        figures[f"delta010_{kind}"] = Figure(
            f"motion within 0.10, {pixels}", "", found.delta_far, still.delta_far, _GUESS, larger_is_better=True
        )
    return figures
