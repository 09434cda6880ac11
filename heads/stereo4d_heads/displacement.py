"""What motion heads that say displacements have in common, whatever turns tokens into raw maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stereo4d.motion import DisplacementField
from stereo4d.network.head import Output, TimedHead
from stereo4d.network.motion_errors import errors_of_motion
from stereo4d.network.objective import MotionTruth
from stereo4d.types import PairPrediction
from stereo4d_heads.activation import ABOVE_ONE, Mode, as_mode, confidence_from_raw, points_from_raw
from stereo4d_heads.motion_objective import MotionRegression, MovingCounts

UNBOUNDED: Mode = ("linear", float("-inf"), float("inf"))


class DisplacementHead(TimedHead):
    """Writes a displacement per pixel and time, and its confidence."""

    outputs = (
        Output("displacement", (3,), frame="view 0", activation="by motion_mode", shown_as="arrows"),
        Output("confidence", activation="by conf_mode; > 1 as published", shown_as="heat"),
    )

    def __init__(self, *, motion_mode: Mode = UNBOUNDED, conf_mode: Mode = ABOVE_ONE) -> None:
        """Choose activations.

        Args:
            motion_mode: how raw vectors become displacements; ``linear`` takes them as they are.
            conf_mode: how raw confidences become confidences.
        """
        super().__init__()
        self.motion_mode = as_mode(motion_mode)
        self.conf_mode = as_mode(conf_mode)

    def maps(self, raw: Tensor) -> dict[str, Tensor]:
        """(B, Q, H, W, 4) raw maps to ``displacement`` (B, Q, H, W, 3) and ``confidence`` (B, Q, H, W).

        A displacement leads from the pixel's point at its own time to that point at the query time, along the axes of
        view 0's camera, whichever view the pixel is of.
        """
        return {
            "displacement": points_from_raw(raw[..., :3], self.motion_mode),
            "confidence": confidence_from_raw(raw[..., 3], self.conf_mode),
        }

    def motion_field(
        self, maps: Mapping[str, Tensor], points: Tensor, own_time: float, times: Tensor | None
    ) -> DisplacementField | None:
        """The predicted displacements, linear between the query times; see the contract."""
        if times is None:
            return None
        return DisplacementField(points, own_time, times, maps["displacement"], maps["confidence"])

    def objective(self, name: str) -> MotionRegression:
        """Positions after motion, as published; moving pixels count, however little confidence they are given."""
        return MotionRegression(name, MovingCounts())

    def measure(  # type: ignore[override]
        self, name: str, prediction: PairPrediction, truth: MotionTruth
    ) -> dict[str, Tensor]:
        """EPE3D, delta 0.05 and 0.10 after median scaling, of all and of moving pixels, and EPE3D of no motion."""
        figures = {}
        for kind, errors in errors_of_motion(prediction.extras[name], prediction, truth).items():
            figures[f"epe3d_{kind}"] = errors.predicted.epe3d
            figures[f"delta005_{kind}"] = errors.predicted.delta_near
            figures[f"delta010_{kind}"] = errors.predicted.delta_far
            figures[f"epe3d_{kind}_zero_motion"] = errors.nothing_moves.epe3d
        return figures
