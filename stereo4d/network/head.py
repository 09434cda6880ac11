"""The contract between the network and its heads.

A head is a ``torch.nn.Module`` that turns the tokens of every layer into dense maps. It is built from the backbone's
dims, which the network hands over, so that no width is ever repeated in a config, and it is found by entry point
(group ``stereo4d.heads``). A new head is one new file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class BackboneDims:
    """What a head needs to know of the backbone."""

    patch_size: int
    encoder_dim: int
    """Width of entry 0 of the token list (encoder output)."""
    decoder_dim: int
    """Width of entries 1 ... decoder_depth (decoder blocks)."""
    decoder_depth: int


class Head(nn.Module, ABC):
    """Turns the token list of one view into dense maps."""

    @abstractmethod
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict dense maps.

        Args:
            tokens: decoder_depth + 1 entries (B, T, C): encoder output first, then the output of every decoder block,
                the last one normalised. T = (H / patch) * (W / patch), row-major.
            image_size: (H, W) in pixels.

        Returns:
            Maps by name. A pointmap head returns ``pointmap`` (B, H, W, 3), in view 0's camera, and ``confidence``
            (B, H, W), > 1.
        """
