"""Where a token stands: what attention asks of rotary positions, and the fixed cosine embedding of CroCo v1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
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
    # NumPy's arithmetic: torch's would import its compiler, for seconds, where a network is made without storage
    frequencies = 10000.0 ** -(np.arange(dim // 4, dtype=np.float64) / (dim // 4))
    y, x = np.indices((rows, columns), np.float64).reshape(2, -1, 1)
    angles_x, angles_y = x * frequencies, y * frequencies  # (T, dim / 4)
    # x first: the opposite order of rotary positions
    parts = [np.sin(angles_x), np.cos(angles_x), np.sin(angles_y), np.cos(angles_y)]
    return torch.as_tensor(np.concatenate(parts, axis=1).astype(np.float32))


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
