"""What every synthetic world offers and what draws worlds: the seam between worlds and what is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stereo4d.errors import UsageError

if TYPE_CHECKING:
    from stereo4d.data.synthetic.render import Rendered
    from stereo4d.data.synthetic.surface_motion import SurfaceMotion
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

    def render_finely(self, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Rendered:
        """As ``render``, with colours of four rays a pixel: what a clip is made of."""
        twice = intrinsics.clone()
        twice[:, :2] *= 2
        twice[:, :2, 2] += 0.5  # pixel centres are integers: the middle of four lies between them
        fine = self.render(time, cam2world, twice, 2 * height, 2 * width).rgb
        rgb = fine.unflatten(2, (width, 2)).unflatten(1, (height, 2)).mean((2, 4))
        return replace(self.render(time, cam2world, intrinsics, height, width), rgb=rgb)

    def surface_motion(self) -> SurfaceMotion:
        """How the surfaces of the only world move, to be kept beside a clip.

        Raises:
            UsageError: these worlds cannot say it.
        """
        raise UsageError(f"{type(self).__name__} does not say how surfaces move, so no clip can be made of it")

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

    def steady(self) -> Worlds:
        """The same worlds, seen by a camera whose pictures are all made alike, as those of a clip are."""
        return self

    @abstractmethod
    def scenes(self, batch: int, *, seed: int, device: torch.device | str) -> Scenes:
        """Draw B worlds; the same seed gives the same worlds on the same kind of device."""
