"""Query times as vectors, and how they enter a DPT's levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stereo4d.errors import UsageError


class TimeEmbedding(nn.Module):
    """Cosines and sines of a time at frequencies that fall geometrically; no parameters."""

    def __init__(self, dim: int, *, max_period: float = 1e4, time_scale: float = 1.0) -> None:
        """Choose frequencies.

        Args:
            dim: channels, even: half are cosines, half are sines.
            max_period: frequencies fall from 1 to nearly 1 / max_period.
            time_scale: times are multiplied by it; 1 is what the unofficial DynaDUSt3R weights were trained with.
        """
        super().__init__()
        if dim < 2 or dim % 2:
            raise UsageError(f"embed_dim {dim} must be even and positive: half of it are cosines, half are sines")
        self.dim, self.max_period, self.time_scale = dim, max_period, time_scale

    def forward(self, times: Tensor) -> Tensor:
        """(...,) times to (..., dim)."""
        half = self.dim // 2
        exponents = torch.arange(half, device=times.device, dtype=times.dtype) / half
        angles = times[..., None] * self.time_scale * self.max_period**-exponents
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class AddedTime(nn.ModuleList):
    """A vector per time and level, added everywhere on the level's map (DynaDUSt3R, Jin et al. 2025).

    Args:
        embed_dim: width of the time embedding.
        level_dim: channels of the levels.
        levels: how many there are.
    """

    def __init__(self, embed_dim: int, level_dim: int, levels: int) -> None:
        super().__init__(
            nn.Sequential(nn.Linear(embed_dim, level_dim), nn.SiLU(), nn.Linear(level_dim, level_dim))
            for _ in range(levels)
        )

    def condition(self, levels: Sequence[Tensor], embedding: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) of every level and (B, Q, embed_dim) times to maps (B * Q, C, h, w)."""
        return [
            (maps[:, None] + project(embedding)[..., None, None]).flatten(0, 1)
            for maps, project in zip(levels, self, strict=True)
        ]
