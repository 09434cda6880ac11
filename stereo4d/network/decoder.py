"""The twin decoders: each view's tokens attend to themselves and to the other view's."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from stereo4d.network.config import BackboneConfig
from stereo4d.network.layers import CrossAttention, Mlp, SelfAttention, layer_norm
from stereo4d.network.positions import Rotary, Rotation


class DecoderBlock(nn.Module):
    """Self-attention, attention on the other view, MLP; pre-norm, all residual."""

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, rotary: Rotary, *, normalise_memory: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = layer_norm(dim)
        self.cross_attn = CrossAttention(dim, heads, rotary)
        self.norm_y = layer_norm(dim) if normalise_memory else nn.Identity()
        self.norm3 = layer_norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    @classmethod
    def of(cls, config: BackboneConfig, rotary: Rotary) -> DecoderBlock:
        """A block of the decoder that these options shape."""
        return cls(
            config.dec_embed_dim,
            config.dec_num_heads,
            config.mlp_ratio,
            rotary,
            normalise_memory=config.norm_im2_in_dec,
        )

    def forward(self, tokens: Tensor, memory: Tensor, rotary: Rotation, memory_rotary: Rotation) -> Tensor:
        """Advance one view by one block.

        Args:
            tokens: (B, T, C) of this view.
            memory: (B, T', C) of the other view; it is read, not changed.
            rotary: table of this view's positions.
            memory_rotary: table of the other view's positions.

        Returns:
            (B, T, C).
        """
        tokens = tokens + self.attn(self.norm1(tokens), rotary)
        tokens = tokens + self.cross_attn(self.norm2(tokens), self.norm_y(memory), rotary, memory_rotary)
        return tokens + self.mlp(self.norm3(tokens))

    def cross_logits(self, tokens: Tensor, memory: Tensor, positions: Tensor, memory_positions: Tensor) -> Tensor:
        """The logits of this block's cross-attention for the inputs that ``forward`` takes.

        Args:
            tokens: (B, T, C), the block's input of this view.
            memory: (B, T', C), the block's input of the other view.
            positions: (B, T, 2) positions (y, x) of this view.
            memory_positions: (B, T', 2).

        Returns:
            (B, h, T, T'), scaled, before the softmax.
        """
        tokens = tokens + self.attn(self.norm1(tokens), self.cross_attn.rotary.table(positions))
        return self.cross_attn.logits(self.norm2(tokens), self.norm_y(memory), positions, memory_positions)


def run_twins(
    blocks: Iterable[tuple[nn.Module, nn.Module]],
    tokens0: Tensor,
    tokens1: Tensor,
    rotary0: Rotation,
    rotary1: Rotation,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run both decoders side by side; both read the other's *previous* state.

    Returns:
        The outputs of every block, for view 0 and for view 1.
    """
    outputs0, outputs1 = [], []
    for block0, block1 in blocks:
        tokens0, tokens1 = block0(tokens0, tokens1, rotary0, rotary1), block1(tokens1, tokens0, rotary1, rotary0)
        outputs0.append(tokens0)
        outputs1.append(tokens1)
    return outputs0, outputs1
