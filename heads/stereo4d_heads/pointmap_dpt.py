"""The DPT pointmap head: fuses tokens of four depths into one map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stereo4d.network.head import BackboneDims, Head
from stereo4d_heads.activation import ABOVE_ONE, NO_BOUNDS, POINTMAP_OUTPUTS, Mode, pointmap_from_raw
from stereo4d_heads.dpt import LAYER_DIMS, Dpt


class DptPointmapHead(Head):
    """3 coordinates and 1 confidence per pixel; the defaults are the published widths."""

    outputs = POINTMAP_OUTPUTS

    def __init__(
        self,
        dims: BackboneDims,
        *,
        depth_mode: Mode = NO_BOUNDS,
        conf_mode: Mode = ABOVE_ONE,
        feature_dim: int = 256,
        last_dim: int = 128,
        layer_dims: Sequence[int] = LAYER_DIMS,
    ) -> None:
        super().__init__()
        self.depth_mode = depth_mode
        self.conf_mode = conf_mode
        self.dpt = Dpt(dims, channels=4, feature_dim=feature_dim, last_dim=last_dim, layer_dims=layer_dims)

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict ``pointmap`` and ``confidence``; see the contract."""
        return pointmap_from_raw(self.dpt(tokens, image_size), self.depth_mode, self.conf_mode)
