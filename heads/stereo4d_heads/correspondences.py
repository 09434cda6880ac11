"""Which pixels of two views show the same surface point, and which of them a step of training looks at.

Source: MASt3R (Leroy et al. 2024), section 3.2: reciprocal nearest pixels, and random others to tell apart from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import UsageError


@dataclass(frozen=True)
class PixelPairs:
    """N pixels of view 0, each with one of view 1; pixels are counted row by row."""

    pixel0: Tensor
    """(N,) int64."""
    pixel1: Tensor
    """(N,) int64."""
    same: Tensor
    """(N,) bool: the two show the same surface point; otherwise they were drawn at random, to be told apart."""


@dataclass(frozen=True)
class PixelDraw:
    """Draws pixel pairs, always the same ones for the same pair of images.

    The draw follows from the matches themselves: it depends on neither the rest of the batch, nor the process, nor what
    was drawn before, so that training resumes exactly.
    """

    count: int = 8192
    """Of pixel pairs per image pair, or fewer, if there are not as many pixels."""
    random_share: float = 0.5
    """At least this share is random pixels that have no reciprocal match; where matches are few, it is more."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.random_share < 1:
            raise UsageError(
                f"count {self.count} and random_share {self.random_share}: at least one pixel pair must be drawn, and "
                "the random share must be in [0, 1)"
            )

    def __call__(self, match0: Tensor, match1: Tensor) -> PixelPairs:
        """Draw from one pair of images.

        Args:
            match0: (H, W, 2) where view 0's surface points are seen in view 1, in pixels (u, v); NaN where not.
            match1: (H, W, 2) where view 1's are seen in view 0.

        Returns:
            Pixel pairs in random order.
        """
        pixel0, pixel1 = reciprocal_pixels(match0, match1)
        device, generator = pixel0.device, _generator(pixel0, pixel1)
        kept = _shuffled(len(pixel0), generator)[: round(self.count * (1 - self.random_share))].to(device)
        alone0 = _others(pixel0, match0.shape[0] * match0.shape[1])
        alone1 = _others(pixel1, match1.shape[0] * match1.shape[1])
        fill = min(self.count - len(kept), len(alone0), len(alone1))
        alone0 = alone0[_shuffled(len(alone0), generator)[:fill].to(device)]
        alone1 = alone1[_shuffled(len(alone1), generator)[:fill].to(device)]
        order = _shuffled(len(kept) + fill, generator).to(device)
        return PixelPairs(
            torch.cat([pixel0[kept], alone0])[order],
            torch.cat([pixel1[kept], alone1])[order],
            (torch.arange(len(order), device=device) < len(kept))[order],
        )


def reciprocal_pixels(match0: Tensor, match1: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of view 0 and of view 1 that are each other's nearest.

    Args:
        match0: (H, W, 2), see ``PixelDraw``.
        match1: (H, W, 2).

    Returns:
        (M,) and (M,) int64, counted row by row; every pixel at most once.
    """
    there, back = _nearest(match0, match1.shape[:2]), _nearest(match1, match0.shape[:2])
    pixels = torch.arange(len(there), device=there.device)
    returned = (there >= 0) & (back[there.clamp(min=0)] == pixels)
    return pixels[returned], there[returned]


def _nearest(match: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """(P,) pixels of the other view, counted row by row, -1 where not seen or outside the image."""
    place = match.reshape(-1, 2)
    rounded = torch.nan_to_num(place, nan=-1.0, posinf=-1.0, neginf=-1.0).round().long()
    inside = (rounded >= 0).all(-1) & (rounded[:, 0] < size[1]) & (rounded[:, 1] < size[0])
    return torch.where(inside, rounded[:, 1] * size[1] + rounded[:, 0], -1)


def _others(pixels: Tensor, count: int) -> Tensor:
    free = torch.ones(count, dtype=torch.bool, device=pixels.device)
    free[pixels] = False
    return free.nonzero()[:, 0]


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def _generator(pixel0: Tensor, pixel1: Tensor) -> torch.Generator:
    """Seeded by the matches: sums of integers are the same on every device."""
    seed = (pixel0 * 2654435761 + pixel1 * 40503 + 1).sum().item()
    return torch.Generator().manual_seed(int(seed) & 0x7FFF_FFFF_FFFF_FFFF)
