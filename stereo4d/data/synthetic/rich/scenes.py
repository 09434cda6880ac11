"""B rich worlds: drawn from a seed, moving in continuous time, seen by cameras."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from stereo4d.data.synthetic.motion import centred_intrinsics
from stereo4d.data.synthetic.render import Rendered, camera_rays
from stereo4d.data.synthetic.rich.bodies import Bodies
from stereo4d.data.synthetic.rich.cast import FIRST_BODY, PACKET, SKY, Hit, Placed, cast
from stereo4d.data.synthetic.rich.config import Picture, RichWorlds
from stereo4d.data.synthetic.rich.furnish import furnish
from stereo4d.data.synthetic.rich.kinds import rows
from stereo4d.data.synthetic.rich.layout import CameraPath, Hull, draw_cameras, draw_hull
from stereo4d.data.synthetic.rich.photo import photograph, smeared
from stereo4d.data.synthetic.rich.shade import Look, draw_look, shade
from stereo4d.data.synthetic.surface_motion import BodyMotion, SurfaceMotion
from stereo4d.data.synthetic.world import Draw
from stereo4d.data.synthetic.worlds import Scenes
from stereo4d.geometry.camera import pixel_grid

TILE = 8
"""A packet of rays is a square of pixels."""
T = TypeVar("T")


@dataclass(frozen=True)
class RichScenes(Scenes):
    """B rich worlds."""

    kind: Tensor
    """(B,) int64: number of the kind, as the configuration lists them."""
    hull: Hull
    camera: CameraPath
    bodies: Bodies
    look: Look
    shutter: Tensor
    """(B,): clip time that a picture is exposed; 0 for sharp ones."""
    picture: Picture

    def camera_pose(self, time: Tensor) -> Tensor:
        """(B, 4, 4) cam2world at clip times (B,)."""
        return self.camera.pose(time)

    def camera_intrinsics(self, height: int, width: int) -> Tensor:
        """(B, 3, 3), pixels."""
        return centred_intrinsics(self.camera.field_of_view, height, width)

    def placed(self, time: Tensor) -> Placed:
        """The worlds at clip times (B,)."""
        return Placed(self.hull.planes, self.bodies, *self.bodies.maps(time))

    def render(self, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Rendered:
        """What cameras (B, 4, 4) see at clip times (B,)."""
        rays, across, down = _tiled_rays(cam2world, intrinsics, height, width)
        placed, eye = self.placed(time), cam2world[:, :3, 3]
        hit = cast(placed, eye, rays)
        colour = shade(self.look, placed, eye, rays, hit, 1 / intrinsics[:, 0, 0])
        walls = torch.zeros(len(eye), FIRST_BODY, 1, dtype=torch.bool, device=eye.device)
        moving = torch.cat([walls[..., 0], self.bodies.moving], 1).gather(1, hit.surface)

        def image(value: Tensor) -> Tensor:
            """(B, tiles, pixels of a tile, C) laid out as (B, H, W, C)."""
            tiles = value.view(len(eye), down, across, TILE, TILE, -1).transpose(2, 3)
            return tiles.reshape(len(eye), down * TILE, across * TILE, -1)[:, :height, :width]

        surface = image(hit.surface)[..., 0]
        seen = Rendered(
            rgb=image(colour),
            depth=image(torch.where(hit.surface == SKY, 0, hit.distance))[..., 0],
            surface=surface,
            local=image(hit.local),
            moving=image(moving)[..., 0],
            sky=surface == SKY,
        )
        return replace(seen, rgb=smeared(self, seen, time, intrinsics))

    def cast(self, time: Tensor, origin: Tensor, direction: Tensor) -> Hit:
        """The first surfaces along any (B, P, 3) rays from (B, 3) at clip times (B,)."""
        rays = direction.shape[1]
        padded = torch.cat([direction, direction[:, -1:].expand(-1, -rays % PACKET, -1)], 1)
        hit = cast(self.placed(time), origin, padded)
        return Hit(**{item.name: getattr(hit, item.name)[:, :rays] for item in fields(Hit)})

    def surface_motion(self) -> SurfaceMotion:
        """How bodies move."""
        return BodyMotion(self.bodies)

    def surface_position(self, surface: Tensor, local: Tensor, time: Tensor) -> Tensor:
        """(B, ..., 3) where surface points are in the world at clip times (B,); what does not move stays.

        Args:
            surface: (B, ...) as rendered.
            local: (B, ..., 3) as rendered: on the unit shape of a body, in the world on walls.
            time: (B,).
        """
        linear, centre = self.bodies.maps(time)
        maps = torch.cat([linear.transpose(-1, -2).flatten(-2), centre], -1).transpose(1, 2)  # (B, 12, K)
        stays = (
            torch.eye(4, 3, dtype=maps.dtype, device=maps.device).reshape(1, 12, 1).expand(len(maps), 12, FIRST_BODY)
        )
        rows = surface.reshape(len(surface), 1, -1).expand(-1, 12, -1)
        x_axis, y_axis, z_axis, origin = torch.cat([stays, maps], 2).gather(2, rows).split(3, 1)  # (B, 3, P) each
        x, y, z = local.reshape(len(local), 1, -1, 3).unbind(-1)
        points = x * x_axis + y * y_axis + z * z_axis + origin
        return points.transpose(1, 2).reshape(local.shape)

    def photographed(self, rgb: Tensor, draw: Draw) -> Tensor:
        """(B, 3, H, W) in [-1, 1]: focus, exposure, noise and compression, each image its own."""
        return photograph(rgb, self.picture, draw)


def _tiled_rays(cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
    """(B, P, 3) rays of pixels tile by tile, and how many tiles lie across and down; the last may overhang."""
    across, down = -(-width // TILE), -(-height // TILE)
    grid = pixel_grid(down * TILE, across * TILE, device=cam2world.device).to(cam2world.dtype)
    pixels = grid.view(down, TILE, across, TILE, 2).transpose(1, 2).reshape(1, -1, 2)
    return camera_rays(cam2world, intrinsics, pixels), across, down


def draw_scenes(config: RichWorlds, batch: int, *, seed: int, device: torch.device | str) -> RichScenes:
    """Draw B rich worlds; the same seed gives the same worlds on the same kind of device."""
    draw = Draw(seed, device)
    chosen = torch.randint(len(config.kinds), (batch,), generator=draw.generator, device=draw.device)
    kind = rows(config.kinds, chosen)
    hull = draw_hull(kind, draw)
    camera = draw_cameras(config.cameras, kind, hull, draw)
    bodies = furnish(config.things, kind, hull, camera, draw)
    look = draw_look(config.surfaces, config.light, kind, hull, bodies.half, draw)
    blurred = draw.uniform(batch) < config.picture.motion_blur_share
    shutter = torch.where(blurred, config.picture.shutter * draw.uniform(batch), 0)
    return RichScenes(chosen, hull, camera, bodies, look, shutter, config.picture)


def mapped(value: T, change: object) -> T:
    """A dataclass of tensors, nested or not, with a function applied to every tensor."""
    if isinstance(value, Tensor):
        return change(value)  # type: ignore[operator]
    if is_dataclass(value) and not isinstance(value, Picture):
        return replace(value, **{f.name: mapped(getattr(value, f.name), change) for f in fields(value)})  # type: ignore[type-var]
    return value
