"""Attention with rotary positions, and the small layers that encoder and decoder share.

Parameter names are those of the published checkpoints. All letters: B batch, T tokens, C channels, h heads, d = C / h.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from stereo4d.errors import ShapeError, UsageError
from stereo4d.network.positions import Rotary, Rotation

LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class RotaryTable:
    """Cosines and sines of one set of token positions, made once per pass and used by every block."""

    cos: Tensor
    """(B, T, 2, d/4) float32; the 2 is (y, x)."""
    sin: Tensor
    """(B, T, 2, d/4) float32."""

    def rotate(self, vectors: Tensor) -> Tensor:
        """Rotate (B, T, ..., d) query or key vectors, in float32, and return them in their own dtype."""
        batch, count, axes, quarter = self.cos.shape
        shape = (batch, count) + (1,) * (vectors.ndim - 3) + (axes, quarter)
        cos, sin = self.cos.view(shape), self.sin.view(shape)
        # a head vector is laid out [u_y | v_y | u_x | v_x], each d/4 long
        first, second = vectors.unflatten(-1, (2, 2, quarter)).unbind(-2)
        rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-2)
        return rotated.flatten(-3).to(vectors.dtype)


@dataclass(frozen=True)
class Rotary2D:
    """Rotary position embedding in two dimensions: the first half of a head turns with y, the second with x."""

    head_dim: int
    base: float = 100.0

    def __post_init__(self) -> None:
        if self.head_dim % 4:
            raise UsageError(
                f"a head is {self.head_dim} channels wide; rotary positions need a multiple of 4: "
                "change the width or the number of heads"
            )

    def table(self, positions: Tensor) -> RotaryTable:
        """Cosines and sines of (B, T, 2) integer positions (y, x)."""
        half = self.head_dim // 2
        exponents = torch.arange(0, half, 2, dtype=torch.float32, device=positions.device) / half
        # float32 whatever the tokens are: rounding the angles to bfloat16 costs an error of 0.16 on a 32x21 grid
        frequencies = 1.0 / self.base**exponents
        angles = positions[..., None].float() * frequencies  # (B, T, 2, d/4)
        return RotaryTable(angles.cos(), angles.sin())


@lru_cache(maxsize=64)
def _grid(rows: int, columns: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a cached inference tensor could not be used in training later
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        return torch.stack([y, x], dim=-1).view(1, rows * columns, 2)


def token_positions(rows: int, columns: int, batch: int, device: torch.device) -> Tensor:
    """(B, T, 2) int64 positions (y, x) of a row-major token grid; a read-only view of a cached tensor."""
    return _grid(rows, columns, device).expand(batch, -1, -1)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, T, C) to (B, T, h, d)."""
    return rearrange(tokens, "b t (h d) -> b t h d", h=heads)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Fused softmax attention of (B, Tq, h, d) queries on (B, Tk, h, d) keys and values: (B, Tq, C)."""
    mixed = functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return rearrange(mixed, "b h t d -> b t (h d)")


class SelfAttention(nn.Module):
    """Self-attention; queries and keys are rotated by the positions of their tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"width {dim} is not a multiple of {heads} heads; choose widths and heads that divide")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, rotary: Rotation) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        qkv = rearrange(self.qkv(tokens), "b t (n h d) -> b t n h d", n=3, h=self.heads)
        query, key = rotary.rotate(qkv[:, :, :2]).unbind(2)  # both at once: half the small operations
        return self.proj(attend(query, key, qkv[:, :, 2]))


class CrossAttention(nn.Module):
    """Attention of one view's tokens on the other's, each with its own positions."""

    def __init__(self, dim: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = rotary
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, query_tokens: Tensor, memory: Tensor, rotary_q: Rotation, rotary_k: Rotation) -> Tensor:
        """Attend (B, Tq, C) on (B, Tk, C) memory: (B, Tq, C)."""
        query = rotary_q.rotate(split_heads(self.projq(query_tokens), self.heads))
        key = rotary_k.rotate(split_heads(self.projk(memory), self.heads))
        return self.proj(attend(query, key, split_heads(self.projv(memory), self.heads)))

    def logits(
        self, query_tokens: Tensor, key_tokens: Tensor, pos_q: Tensor, pos_k: Tensor, *, first: int | None = None
    ) -> Tensor:
        """Scaled attention logits before the softmax, which the fused path never forms.

        Args:
            query_tokens: (B, Tq, C), already normalised (``norm2`` of the block).
            key_tokens: (B, Tk, C), already normalised (``norm_y`` of the block).
            pos_q: (B, Tq, 2) positions (y, x).
            pos_k: (B, Tk, 2).
            first: how many heads, from the first on, are wanted; by default all.

        Returns:
            (B, h, Tq, Tk), h heads.
        """
        heads = self.heads if first is None else first
        query = self.rotary.table(pos_q).rotate(_projected(self.projq, query_tokens, heads, self.rotary.head_dim))
        key = self.rotary.table(pos_k).rotate(_projected(self.projk, key_tokens, heads, self.rotary.head_dim))
        return query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * self.rotary.head_dim**-0.5


def _projected(layer: nn.Linear, tokens: Tensor, heads: int, head_dim: int) -> Tensor:
    """(B, T, h, d): what the layer makes for the first heads, without computing the others."""
    rows = heads * head_dim
    return split_heads(functional.linear(tokens, layer.weight[:rows], layer.bias[:rows]), heads)


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim if out is None else out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) to (..., out)."""
        return self.fc2(functional.gelu(self.fc1(tokens)))


def layer_norm(dim: int) -> nn.LayerNorm:
    """The family's LayerNorm: affine, eps 1e-6."""
    return nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


def check_multiple(height: int, width: int, patch_size: int) -> None:
    """Refuse image sizes that the patch grid does not cover.

    Raises:
        ShapeError: a side is not a multiple of the patch size.
    """
    if height % patch_size or width % patch_size:
        raise ShapeError(
            f"image of {height}x{width} pixels (height x width): both must be multiples of the patch size "
            f"{patch_size}; prepare it with stereo4d.data.transforms.prepare_image"
        )
