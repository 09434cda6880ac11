"""Where a token stands: what attention asks of rotary positions, and the fixed cosine embedding of CroCo v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stereo4d.errors import UsageError

COSINE = "cosine"
"""The ``pos_embed`` of networks whose tokens carry an added embedding instead of rotary positions."""


class Rotation(Protocol):
    """One set of token positions, as attention uses it."""

    def rotate(self, vectors: Tensor) -> Tensor:
        """Turn (B, T, ..., d) query or key vectors by the positions of their tokens."""


class Rotary(Protocol):
    """Makes rotations from positions."""

    @property
    def head_dim(self) -> int:
        """d, the channels of one head."""

    def table(self, positions: Tensor) -> Rotation:
        """The rotation of (B, T, 2) integer positions (y, x)."""


@dataclass(frozen=True)
class NoRotation:
    """Leaves vectors as they are."""

    def rotate(self, vectors: Tensor) -> Tensor:
        """The vectors themselves."""
        return vectors


@dataclass(frozen=True)
class NoRotary:
    """Stands where rotary positions would, in networks whose tokens carry an added embedding."""

    head_dim: int

    def table(self, positions: Tensor) -> NoRotation:
        """Nothing depends on the positions."""
        return NoRotation()


def cosine_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Fixed embedding of a row-major token grid: ``[sin x | cos x | sin y | cos y]`` at dim / 4 frequencies.

    Returns:
        (rows * columns, dim) float32, computed in float64.

    Raises:
        UsageError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise UsageError(f"tokens are {dim} channels wide; cosine positions need a multiple of 4: change the width")
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    angles_x, angles_y = x.reshape(-1, 1) * frequencies, y.reshape(-1, 1) * frequencies  # (T, dim / 4)
    # x first: the opposite order of rotary positions
    return torch.cat([angles_x.sin(), angles_x.cos(), angles_y.sin(), angles_y.cos()], dim=1).float()


def resize_positions(embedding: Tensor, grid: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Stretch an embedding over another token grid (bicubic), as networks are fine-tuned at another resolution.

    Args:
        embedding: (rows * columns, C).
        grid: (rows, columns) that it was made for.
        to: (rows, columns) that it shall serve.

    Returns:
        (rows' * columns', C).
    """
    if grid == to:
        return embedding
    maps = embedding.T.reshape(1, -1, *grid)  # (1, C, rows, columns)
    return functional.interpolate(maps, size=to, mode="bicubic", align_corners=False)[0].flatten(1).T.contiguous()
