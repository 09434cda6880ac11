"""Colours of what rays hit: textures by box mapping, sun or lamp, shadows, highlights, haze and sky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.data.synthetic.rich import textures
from stereo4d.data.synthetic.rich.cast import FIRST_BODY, PLANES, SKY, Hit, Placed, shadowed
from stereo4d.data.synthetic.rich.config import Light, Surfaces
from stereo4d.data.synthetic.rich.figures import PARTS
from stereo4d.data.synthetic.rich.furnish import PROPS, STRUCTURES
from stereo4d.data.synthetic.rich.layout import Hull, Numbers
from stereo4d.data.synthetic.world import Draw

CLOTHES = (0, 1, 0, 0, 1, 1, 6, 6, 6, 6)
"""Parts of figures look like: shirt, skin, sleeves, hands, trousers."""


@dataclass(frozen=True)
class Look:
    """How B worlds look."""

    light: Tensor
    """(B, 4): place of a lamp and 1, or direction to the sun and 0."""
    shadows: Tensor
    """(B,) bool: the light casts shadows."""
    ambient: Tensor
    """(B,)."""
    sun: Tensor
    """(B, 3) colour of the light."""
    zenith: Tensor
    """(B, 3) colour overhead."""
    horizon: Tensor
    """(B, 3)."""
    haze: Tensor
    """(B,) per metre."""
    table: Tensor
    """(B, S, 23) of each surface: three colours (9), texture turn (2) and shift (2), kind, second kind, how much
    larger the second is, its share, shine, sharpness of highlights, texture repeats a metre, unit
    coordinates to metres (3)."""


def draw_look(surfaces: Surfaces, light: Light, kind: Numbers, hull: Hull, half: Tensor, draw: Draw) -> Look:
    """Lights and surfaces; ``half`` (B, K, 3) are the bodies' half extents."""
    batch, device = len(half), draw.device
    outside = kind["open"][:, None] > 0
    sun = draw.direction(batch)
    sun[:, 1] = -sun[:, 1].abs() - 0.35
    sun = torch.nn.functional.normalize(sun, dim=-1)
    lamp = 0.6 * hull.half * draw.uniform(batch, 3, low=-1, high=1)
    lamp[:, 1] = hull.floor - 2 * hull.half[:, 1] + 0.25
    place = torch.cat([torch.where(outside, sun, lamp), (~outside).float()], -1)
    warm = draw.uniform(batch, 1, low=-0.15, high=0.25) * torch.tensor([1.0, 0.1, -1.0], device=device)
    blue = torch.tensor([0.25, 0.45, 0.8], device=device)
    grey = draw.uniform(batch, 1)
    zenith = (1 - grey) * blue + grey * draw.uniform(batch, 1, low=0.4, high=0.9) + 0.05 * draw.normal(batch, 3)
    pale = 0.4 * zenith + 0.6 * draw.uniform(batch, 1, low=0.65, high=0.98) + 0.3 * warm
    metres = torch.cat([torch.ones(batch, FIRST_BODY, 3, device=device), half], 1)
    hazy = draw.uniform(batch) < light.haze
    return Look(
        light=place,
        shadows=draw.uniform(batch) < light.shadows,
        ambient=draw.uniform(batch, low=light.ambient[0], high=light.ambient[1]),
        sun=(1 + warm).clamp(0.6, 1.3),
        zenith=zenith.clamp(0, 1),
        horizon=pale.clamp(0, 1),
        haze=torch.where(hazy & outside[:, 0], draw.log_uniform(batch, low=0.002, high=0.03), 0),
        table=torch.cat([_surfaces(surfaces, kind, half.shape[1] + FIRST_BODY, draw), metres], -1),
    )


def _surfaces(config: Surfaces, kind: Numbers, count: int, draw: Draw) -> Tensor:
    batch, device = len(kind["open"]), draw.device
    shape = (batch, count)
    grey = draw.uniform(*shape, 1, low=0.2, high=0.9)
    vivid = draw.uniform(*shape, 1) ** 2 * 0.22
    base = grey + vivid * draw.normal(*shape, 3)
    green = torch.tensor([0.3, 0.42, 0.18], device=device) * draw.uniform(batch, 1, low=0.6, high=1.3)
    grassy = (kind["open"][:, None] > 0) & (draw.uniform(batch, 1) < 0.6)
    base[:, 0] = torch.where(grassy, green, base[:, 0])
    contrast = draw.log_uniform(*shape, 1, low=config.contrast[0], high=config.contrast[1])
    one = contrast * (0.8 * torch.sign(draw.normal(*shape, 1)) + 0.3 * draw.normal(*shape, 3))
    two = contrast * (0.4 * draw.normal(*shape, 1) + 0.35 * draw.normal(*shape, 3))
    choice = draw.uniform(*shape)
    noise = textures.FLAT + (draw.uniform(*shape) * textures.NOISES).floor()
    built = textures.FLAT + textures.NOISES + (draw.uniform(*shape) * textures.BUILT).floor()
    texture = torch.where(choice < config.flat_share, 0.0, torch.where(choice > 1 - config.repeat_share, built, noise))
    angle = (draw.uniform(*shape) < 0.5) * draw.uniform(*shape, high=2 * torch.pi)
    # walls and houses have larger patterns than what stands in rooms
    far = torch.where(kind["open"][:, None] > 0, 0.12, 0.35)
    wall = torch.arange(count, device=device) < FIRST_BODY
    repeats = draw.log_uniform(*shape, low=0.7, high=3.0) * torch.where(wall, 2 * far, 0.5 / kind["size"][:, 1:].sqrt())
    shiny = (draw.uniform(*shape) < config.shiny_share) * draw.uniform(*shape, low=0.15, high=0.8)
    second = textures.FLAT + (draw.uniform(*shape) * textures.NOISES).floor()
    columns = [
        angle.cos() * repeats,
        angle.sin() * repeats,
        draw.uniform(*shape),
        draw.uniform(*shape),
        texture,
        second,
    ]
    columns += [draw.log_uniform(*shape, low=0.06, high=0.3), draw.uniform(*shape, low=0.1, high=0.8)]
    columns[-1] = torch.where(texture == 0, 0.0, columns[-1])
    columns += [shiny, draw.log_uniform(*shape, low=8, high=120), repeats]
    table = torch.cat([base.clamp(0.03, 0.97), one, two, torch.stack(columns, -1)], -1)
    clothes = torch.arange(count, device=device)
    first = clothes[FIRST_BODY + PROPS + STRUCTURES :: PARTS]
    for part, same in enumerate(CLOTHES):
        clothes[first + part] = first + same
    table = table[:, clothes]
    table[:, SKY, 9] = table[:, SKY, 19] = 0.4  # clouds
    table[:, SKY, 10] = 0
    table[:, SKY, 13] = textures.FLAT + 8
    return table


def shade(look: Look, placed: Placed, origin: Tensor, direction: Tensor, hit: Hit, pixel: Tensor) -> Tensor:
    """(B, P, 3) colours in [0, 1].

    Args:
        look: B worlds.
        placed: the same worlds at the time of the picture.
        origin: (B, 3).
        direction: (B, P, 3).
        hit: where those rays ended.
        pixel: (B,) angle that a pixel covers.
    """
    # Coordinates and colours first, pixels last: arithmetic then runs along memory.
    rows = hit.surface[:, None].expand(-1, look.table.shape[2], -1)
    number = look.table.transpose(1, 2).contiguous().gather(2, rows)  # (B, 23, P)
    local, normal, ray = (v.transpose(1, 2).contiguous() for v in (hit.local, hit.normal, direction))
    sky = hit.surface == SKY
    unit = ray * _dot(ray, ray).rsqrt()[:, None]  # norm() is slow across the middle axis
    body = hit.surface >= FIRST_BODY
    pattern, tint = _pattern(local, normal, unit, number, body, sky, hit.distance, pixel)
    albedo = torch.addcmul(number[:, :3], pattern[:, None], number[:, 3:6]).addcmul_(tint[:, None], number[:, 6:9])
    point = torch.addcmul(origin[..., None], torch.where(sky, 1.0, hit.distance)[:, None], ray)
    toward = look.light[:, :3, None] - look.light[:, 3:, None] * point
    toward = toward * _dot(toward, toward).rsqrt()[:, None]
    facing = _dot(normal, toward)
    asked = (facing > 0) & ~sky & look.shadows[:, None]
    dark = shadowed(placed, look.light, torch.add(point, normal, alpha=3e-3), toward, asked) & asked
    lit = torch.where(dark, 0.0, facing.clamp(min=0))
    ambient = look.ambient[:, None] * (0.8 - 0.2 * normal[:, 1])  # more light comes from above
    direct = (1 - look.ambient[:, None]) * 1.3 * lit
    light = torch.addcmul(ambient[:, None], direct[:, None], look.sun[..., None])
    colour = albedo.clamp_(0.02, 1).mul_(light)
    colour += _shine(look, unit, normal, toward, number, lit > 0)
    above = (-unit[:, 1:2]).clamp(0, 1).sqrt()
    horizon, rise = look.horizon[..., None], (look.zenith - look.horizon)[..., None]
    air = torch.addcmul(horizon, above, rise)
    air = torch.lerp(air, torch.ones_like(air), 0.6 * pattern.clamp(min=0)[:, None])  # clouds
    clear = torch.exp(-look.haze[:, None] * hit.distance)[:, None]
    hazy = torch.addcmul(horizon, clear, colour - horizon)
    return torch.where(sky[:, None], air, hazy).clamp_(0, 1).transpose(1, 2)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """(B, P) products of (B, 3, P) vectors."""
    return torch.addcmul(torch.addcmul(one[:, 0] * other[:, 0], one[:, 1], other[:, 1]), one[:, 2], other[:, 2])


def _pattern(
    local: Tensor,
    normal: Tensor,
    unit: Tensor,
    number: Tensor,
    body: Tensor,
    sky: Tensor,
    distance: Tensor,
    pixel: Tensor,
) -> tuple[Tensor, Tensor]:
    """(B, P) pattern and (B, P) tint, from the two textures of each surface."""
    x, y, z = torch.where(sky[:, None], unit / (unit[:, 1:2].abs() + 0.15), local * number[:, 20:]).unbind(1)
    # Which side of a box the point is nearest to, in the body's own axes; walls: of the world's.
    side = torch.where(body[:, None], local, normal).abs()
    upright = (side[:, 1] >= torch.maximum(side[:, 0], side[:, 2])) | sky
    sideways = side[:, 0] > side[:, 2]
    u = torch.where(~upright & sideways, z, x)
    v = torch.where(upright, z, y)
    cos, sin, shift, drop, first, second, larger, share = number[:, 9:17].unbind(1)
    a, b = u * cos - v * sin + shift, u * sin + v * cos + drop
    slant = _dot(normal, unit).abs().clamp_(min=0.08).sqrt_()
    covered = torch.where(sky, 2.0, distance) * pixel[:, None] / slant * number[:, 19]
    fine = textures.sample(first, a, b, covered)
    coarse = textures.sample(second, a * larger, b * larger, covered * larger)
    return torch.lerp(fine[..., 0], coarse[..., 0], 0.6 * share), torch.lerp(fine[..., 1], coarse[..., 1], share)


def _shine(look: Look, unit: Tensor, normal: Tensor, toward: Tensor, number: Tensor, lit: Tensor) -> Tensor:
    """(B, 3, P) highlights and a dim reflection of what is above and around."""
    shine, sharp = number[:, 17], number[:, 18]
    grazing = _dot(unit, normal)
    mirrored = torch.addcmul(unit, -2 * grazing[:, None], normal)
    spot = 0.9 * shine * _dot(mirrored, toward).clamp_(min=1e-4).pow_(sharp) * lit
    glance = shine * (0.1 + 0.5 * (1 + grazing.clamp(-1, 0)).pow(3))
    up = (0.5 - 0.5 * mirrored[:, 1:2]).clamp_(0, 1)
    around = torch.addcmul(look.horizon[..., None], up, (look.zenith - look.horizon)[..., None])
    return around.mul_(glance[:, None]).addcmul_(spot[:, None], look.sun[..., None])


__all__ = ["PLANES", "Look", "draw_look", "shade"]
