"""The motion head of DynaDUSt3R: how far every pixel's point moves from its own time to a query time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stereo4d.network.convolution import image_by_image
from stereo4d.network.head import BackboneDims
from stereo4d_heads.activation import ABOVE_ONE, Mode
from stereo4d_heads.displacement import UNBOUNDED, DisplacementHead
from stereo4d_heads.dpt import LAYER_DIMS, Dpt
from stereo4d_heads.time_conditioning import Conditioning, TimeEmbedding, conditioning_of


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
        return image_by_image(lambda *some: self.write(some), levels).unflatten(0, times.shape)


class MotionHead(DisplacementHead):
    """A displacement and its confidence per pixel and time (DynaDUSt3R, Jin et al. 2025, section 4).

    The layout is that of the unofficial weights, the only published ones.
    """

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
        super().__init__(motion_mode=motion_mode, conf_mode=conf_mode)
        self.dpt = TimedDpt(
            dims,
            channels=4,
            embedding=TimeEmbedding(embed_dim, max_period=max_period, time_scale=time_scale),
            conditioning=conditioning_of(conditioning),
            feature_dim=feature_dim,
            last_dim=last_dim,
            layer_dims=layer_dims,
        )
        last = cast(nn.Conv2d, self.dpt.head[-1])
        for values in (last.weight, cast(Tensor, last.bias)):  # nothing moves at first
            nn.init.zeros_(values[:3])

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        """Predict ``displacement`` and ``confidence``, see ``maps``."""
        return self.maps(self.dpt.at_times(tokens, image_size, times).movedim(2, -1))

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
