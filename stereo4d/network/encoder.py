"""From images to tokens: patch embeddings, encoder blocks, and the cached result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stereo4d.errors import ShapeError
from stereo4d.network.layers import Mlp, SelfAttention, check_multiple, layer_norm, token_positions
from stereo4d.network.positions import Rotation


@dataclass(frozen=True)
class Encoded:
    """Encoder features of B images of one size. Keep them per frame, and batch them into pairs."""

    tokens: Tensor
    """(B, T, C) encoder output, normalised; row-major over the token grid of the upright image."""
    positions: Tensor
    """(B, T, 2) int64 positions (y, x)."""
    image_size: tuple[int, int]
    """(H, W) of the image tensor that was encoded, in pixels."""
    portrait: Tensor | None = None
    """(B,) bool: images that were stored lying on their side; None when none can be."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def select(self, indices: Sequence[int] | Tensor) -> Encoded:
        """The images at these indices, in this order; an index may repeat."""
        where = torch.as_tensor(indices, dtype=torch.long, device=self.tokens.device)
        portrait = None if self.portrait is None else self.portrait[where]
        return Encoded(self.tokens[where], self.positions[where], self.image_size, portrait)

    @classmethod
    def stack(cls, parts: Sequence[Encoded]) -> Encoded:
        """One batch of several.

        Raises:
            ShapeError: the parts are of different image sizes.
        """
        sizes = {part.image_size for part in parts}
        if len(sizes) != 1:
            raise ShapeError(
                f"features of different image sizes {sorted(sizes)} cannot be one batch; group them by size"
            )
        masks = [part.portrait for part in parts if part.portrait is not None]
        return cls(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.positions for part in parts]),
            sizes.pop(),
            torch.cat(masks) if len(masks) == len(parts) else None,
        )


class PatchEmbed(nn.Module):
    """One token per patch; every image of the batch is upright."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor, true_shape: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embed a batch.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            true_shape: unused here; see ``ManyAspectPatchEmbed``.

        Returns:
            (B, T, C) tokens, (B, T, 2) positions, and None.
        """
        height, width = images.shape[-2:]
        check_multiple(height, width, self.patch_size)
        return *self._embed(images), None

    def _embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.proj(images)  # (B, C, rows, columns)
        positions = token_positions(maps.shape[2], maps.shape[3], len(maps), maps.device)
        return maps.flatten(2).transpose(1, 2), positions


class ManyAspectPatchEmbed(PatchEmbed):
    """Patches of images that are stored landscape but may be portrait: those are turned upright first.

    Both kinds have the same number of tokens, so one batch can mix them.
    """

    def forward(self, images: Tensor, true_shape: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embed a batch that is stored landscape.

        Args:
            images: (B, 3, H, W) with W >= H.
            true_shape: (B, 2) real (height, width) of each image; without it all are taken as stored.

        Returns:
            (B, T, C) float32 tokens, (B, T, 2) positions, and (B,) bool: which images are portrait.

        Raises:
            ShapeError: the batch is stored portrait.
        """
        height, width = images.shape[-2:]
        check_multiple(height, width, self.patch_size)
        if width < height:
            raise ShapeError(
                f"images of {height}x{width} (height x width) are stored portrait; this patch embedding takes "
                "landscape storage with true_shape, or build the network with patch_embed_cls 'PatchEmbedDust3R'"
            )
        if true_shape is None:
            portrait = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        else:
            shape = torch.as_tensor(true_shape, device=images.device)
            portrait = shape[:, 1] < shape[:, 0]
        count = height * width // self.patch_size**2
        # float32 even under autocast, as the published training does
        tokens = torch.zeros(len(images), count, self.proj.out_channels, device=images.device)
        positions = torch.zeros(len(images), count, 2, dtype=torch.long, device=images.device)
        for chosen, batch in ((~portrait, images), (portrait, images.transpose(-1, -2))):
            if chosen.any():
                upright, places = self._embed(batch[chosen])
                tokens[chosen] = upright.float()
                positions[chosen] = places
        return tokens, positions, portrait


PATCH_EMBEDDINGS = {"PatchEmbedDust3R": PatchEmbed, "ManyAR_PatchEmbed": ManyAspectPatchEmbed}


class EncoderBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor, rotary: Rotation) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        tokens = tokens + self.attn(self.norm1(tokens), rotary)
        return tokens + self.mlp(self.norm2(tokens))
