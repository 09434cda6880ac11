"""How surface points of one synthetic world move, kept beside a clip: with it the exact truth of motion at any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.synthetic.motion import object_poses, surface_position
from stereo4d.data.synthetic.rich.bodies import Bodies
from stereo4d.data.synthetic.rich.cast import FIRST_BODY
from stereo4d.data.synthetic.world import WALLS, World
from stereo4d.errors import InputError
from stereo4d.geometry.rigid import invert


class SurfaceMotion(ABC):
    """Moves points with the surfaces that they lie on."""

    group: ClassVar[str]
    """What its arrays are filed under."""

    @abstractmethod
    def carried(self, surface: Tensor, points: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Where points are later.

        Args:
            surface: (1, H, W) int64 surface ids as rendered.
            points: (1, H, W, 3) in the world at ``start``.
            start: (1,) clip time.
            end: (1,) clip time, any real number.

        Returns:
            (1, H, W, 3) in the world.
        """

    @abstractmethod
    def tensors(self) -> Any:
        """The dataclass of tensors that it is made of."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a truth file keeps of it."""
        held = self.tensors()
        return {f"{self.group}/{item.name}": getattr(held, item.name).numpy() for item in fields(held)}


@dataclass(frozen=True)
class RoomMotion(SurfaceMotion):
    """Of a plain room."""

    world: World
    """One world (batch of one)."""
    group: ClassVar[str] = "world"

    def tensors(self) -> World:
        """The world."""
        return self.world

    def carried(self, surface: Tensor, points: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """See ``SurfaceMotion``."""
        still = torch.eye(4).expand(len(points), WALLS, 4, 4)
        to_local = invert(torch.cat([still, object_poses(self.world, start)], 1))[0, surface[0]]  # (H, W, 4, 4)
        local = ((to_local[..., :3, :3] @ points[0][..., None])[..., 0] + to_local[..., :3, 3])[None]
        return surface_position(self.world, surface, local, end)


@dataclass(frozen=True)
class BodyMotion(SurfaceMotion):
    """Of a rich world; what is not a body stays where it is."""

    bodies: Bodies
    """Of one world (batch of one)."""
    group: ClassVar[str] = "bodies"

    def tensors(self) -> Bodies:
        """The bodies."""
        return self.bodies

    def carried(self, surface: Tensor, points: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """See ``SurfaceMotion``."""
        then, now = self._maps(start), self._maps(end)
        change = (now @ torch.linalg.inv(then)).float()[surface[0]]  # (H, W, 4, 4)
        return ((change[..., :3, :3] @ points[0][..., None])[..., 0] + change[..., :3, 3])[None]

    def _maps(self, time: Tensor) -> Tensor:
        """(S, 4, 4) float64: unit shapes, and what has none, to the world."""
        linear, centre = self.bodies.maps(time)
        maps = torch.eye(4, dtype=torch.float64).repeat(FIRST_BODY + linear.shape[1], 1, 1)
        maps[FIRST_BODY:, :3, :3], maps[FIRST_BODY:, :3, 3] = linear[0].double(), centre[0].double()
        return maps


def read_motion(arrays: Mapping[str, np.ndarray]) -> SurfaceMotion:
    """The motion that a truth file keeps.

    Raises:
        InputError: it keeps none that is known here.
    """
    for kind, held in ((RoomMotion, World), (BodyMotion, Bodies)):
        names = [item.name for item in fields(held)]
        if all(f"{kind.group}/{name}" in arrays for name in names):
            read = held(**{name: torch.from_numpy(np.array(arrays[f"{kind.group}/{name}"])) for name in names})
            return kind(read)  # type: ignore[arg-type]
    raise InputError("the truth file says nothing of how the world moves; make the clip anew: stereo4d synthesize")
