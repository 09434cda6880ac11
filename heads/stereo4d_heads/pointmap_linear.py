"""The linear pointmap head: every token of the last layer writes its own patch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from stereo4d.network.head import BackboneDims, Head
from stereo4d_heads.activation import ABOVE_ONE, NO_BOUNDS, POINTMAP_OUTPUTS, Mode, pointmap_from_raw


class LinearPointmapHead(Head):
    """One linear layer to 3 coordinates and 1 confidence per pixel of the patch."""

    outputs = POINTMAP_OUTPUTS

    def __init__(self, dims: BackboneDims, *, depth_mode: Mode = NO_BOUNDS, conf_mode: Mode = ABOVE_ONE) -> None:
        super().__init__()
        self.patch_size = dims.patch_size
        self.depth_mode = depth_mode
        self.conf_mode = conf_mode
        self.proj = nn.Linear(dims.decoder_dim, 4 * dims.patch_size**2)

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict ``pointmap`` and ``confidence``; see the contract."""
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        raw = self.proj(tokens[-1]).transpose(1, 2).unflatten(2, (rows, columns))  # (B, 4 p^2, rows, columns)
        return pointmap_from_raw(functional.pixel_shuffle(raw, self.patch_size), self.depth_mode, self.conf_mode)
