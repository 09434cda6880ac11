"""What an alignment shows of itself while it runs: one step after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AlignmentStep:
    """The state of an alignment before its first step, and after every step."""

    level: int
    """Which stage of the descent from coarse to fine."""
    loss: float
    """The solver's loss on the pixels of this level."""
    cam2world: Tensor
    """(N, 4, 4) float32, in the gauge of the answer."""
    intrinsics: Tensor
    """(N, 3, 3) float32, pixels at the resolution of the pairs."""
    residual: Tensor
    """(N, h, w) float32: of every pixel of the level's grid, the weighted mean over pairs of the distance between its
    point and what the pair says, as a share of the scene's size."""


Watch = Callable[[AlignmentStep], None]
"""Called before the first step and after every step."""
