"""Query times as vectors, and how they enter a DPT's levels."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class Conditioning(nn.ModuleList, ABC):
    """Tells the levels of a DPT the query time; one part per level.

    What it adds is zero at first, so that a head starts as if it knew no time.

    Args:
        embed_dim: width of the time embedding.
        level_dim: channels of the levels.
        levels: how many there are.
    """

    def __init__(self, embed_dim: int, level_dim: int, levels: int) -> None:
        super().__init__(self.part(embed_dim, level_dim) for _ in range(levels))

    @abstractmethod
    def part(self, embed_dim: int, level_dim: int) -> nn.Module:
        """What turns a time embedding into numbers for one level."""

    @abstractmethod
    def change(self, maps: Tensor, numbers: Tensor) -> Tensor:
        """Maps (B, 1, C, h, w) changed by numbers (B, Q, K, 1, 1): (B, Q, C, h, w)."""

    def condition(self, levels: Sequence[Tensor], embedding: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) of every level and (B, Q, embed_dim) times to maps (B * Q, C, h, w)."""
        return [
            self.change(maps[:, None], part(embedding)[..., None, None]).flatten(0, 1)
            for maps, part in zip(levels, self, strict=True)
        ]


class AddedTime(Conditioning):
    """A vector per time and level, added everywhere on the level's map (DynaDUSt3R, Jin et al. 2025)."""

    def part(self, embed_dim: int, level_dim: int) -> nn.Module:
        """See ``Conditioning.part``."""
        return _time_mlp(embed_dim, level_dim, level_dim)

    def change(self, maps: Tensor, numbers: Tensor) -> Tensor:
        """See ``Conditioning.change``."""
        return maps + numbers


class AdaptiveNorm(Conditioning):
    """Normalised maps, scaled and shifted by the time, added through a gate (as in DiT, Peebles and Xie 2023)."""

    def part(self, embed_dim: int, level_dim: int) -> nn.Module:
        """See ``Conditioning.part``: scale, shift and gate of every channel."""
        return _time_mlp(embed_dim, level_dim, 3 * level_dim)

    def change(self, maps: Tensor, numbers: Tensor) -> Tensor:
        """See ``Conditioning.change``."""
        scale, shift, gate = numbers.chunk(3, dim=2)
        deviation, mean = torch.std_mean(maps, dim=2, keepdim=True, correction=0)  # over channels, pixel by pixel
        return maps + gate * ((maps - mean) / (deviation + 1e-6) * (1 + scale) + shift)


class Timeless(Conditioning):
    """Every time gets the same maps: what a head can do that is not told the time."""

    def part(self, embed_dim: int, level_dim: int) -> nn.Module:
        """See ``Conditioning.part``: nothing."""
        return _NoNumbers()

    def change(self, maps: Tensor, numbers: Tensor) -> Tensor:
        """See ``Conditioning.change``."""
        return maps.expand(-1, numbers.shape[1], -1, -1, -1)


CONDITIONINGS: dict[str, type[Conditioning]] = {"added": AddedTime, "adaptive": AdaptiveNorm, "none": Timeless}


def conditioning_of(name: str) -> type[Conditioning]:
    """A way of telling the time by its name in a head's options.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CONDITIONINGS:
        raise UsageError(f"conditioning {name!r}; there are {', '.join(CONDITIONINGS)}")
    return CONDITIONINGS[name]


class _NoNumbers(nn.Module):
    """Says nothing about times."""

    def forward(self, embedding: Tensor) -> Tensor:
        """(..., C) to (..., 0)."""
        return embedding[..., :0]


def _time_mlp(embed_dim: int, hidden: int, out: int) -> nn.Sequential:
    """The two layers of the unofficial weights; nothing comes out of them at first."""
    last = nn.Linear(hidden, out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(embed_dim, hidden), nn.SiLU(), last)
