"""The plain rooms of ``world`` as scenes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose, surface_position
from stereo4d.data.synthetic.render import Rendered, render
from stereo4d.data.synthetic.surface_motion import RoomMotion, SurfaceMotion
from stereo4d.data.synthetic.world import Draw, World, WorldConfig
from stereo4d.data.synthetic.worlds import Scenes


@dataclass(frozen=True)
class RoomScenes(Scenes):
    """B plain rooms and the knobs of their pictures."""

    world: World
    config: WorldConfig

    def camera_pose(self, time: Tensor) -> Tensor:
        """(B, 4, 4) cam2world at clip times (B,)."""
        return camera_pose(self.world, time)

    def camera_intrinsics(self, height: int, width: int) -> Tensor:
        """(B, 3, 3), pixels."""
        return camera_intrinsics(self.world, height, width)

    def render(self, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Rendered:
        """What cameras (B, 4, 4) see at clip times (B,)."""
        return render(self.world, time, cam2world, intrinsics, height, width)

    def render_finely(self, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Rendered:
        """As ``render``, with colours of four rays a pixel."""
        return render(self.world, time, cam2world, intrinsics, height, width, samples=2)

    def surface_motion(self) -> SurfaceMotion:
        """How objects move."""
        return RoomMotion(self.world)

    def surface_position(self, surface: Tensor, local: Tensor, time: Tensor) -> Tensor:
        """(B, ..., 3) where surface points are in the world at clip times (B,)."""
        return surface_position(self.world, surface, local, time)

    def photographed(self, rgb: Tensor, draw: Draw) -> Tensor:
        """(B, 3, H, W) with exposure change and noise."""
        return photographed(rgb, self.config, draw)


def photographed(rgb: Tensor, config: WorldConfig, draw: Draw) -> Tensor:
    """Turn clean colours (B, H, W, 3) in [0, 1] into network images (B, 3, H, W) with exposure change and noise."""
    batch = len(rgb)
    gain = 1 + config.exposure * draw.uniform(batch, 1, 1, 1, low=-1, high=1)
    deviation = config.noise * draw.uniform(batch, 1, 1, 1)
    noisy = (gain * rgb + deviation * draw.normal(*rgb.shape)).clamp(0, 1)
    return (2 * noisy - 1).permute(0, 3, 1, 2).contiguous()
