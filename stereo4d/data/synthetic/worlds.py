"""What every synthetic world offers and what draws worlds: the seam between worlds and what is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stereo4d.data.synthetic.render import Rendered
    from stereo4d.data.synthetic.world import Draw


class Scenes(ABC):
    """B worlds, each with a moving camera, in continuous clip time."""

    @abstractmethod
    def camera_pose(self, time: Tensor) -> Tensor:
        """(B, 4, 4) cam2world at clip times (B,)."""

    @abstractmethod
    def camera_intrinsics(self, height: int, width: int) -> Tensor:
        """(B, 3, 3), pixels."""

    @abstractmethod
    def render(self, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Rendered:
        """What cameras (B, 4, 4) see at clip times (B,)."""

    @abstractmethod
    def surface_position(self, surface: Tensor, local: Tensor, time: Tensor) -> Tensor:
        """(B, ..., 3) where surface points are in the world at clip times (B,)."""

    @abstractmethod
    def photographed(self, rgb: Tensor, draw: Draw) -> Tensor:
        """Clean colours (B, H, W, 3) in [0, 1] as network images (B, 3, H, W), with what cameras do to them."""


class Worlds(ABC):
    """Draws worlds at random; what ``world`` of the synthetic data takes."""

    pair_gap: tuple[float, float] = (0.04, 1.0)
    """Range of the time between the two images of a pair, log-uniform."""

    def drawn(self, seed: int) -> Worlds:
        """The worlds that a batch of this seed is drawn from; another's where this one only chooses among others."""
        return self

    @abstractmethod
    def scenes(self, batch: int, *, seed: int, device: torch.device | str) -> Scenes:
        """Draw B worlds; the same seed gives the same worlds on the same kind of device."""
