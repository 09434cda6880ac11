"""What a synthetic world is made of, and how one is drawn at random.

A room (an axis-aligned box seen from inside) holds ellipsoids, boxes and cylinders; some move, all carry solid textures
that move with them. Metres; world axes x right, y down, z forward; clip time runs from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stereo4d.data.synthetic.worlds import Scenes, Worlds

SHAPES = ("ellipsoid", "box", "cylinder")
"""Object k of every world has shape ``SHAPES[k % 3]``: a fixed layout lets whole batches be cast at once."""
WALLS = 6
"""Surfaces 0 ... 5 are the walls (x-, x+, y-, y+ the floor, z-, z+); surface 6 + k is object k."""
FLOOR = 3


@dataclass(frozen=True)
class WorldConfig(Worlds):
    """Knobs of the random world; lengths in metres, angles in radians, times in clip time [0, 1]."""

    objects: int = 6
    """K, objects per world."""
    moving_share: float = 0.5
    """Chance that an object moves."""
    room_size: tuple[float, float] = (4.0, 9.0)
    """Range of the room's width and length."""
    room_height: tuple[float, float] = (2.4, 3.6)
    object_radius: tuple[float, float] = (0.2, 0.65)
    """Range of an object's half extents."""
    object_travel: float = 1.2
    """Largest straight-line travel of a moving object over the clip."""
    object_turn: float = 2.5
    """Largest rotation of a moving object over the clip."""
    camera_travel: tuple[float, float] = (0.2, 1.6)
    """Range of the camera's straight-line travel over the clip."""
    target_travel: float = 1.5
    """Largest travel of the point the camera looks at."""
    camera_roll: float = 0.08
    """Standard deviation of the camera's roll."""
    field_of_view: tuple[float, float] = (0.8, 1.5)
    """Range of the field of view along the longer image side."""
    waves: int = 5
    """Sine waves per texture."""
    noise: float = 0.02
    """Largest standard deviation of the pixel noise (image range [0, 1])."""
    exposure: float = 0.15
    """Largest relative change of brightness between images."""
    pair_gap: tuple[float, float] = (0.04, 1.0)
    """Range of the time between the two images of a pair, log-uniform: from neighbouring frames to a clip's ends."""

    def steady(self) -> WorldConfig:
        """The same rooms without change of brightness."""
        return replace(self, exposure=0.0)

    def scenes(self, batch: int, *, seed: int, device: torch.device | str) -> Scenes:
        """B plain rooms."""
        from stereo4d.data.synthetic.room_scenes import RoomScenes

        return RoomScenes(sample_world(self, batch, seed=seed, device=device), self)


@dataclass(frozen=True)
class World:
    """B worlds. Every field starts with the batch axis."""

    room_min: Tensor
    """(B, 3)."""
    room_max: Tensor
    """(B, 3)."""
    half_extent: Tensor
    """(B, K, 3): half axes of ellipsoids, half sides of boxes, radii (x, z) and half height (y) of cylinders."""
    present: Tensor
    """(B, K) bool."""
    position: Tensor
    """(B, K, 3): centre at time 0."""
    velocity: Tensor
    """(B, K, 3): straight travel per unit of clip time; 0 for static objects."""
    sway: Tensor
    """(B, K, 3): amplitude of a sine added to the straight travel."""
    sway_phase: Tensor
    """(B, K)."""
    rotation: Tensor
    """(B, K, 3, 3): orientation at time 0."""
    spin: Tensor
    """(B, K, 3): rotation vector per unit of clip time, world axes; 0 for static objects."""
    eye: Tensor
    """(B, 3): camera centre at time 0."""
    eye_travel: Tensor
    """(B, 3): straight travel of the camera per unit of clip time."""
    eye_sway: Tensor
    """(B, 3): amplitude of a sine added to it."""
    target: Tensor
    """(B, 3): point looked at at time 0."""
    target_travel: Tensor
    """(B, 3)."""
    roll: Tensor
    """(B, 2): roll at time 0 and its change over the clip."""
    field_of_view: Tensor
    """(B,): along the longer image side."""
    light: Tensor
    """(B, 3): unit vector towards the light."""
    ambient: Tensor
    """(B,): share of the light that has no direction."""
    base_colour: Tensor
    """(B, S, 3) in [0, 1]; S = 6 + K surfaces."""
    wave_vector: Tensor
    """(B, S, 3, J): radians per metre."""
    wave_phase: Tensor
    """(B, S, J)."""
    wave_colour: Tensor
    """(B, S, J, 3)."""
    sharpness: Tensor
    """(B, S): how far the waves are squashed towards blotches."""
    tile: Tensor
    """(B, S, 2): side of the chequered tiles in metres, and their contrast."""

    @property
    def moving(self) -> Tensor:
        """(B, K) bool: objects that move."""
        return (self.velocity.abs().sum(-1) + self.sway.abs().sum(-1) + self.spin.abs().sum(-1)) > 0


class Draw:
    """Random numbers of one generator in the shapes that sampling needs."""

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Numbers whose logarithm is uniform."""
        span = torch.tensor([low, high]).log().tolist()
        return self.uniform(*shape, low=span[0], high=span[1]).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def direction(self, *shape: int) -> Tensor:
        """(..., 3) unit vectors, uniform on the sphere."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)


def sample_world(config: WorldConfig, batch: int, *, seed: int, device: torch.device | str = "cpu") -> World:
    """Draw B random worlds.

    Args:
        config: the knobs.
        batch: B.
        seed: the same seed gives the same worlds on the same kind of device.
        device: where to draw and keep them.
    """
    draw = Draw(seed, device)
    room_min, room_max = _room(config, batch, draw)
    camera = _camera(config, room_min, room_max, draw)
    objects = _objects(config, camera, room_min, room_max, draw)
    light = draw.direction(batch)
    light[:, 1] = -light[:, 1].abs() - 0.3  # from above: y points down
    return World(
        room_min=room_min,
        room_max=room_max,
        **objects,
        **camera,
        light=torch.nn.functional.normalize(light, dim=-1),
        ambient=draw.uniform(batch, low=0.35, high=0.7),
        **_textures(config, batch, draw),
    )


def _room(config: WorldConfig, batch: int, draw: Draw) -> tuple[Tensor, Tensor]:
    size = draw.uniform(batch, 3, low=config.room_size[0], high=config.room_size[1])
    size[:, 1] = draw.uniform(batch, low=config.room_height[0], high=config.room_height[1])
    room_max = size / 2
    room_max[:, 1] = draw.uniform(batch, low=1.2, high=1.7)  # floor below the origin, which is near eye height
    return room_max - size, room_max


def _camera(config: WorldConfig, room_min: Tensor, room_max: Tensor, draw: Draw) -> dict[str, Tensor]:
    batch = len(room_min)
    half = (room_max - room_min) / 2
    heading = draw.uniform(batch, high=2 * torch.pi)
    forward = torch.stack([heading.sin(), torch.zeros_like(heading), heading.cos()], -1)
    eye = -0.45 * half * forward + 0.2 * half * draw.uniform(batch, 3, low=-1, high=1)
    eye[:, 1] = draw.uniform(batch, low=-0.4, high=0.4)
    travel = draw.uniform(batch, 1, low=config.camera_travel[0], high=config.camera_travel[1])
    direction = draw.direction(batch) * torch.tensor([1.0, 0.4, 1.0], device=draw.device)
    eye_travel = travel * torch.nn.functional.normalize(direction, dim=-1)
    # Keep the whole path inside the room with a margin: shrink the travel where it would leave.
    margin = 0.35
    end = (eye + eye_travel).clamp(room_min + margin, room_max - margin)
    distance = draw.uniform(batch, 1, low=1.5, high=4.0)
    target = eye + distance * forward
    target[:, 1] = eye[:, 1] + draw.uniform(batch, low=-0.3, high=0.7)
    target_travel = config.target_travel * draw.uniform(batch, 3, low=-1, high=1)
    target_travel[:, 1] *= 0.3
    return {
        "eye": eye,
        "eye_travel": end - eye,
        "eye_sway": 0.05 * draw.normal(batch, 3),
        "target": target,
        "target_travel": target_travel + (end - eye),
        "roll": config.camera_roll * draw.normal(batch, 2),
        "field_of_view": draw.uniform(batch, low=config.field_of_view[0], high=config.field_of_view[1]),
    }


def _objects(
    config: WorldConfig, camera: dict[str, Tensor], room_min: Tensor, room_max: Tensor, draw: Draw
) -> dict[str, Tensor]:
    batch, count = len(room_min), config.objects
    half_extent = draw.log_uniform(batch, count, 3, low=config.object_radius[0], high=config.object_radius[1])
    # Objects stand where the camera looks: around the segment from eye to target and beyond.
    ahead = draw.uniform(batch, count, 1, low=0.5, high=1.6)
    centre = camera["eye"][:, None] + ahead * (camera["target"] - camera["eye"])[:, None]
    centre = centre + 1.1 * ahead * draw.normal(batch, count, 3)
    standing = draw.uniform(batch, count) < 0.6
    floor = room_max[:, None, 1] - half_extent[..., 1]
    centre[..., 1] = torch.where(standing, floor, centre[..., 1])
    inside_min, inside_max = room_min[:, None] + half_extent, room_max[:, None] - half_extent
    centre = centre.clamp(inside_min, inside_max)
    moves = (draw.uniform(batch, count) < config.moving_share)[..., None].float()
    velocity = moves * config.object_travel * draw.uniform(batch, count, 3, low=-1, high=1)
    velocity[..., 1] *= 0.3
    velocity = (centre + velocity).clamp(inside_min, inside_max) - centre
    upright = standing[..., None].float()
    axis = draw.direction(batch, count) * (1 - upright) + upright * torch.tensor([0.0, 1.0, 0.0], device=draw.device)
    spin = moves * config.object_turn * draw.uniform(batch, count, 1, low=-1, high=1)
    start_turn = draw.uniform(batch, count, 1, high=2 * torch.pi)
    sway = 0.15 * moves * draw.normal(batch, count, 3)
    sway[..., 1] *= 1 - standing.float()
    radius = half_extent.norm(dim=-1)
    return {
        "half_extent": half_extent,
        "present": _clear_of_camera(camera, centre, velocity, radius + 0.45),
        "position": centre,
        "velocity": velocity,
        "sway": sway,
        "sway_phase": draw.uniform(batch, count, high=2 * torch.pi),
        "rotation": rotation_from_vector(axis * start_turn),
        "spin": axis * spin,
    }


def _clear_of_camera(camera: dict[str, Tensor], centre: Tensor, velocity: Tensor, clearance: Tensor) -> Tensor:
    """(B, K) bool: objects that never come near the camera; the others are left out of the world."""
    clear = torch.ones_like(clearance, dtype=torch.bool)
    for time in torch.linspace(0, 1, 9).tolist():
        eye = camera["eye"] + time * camera["eye_travel"]
        clear &= (centre + time * velocity - eye[:, None]).norm(dim=-1) > clearance
    return clear


def _textures(config: WorldConfig, batch: int, draw: Draw) -> dict[str, Tensor]:
    surfaces, waves = WALLS + config.objects, config.waves
    # One wave from each band of wavelengths: fine detail to tell points apart, slow change to tell regions apart.
    bands = torch.logspace(-0.85, 0.45, waves, device=draw.device)
    wavelength = bands * draw.log_uniform(batch, surfaces, 1, waves, low=0.7, high=1.4)
    direction = draw.direction(batch, surfaces, waves).transpose(-1, -2)
    base = draw.uniform(batch, surfaces, 1, low=0.25, high=0.75) + 0.12 * draw.normal(batch, surfaces, 3)
    base[:, 2] = draw.uniform(batch, 1, low=0.6, high=0.9)  # a ceiling is bright and nearly grey
    contrast = draw.uniform(batch, surfaces, 1, 1, low=0.06, high=0.3)
    grey, chroma = draw.normal(batch, surfaces, waves, 1), draw.normal(batch, surfaces, waves, 3)
    tile = torch.stack(
        [
            draw.log_uniform(batch, surfaces, low=0.25, high=0.9),
            draw.uniform(batch, surfaces, low=0.0, high=0.25) * (draw.uniform(batch, surfaces) < 0.6),
        ],
        -1,
    )
    tile[:, FLOOR, 1] = draw.uniform(batch, low=0.08, high=0.3)
    return {
        "base_colour": base,
        "wave_vector": 2 * torch.pi * direction / wavelength,
        "wave_phase": draw.uniform(batch, surfaces, waves, high=2 * torch.pi),
        "wave_colour": contrast * (0.8 * grey + 0.4 * chroma),
        "sharpness": draw.log_uniform(batch, surfaces, low=0.3, high=5.0),
        "tile": tile,
    }


def rotation_from_vector(vector: Tensor) -> Tensor:
    """(..., 3, 3) rotations of (..., 3) rotation vectors (Rodrigues), in radians."""
    angle = vector.norm(dim=-1)[..., None, None]
    x, y, z = (vector / angle[..., 0].clamp(min=1e-12)).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return (
        torch.eye(3, dtype=vector.dtype, device=vector.device) + angle.sin() * cross + (1 - angle.cos()) * cross @ cross
    )
