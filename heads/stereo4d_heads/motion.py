"""The motion head of DynaDUSt3R: how far every pixel's point moves from its own time to a query time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stereo4d.errors import UsageError
from stereo4d.motion import DisplacementField
from stereo4d.network.head import BackboneDims, Output, TimedHead
from stereo4d.network.motion_errors import errors_of_motion
from stereo4d.network.objective import MotionTruth
from stereo4d.types import PairPrediction
from stereo4d_heads.activation import ABOVE_ONE, Mode, as_mode, confidence_from_raw, points_from_raw
from stereo4d_heads.dpt import LAYER_DIMS, Dpt
from stereo4d_heads.motion_objective import MotionRegression, MovingCounts
from stereo4d_heads.time_conditioning import CONDITIONINGS, Conditioning, TimeEmbedding

UNBOUNDED: Mode = ("linear", float("-inf"), float("inf"))


class TimedDpt(Dpt):
    """A DPT whose levels are told the query time before they are fused."""

    def __init__(
        self,
        dims: BackboneDims,
        *,
        channels: int,
        embedding: TimeEmbedding,
        conditioning: type[Conditioning],
        feature_dim: int,
        last_dim: int,
        layer_dims: Sequence[int],
    ) -> None:
        super().__init__(dims, channels=channels, feature_dim=feature_dim, last_dim=last_dim, layer_dims=layer_dims)
        self.embedding = embedding
        self.linear_projections = conditioning(embedding.dim, feature_dim, len(layer_dims))

    def at_times(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> Tensor:
        """Token list of one view and (B, Q) times to (B, Q, channels, H, W) raw maps.

        What the tokens say is brought to the levels once, whatever the number of times.
        """
        levels = self.linear_projections.condition(self.levels(tokens, image_size), self.embedding(times))
        return self.write(levels).unflatten(0, times.shape)


class MotionHead(TimedHead):
    """A displacement and its confidence per pixel and time (DynaDUSt3R, Jin et al. 2025, section 4).

    The layout is that of the unofficial weights, the only published ones.
    """

    outputs = (
        Output("displacement", (3,), frame="view 0", activation="by motion_mode", shown_as="arrows"),
        Output("confidence", activation="by conf_mode; > 1 as published", shown_as="heat"),
    )

    def __init__(
        self,
        dims: BackboneDims,
        *,
        embed_dim: int = 128,
        max_period: float = 1e4,
        time_scale: float = 1.0,
        conditioning: str = "added",
        motion_mode: Mode = UNBOUNDED,
        conf_mode: Mode = ABOVE_ONE,
        feature_dim: int = 256,
        last_dim: int = 128,
        layer_dims: Sequence[int] = LAYER_DIMS,
    ) -> None:
        """Build the head.

        Args:
            dims: of the backbone.
            embed_dim: width of the time embedding.
            max_period: see ``TimeEmbedding``.
            time_scale: see ``TimeEmbedding``.
            conditioning: how the levels are told the time: ``added``, ``adaptive`` or ``none``.
            motion_mode: how raw vectors become displacements; ``linear`` takes them as they are.
            conf_mode: how raw confidences become confidences.
            feature_dim: width of the fused maps.
            last_dim: width before the last layer.
            layer_dims: widths of the four levels.

        Raises:
            UsageError: there is no such conditioning, or an option is wrong.
        """
        super().__init__()
        self.motion_mode = as_mode(motion_mode)
        self.conf_mode = as_mode(conf_mode)
        if conditioning not in CONDITIONINGS:
            raise UsageError(f"conditioning {conditioning!r}; there are {', '.join(CONDITIONINGS)}")
        self.dpt = TimedDpt(
            dims,
            channels=4,
            embedding=TimeEmbedding(embed_dim, max_period=max_period, time_scale=time_scale),
            conditioning=CONDITIONINGS[conditioning],
            feature_dim=feature_dim,
            last_dim=last_dim,
            layer_dims=layer_dims,
        )
        last = cast(nn.Conv2d, self.dpt.head[-1])
        for values in (last.weight, cast(Tensor, last.bias)):  # nothing moves at first
            nn.init.zeros_(values[:3])

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        """Predict ``displacement`` (B, Q, H, W, 3) and ``confidence`` (B, Q, H, W).

        A displacement leads from the pixel's point at its own time to that point at the query time, along the axes of
        view 0's camera, whichever view the pixel is of.
        """
        raw = self.dpt.at_times(tokens, image_size, times).movedim(2, -1)  # (B, Q, H, W, 4)
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

    def starting_values(self, main: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pointmap's DPT, silenced: nothing moves, whatever the time (DynaDUSt3R, Jin et al. 2025, section 4).

        Copied as it is, it would start with displacements as large as the points.
        """
        values = {name: value.clone() for name, value in main.items() if name.startswith("dpt.")}
        if not values:
            return {}
        for part in ("weight", "bias"):
            values[f"dpt.head.{len(self.dpt.head) - 1}.{part}"][:3] = 0
        for name, value in self.dpt.linear_projections.state_dict(prefix="dpt.linear_projections.").items():
            # the last of a level's layers
            if name.split(".")[3] == "2":
                values[name] = torch.zeros(value.shape)
        return values

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
