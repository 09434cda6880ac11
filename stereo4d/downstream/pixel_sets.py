"""The pixels of two images that take part in a match, and their features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import ShapeError, UsageError


@dataclass(frozen=True)
class PixelSet:
    """The P usable pixels of one image, in reading order."""

    features: Tensor
    """(P, K) float32."""
    places: Tensor
    """(P,) int64: y * W + x."""
    size: tuple[int, int]
    """(H, W)."""

    def __len__(self) -> int:
        return len(self.places)

    def pixels(self, chosen: Tensor) -> Tensor:
        """(N, 2) float32 (x, y) of some of the pixels."""
        places = self.places[chosen]
        return torch.stack([places % self.size[1], places // self.size[1]], dim=1).float()

    def on_grid(self, stride: int) -> Tensor:
        """Those on a grid whose margins are half its stride."""
        (height, width), start = self.size, stride // 2
        y, x = self.places // width, self.places % width
        met = (y % stride == min(start, height - 1)) & (x % stride == min(start, width - 1))
        return met.nonzero().squeeze(1)


def pixel_sets(
    features0: Tensor, features1: Tensor, usable0: Tensor | None, usable1: Tensor | None
) -> tuple[PixelSet, PixelSet]:
    """What takes part of two maps (H, W, K) and (H', W', K); the second goes where the first is.

    Args:
        features0: (H, W, K).
        features1: (H', W', K).
        usable0: (H, W) bool; None: all.
        usable1: (H', W') bool; None: all.

    Raises:
        ShapeError: the shapes do not fit.
        UsageError: a usable feature is not finite.
    """
    if features0.ndim != 3 or features1.ndim != 3 or features0.shape[2] != features1.shape[2]:
        shapes = f"{tuple(features0.shape)} and {tuple(features1.shape)}"
        raise ShapeError(f"features {shapes} must be (H, W, K) and (H', W', K): maps of one pair, of one width")
    return _pixel_set(features0, usable0, 0), _pixel_set(features1.to(features0.device), usable1, 1)


def _pixel_set(features: Tensor, usable: Tensor | None, view: int) -> PixelSet:
    height, width = features.shape[:2]
    if usable is None:
        usable = torch.ones(height, width, dtype=torch.bool)
    if usable.shape != (height, width) or usable.dtype != torch.bool:
        raise ShapeError(f"usable{view} {tuple(usable.shape)} {usable.dtype} must be ({height}, {width}) bool")
    places = usable.to(features.device).flatten().nonzero().squeeze(1)
    chosen = features.detach().flatten(0, 1)[places].float()
    if not chosen.isfinite().all():
        bad = int((~chosen.isfinite().all(1)).sum())
        raise UsageError(
            f"{bad} of {len(chosen)} usable pixels of view {view} have features that are not finite; "
            f"leave them out with usable{view}"
        )
    return PixelSet(chosen, places, (height, width))


def inside(usable: Tensor, border: int) -> Tensor:
    """The mask (H, W) without a border of this many pixels.

    Raises:
        UsageError: the border is negative.
    """
    if border < 0:
        raise UsageError(f"border {border} must be at least 0 pixels")
    height, width = usable.shape
    kept = torch.zeros_like(usable)
    kept[border : height - border, border : width - border] = True
    return usable & kept
