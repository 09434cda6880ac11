"""Colours of surfaces: solid textures in each object's own frame, with light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from stereo4d.data.synthetic.world import World

if TYPE_CHECKING:
    from stereo4d.data.synthetic.render import Hit


def shade(world: World, hit: Hit, focal: Tensor) -> Tensor:
    """(B, P, 3) colours in [0, 1] of what the rays hit.

    Waves shorter than two pixels fade out, so that far textures blur instead of flickering.

    Args:
        world: B worlds.
        hit: where the rays ended.
        focal: (B,) focal length in (sub-)pixels, which sets the size of a pixel on the surface.
    """
    footprint = (hit.distance / focal[:, None])[..., None]  # metres per pixel
    base, vector_x, vector_y, vector_z, offset, red, green, blue, sharpness, side, contrast = _parameters(world, hit)
    x, y, z = hit.local.split(1, -1)

    frequency_squared = vector_x.square() + vector_y.square() + vector_z.square()
    fade = torch.exp(-0.15 * frequency_squared * footprint.square())
    waves = torch.sin(x * vector_x + y * vector_y + z * vector_z + offset) * fade  # (B, P, J)
    colour = torch.stack([(waves * channel).sum(-1) for channel in (red, green, blue)], -1)
    blotches = 0.35 * torch.tanh(sharpness * colour / 0.35) / torch.tanh(sharpness).clamp(min=0.5)

    # The shift keeps a wall, where one coordinate is constant, off the zeros of the pattern.
    cells = torch.sin(torch.pi * (x / side + 0.37)) * torch.sin(torch.pi * (y / side + 0.37))
    cells = cells * torch.sin(torch.pi * (z / side + 0.37))
    tile_fade = torch.exp(-0.5 * (footprint / side * torch.pi).square())
    tiles = contrast * tile_fade * torch.tanh(8 * cells)

    albedo = (base + blotches + tiles).clamp(0.02, 1)
    facing = (hit.normal * world.light[:, None]).sum(-1, keepdim=True).clamp(min=0)
    ambient = world.ambient[:, None, None]
    return (albedo * (ambient + (1 - ambient) * facing)).clamp(0, 1)


def _parameters(world: World, hit: Hit) -> tuple[Tensor, ...]:
    """Texture parameters of every ray's surface, fetched in one pass over memory: it is the slowest step of shading."""
    parts = [
        world.base_colour,
        *world.wave_vector.unbind(2),
        world.wave_phase,
        *world.wave_colour.unbind(-1),
        world.sharpness[..., None],
        *world.tile.split(1, -1),
    ]
    table = torch.cat(parts, -1)  # (B, S, F)
    worlds, surfaces, width = table.shape
    row = hit.surface + surfaces * torch.arange(worlds, device=table.device)[:, None]
    return embedding(row, table.reshape(-1, width)).split([part.shape[-1] for part in parts], -1)
