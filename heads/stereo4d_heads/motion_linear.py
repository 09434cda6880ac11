"""The linear motion head: every token of the last layer writes the motion of its own patch.

What the linear pointmap head is to the DPT one: blunter, and several times cheaper. For networks that have to learn
motion on little hardware, where nearly all of a step would go into a DPT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from stereo4d.network.head import BackboneDims
from stereo4d_heads.activation import ABOVE_ONE, Mode
from stereo4d_heads.displacement import UNBOUNDED, DisplacementHead
from stereo4d_heads.time_conditioning import TimeEmbedding, conditioning_of


class LinearMotionHead(DisplacementHead):
    """One hidden layer that is told the query time, and one linear layer to 4 numbers per pixel of the patch."""

    def __init__(
        self,
        dims: BackboneDims,
        *,
        hidden_dim: int = 256,
        embed_dim: int = 128,
        conditioning: str = "adaptive",
        motion_mode: Mode = UNBOUNDED,
        conf_mode: Mode = ABOVE_ONE,
    ) -> None:
        """Build the head.

        Args:
            dims: of the backbone.
            hidden_dim: width of the hidden layer.
            embed_dim: width of the time embedding.
            conditioning: how the hidden layer is told the time: ``added``, ``adaptive`` or ``none``.
            motion_mode: see ``DisplacementHead``.
            conf_mode: see ``DisplacementHead``.

        Raises:
            UsageError: there is no such conditioning, or an option is wrong.
        """
        super().__init__(motion_mode=motion_mode, conf_mode=conf_mode)
        self.patch_size = dims.patch_size
        self.embedding = TimeEmbedding(embed_dim)
        self.hidden = nn.Linear(dims.decoder_dim, hidden_dim)
        self.linear_projections = conditioning_of(conditioning)(embed_dim, hidden_dim, 1)
        self.proj = nn.Linear(hidden_dim, 4 * dims.patch_size**2)
        for values in (self.proj.weight, cast(Tensor, self.proj.bias)):  # nothing moves at first
            nn.init.zeros_(values[: 3 * dims.patch_size**2])

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        """Predict ``displacement`` and ``confidence``, see ``maps``."""
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        cells = self.hidden(tokens[-1]).transpose(1, 2).unflatten(2, (rows, columns))  # (B, hidden, rows, columns)
        (told,) = self.linear_projections.condition([cells], self.embedding(times))  # (B Q, hidden, rows, columns)
        raw = self.proj(functional.gelu(told).movedim(1, -1)).movedim(-1, 1)
        return self.maps(functional.pixel_shuffle(raw, self.patch_size).unflatten(0, times.shape).movedim(2, -1))
