"""Drawing rich worlds: hull, camera path and what stands in front of the camera."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.data.synthetic.motion import look_along
from stereo4d.data.synthetic.rich.cast import PLANES
from stereo4d.data.synthetic.rich.config import Cameras
from stereo4d.data.synthetic.rich.kinds import Kind
from stereo4d.data.synthetic.world import Draw

AWAY = 1e6
MARGIN = 0.3
"""Metres that the camera keeps from walls."""
Numbers = dict[str, Tensor]


def between(value: Tensor, draw: Draw, *shape: int) -> Tensor:
    """(B, ...) uniform numbers in each world's range (B, 2)."""
    low, high = (value[:, i].view(-1, *(1 for _ in shape)) for i in (0, 1))
    return low + (high - low) * draw.uniform(len(value), *shape)


def log_between(value: Tensor, draw: Draw, *shape: int) -> Tensor:
    """(B, ...) numbers in each world's range (B, 2) whose logarithm is uniform."""
    return between(value.log(), draw, *shape).exp()


@dataclass(frozen=True)
class Hull:
    """Where worlds end: B convex rooms, or grounds under a sky."""

    planes: Tensor
    """(B, 8, 4) as in ``cast.Placed``: floor, ceiling, four walls, two that cut corners or slope."""
    floor: Tensor
    """(B,): y of the floor."""
    half: Tensor
    """(B, 3): half sides of the box, from its middle in x and z."""


def draw_hull(kind: Numbers, draw: Draw) -> Hull:
    """Rooms: boxes whose corner or edge is cut, at times; open places: a ground, with a hillside at times."""
    batch, device = len(kind["open"]), draw.device
    half = torch.stack([between(kind[name], draw) / 2 for name in ("width", "height", "length")], -1)
    floor = between(kind["eye"], draw)
    ceiling = 2 * half[:, 1] - floor
    normal = torch.zeros(batch, PLANES, 3, device=device)
    for number, (axis, sign) in enumerate(((1, -1), (1, 1), (0, 1), (0, -1), (2, 1), (2, -1))):
        normal[:, number, axis] = sign
    low = torch.stack([floor, ceiling, half[:, 0], half[:, 0], half[:, 2], half[:, 2]], -1)
    # a cut corner: far enough out to leave the middle free
    turn = draw.uniform(batch, low=0.4, high=1.2) + torch.pi / 2 * draw.uniform(batch, high=4).floor()
    normal[:, 6] = torch.stack([turn.sin(), torch.zeros_like(turn), turn.cos()], -1)
    corner = half[:, 0] * turn.sin().abs() + half[:, 2] * turn.cos().abs()
    # a sloping ceiling; outside a hillside, which rises behind what stands in front of it
    side = draw.uniform(batch, high=2 * torch.pi)
    tilt = torch.where(
        kind["open"] > 0, draw.uniform(batch, low=-1.5, high=-1.25), draw.uniform(batch, low=0.4, high=1.0)
    )
    normal[:, 7] = torch.stack([side.sin() * tilt.cos(), tilt.sin(), side.cos() * tilt.cos()], -1)
    ridge = ceiling * tilt.sin() + 0.7 * torch.minimum(half[:, 0], half[:, 2]) * tilt.cos()
    hill = -floor * tilt.sin() + 1.2 * half[:, 2] * tilt.cos()
    cut = torch.stack(
        [corner * draw.uniform(batch, low=0.65, high=0.9), torch.where(kind["open"] > 0, hill, ridge)], -1
    )
    cut = torch.where(draw.uniform(batch, 2) < 0.4, cut, AWAY)
    offset = torch.cat([low, cut], -1)
    outside = (kind["open"] > 0)[:, None] & torch.tensor([False, *[True] * 6, False], device=device)
    return Hull(torch.cat([normal, torch.where(outside, AWAY, offset)[..., None]], -1), floor, half)


@dataclass(frozen=True)
class CameraPath:
    """B moving cameras."""

    eye: Tensor
    """(B, 3) at time 0."""
    travel: Tensor
    """(B, 3) over the clip."""
    sway: Tensor
    """(B, 3): amplitude of a sine added to it."""
    target: Tensor
    """(B, 3): point looked at at time 0."""
    target_travel: Tensor
    """(B, 3)."""
    roll: Tensor
    """(B, 2): at time 0, and its change."""
    field_of_view: Tensor
    """(B,): along the longer side."""

    def eye_at(self, time: Tensor) -> Tensor:
        """(B, 3) centres at clip times (B,)."""
        t = time[:, None]
        return self.eye + self.travel * t + self.sway * torch.sin(2 * torch.pi * t)

    def pose(self, time: Tensor) -> Tensor:
        """(B, 4, 4) cam2world at clip times (B,)."""
        eye = self.eye_at(time)
        forward = torch.nn.functional.normalize(self.target + self.target_travel * time[:, None] - eye, dim=-1)
        return look_along(eye, forward, self.roll[:, 0] + self.roll[:, 1] * time)


def draw_cameras(config: Cameras, kind: Numbers, hull: Hull, draw: Draw) -> CameraPath:
    """Cameras that stay inside their hulls."""
    batch = len(hull.floor)
    yaw = kind["aligned"] * draw.normal(batch)
    ahead = torch.stack([yaw.sin(), torch.zeros_like(yaw), yaw.cos()], -1)
    wide = torch.minimum(hull.half, torch.tensor([8.0, 9.0, 8.0], device=draw.device))
    wide = torch.where((kind["open"] > 0)[:, None], 0.2 * wide, wide)
    eye = -0.5 * wide * ahead + 0.25 * wide * draw.uniform(batch, 3, low=-1, high=1)
    eye[:, 1] = 0
    pitch = between(kind["pitch"], draw)
    distance = between(kind["distance"], draw)[:, None]
    look = ahead * pitch.cos()[:, None]
    look[:, 1] = pitch.sin()
    total = config.wander + config.forward + config.turn + config.still
    style = draw.uniform(batch, 1) * total
    wanders = style < config.wander
    forward = ~wanders & (style < config.wander + config.forward)
    turns = ~wanders & ~forward & (style < total - config.still)
    far = draw.log_uniform(batch, 1, low=config.travel[0], high=config.travel[1])
    far = far * (distance / 3).clamp(0.3, 3)
    anywhere = torch.nn.functional.normalize(
        draw.normal(batch, 3) * torch.tensor([1.0, 0.35, 1.0], device=draw.device), dim=-1
    )
    way = torch.where(forward, look * torch.tensor([1.0, 0.2, 1.0], device=draw.device), anywhere)
    travel = far * torch.where(wanders | forward, way, 0)
    # as much of the way as keeps the margin to every wall
    normals, offsets = hull.planes[..., :3], hull.planes[..., 3]
    room = (normals @ eye[..., None])[..., 0] + offsets - MARGIN
    approach = -(normals @ travel[..., None])[..., 0]
    share = torch.where(approach > 1e-6, room.clamp(min=0) / approach.clamp(min=1e-6), 1.0).amin(-1).clamp(max=1)
    travel = share[:, None] * travel
    swing = draw.uniform(batch, 3, low=-1, high=1) * torch.tensor([0.45, 0.15, 0.45], device=draw.device)
    sweep = distance * torch.where(turns, 1.6 * swing, torch.where(wanders, 0.8 * swing, 0.0))
    hand = torch.where(wanders | forward, 0.02 * draw.normal(batch, 3), 0)
    return CameraPath(
        eye=eye,
        travel=travel,
        sway=hand,
        target=eye + distance * look,
        target_travel=travel + sweep,
        roll=config.roll
        * draw.normal(batch, 2)
        * torch.cat([torch.ones_like(style), (style < total - config.still)], 1),
        field_of_view=draw.uniform(batch, low=config.field_of_view[0], high=config.field_of_view[1]),
    )


def ground_places(camera: CameraPath, distance: Tensor, aside: Tensor) -> Tensor:
    """(B, n, 3) places by distance (B, n) along the view and to its side, at eye height."""
    ahead = (camera.target - camera.eye) * torch.tensor([1.0, 0.0, 1.0], device=distance.device)
    ahead = torch.nn.functional.normalize(ahead, dim=-1)
    right = torch.stack([ahead[:, 2], ahead[:, 1], -ahead[:, 0]], -1)
    return camera.eye[:, None] + distance[..., None] * ahead[:, None] + aside[..., None] * right[:, None]


__all__ = ["CameraPath", "Hull", "Kind", "between", "draw_cameras", "draw_hull", "ground_places", "log_between"]
