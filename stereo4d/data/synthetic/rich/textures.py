"""A bank of small tileable textures with all their sizes, drawn once from a fixed seed, and reading it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

SIDE = 128
LEVELS = 7
SEED = 20_250_101


@functools.lru_cache(maxsize=4)
def bank(device: str) -> Tensor:
    """(sum over levels of N x side^2, 8) texels in about [-1, 1]: a pattern, and a second one to tint it.

    Level l holds N textures of side ``SIDE >> l``, each the mean of its finer one. A row holds a texel, its neighbours
    to the right, below and across, so that one fetch serves a bilinear reading: fetches are what costs.
    """
    draw = torch.Generator().manual_seed(SEED)
    level = torch.stack([torch.stack(pair) for pair in _patterns(draw)])  # (N, 2, side, side)
    rows = []
    for _ in range(LEVELS):
        right = level.roll(-1, 3)
        corners = torch.cat([level, right, level.roll(-1, 2), right.roll(-1, 2)], 1)
        rows.append(corners.permute(0, 2, 3, 1).reshape(-1, 8))
        level = torch.nn.functional.avg_pool2d(level, 2)
    return torch.cat(rows).to(device)


FLAT, NOISES, BUILT = 1, 16, 15
COUNT = FLAT + NOISES + BUILT
"""Textures: the first is flat, then noises, then patterns that repeat."""


def _noise(draw: torch.Generator, slope: float, stretch: float = 1.0) -> Tensor:
    """(side, side) noise whose amplitude falls with frequency to the power of the slope; standard deviation 1/2."""
    frequency = torch.fft.fftfreq(SIDE) * SIDE
    size = ((frequency[:, None] * stretch).square() + frequency.square()).sqrt()
    weight = torch.where(size > 0, size.clamp(min=1) ** -slope, 0.0)
    white = torch.fft.fft2(torch.randn(SIDE, SIDE, generator=draw))
    field = torch.fft.ifft2(white * weight).real
    return 0.5 * field / field.std()


def _cells(draw: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Distance to the border between random cells, and a random number of each cell; tileable."""
    seeds = torch.rand(count, 2, generator=draw)
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    apart = (place[:, :, None] - seeds + 0.5).remainder(1) - 0.5
    nearest = apart.norm(dim=-1).topk(2, largest=False)
    shade = torch.rand(count, generator=draw) * 2 - 1
    return (nearest.values[..., 1] - nearest.values[..., 0]) * count**0.5, shade[nearest.indices[..., 0]]


def _bricks(draw: torch.Generator, rows: int, columns: int, shift: float, joint: float) -> tuple[Tensor, Tensor]:
    """Rows of bricks with joints, and a random number of each brick."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    v = axis[:, None] * rows
    row = v.floor().expand(SIDE, SIDE)
    u = (axis[None] * columns + shift * (row % 2)).remainder(columns)
    tint = torch.rand(rows, columns, generator=draw) * 2 - 1
    edge = torch.minimum((0.5 - (v.remainder(1) - 0.5).abs()) / rows, (0.5 - (u.remainder(1) - 0.5).abs()) / columns)
    return (edge > joint).float() * 1.6 - 1, tint[row.long(), u.floor().long().clamp(max=columns - 1)]


def _patterns(draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    flat = torch.zeros(SIDE, SIDE)
    noises = [_noise(draw, 0.6 + 0.15 * number) for number in range(10)]
    noises += [torch.tanh(4 * _noise(draw, 1.1 + 0.2 * number)) for number in range(4)]
    noises += [_noise(draw, 1.3, stretch=0.12), _noise(draw, 1.0, stretch=0.05)]
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    u, v = axis[None].expand(SIDE, SIDE), axis[:, None].expand(SIDE, SIDE)
    wave = 2 * torch.pi
    built = [
        _bricks(draw, 8, 4, 0.5, 0.008),
        _bricks(draw, 16, 8, 0.5, 0.006),
        _bricks(draw, 4, 4, 0.0, 0.008),
        _bricks(draw, 8, 1, 0.5, 0.006),
        _bricks(draw, 2, 4, 0.0, 0.06),
        _bricks(draw, 3, 3, 0.0, 0.09),
        (((u * 8).floor() + (v * 8).floor()) % 2 * 2 - 1, _noise(draw, 1.0)),
        (torch.sign(torch.sin(wave * 8 * u)), _noise(draw, 1.2)),
        (torch.sin(wave * (6 * u + _noise(draw, 2.2))), _noise(draw, 0.8)),
        (torch.sin(wave * (2 * v + 0.2 * _noise(draw, 1.6, stretch=0.15) + 4 * u)), _noise(draw, 1.2, stretch=0.1)),
        (torch.where(torch.sin(wave * 8 * u) * torch.sin(wave * 8 * v) > 0.4, 1.0, -0.4), _noise(draw, 1.4)),
    ]
    for count in (24, 90, 300):
        edge, tint = _cells(draw, count)
        built.append(((edge * 4).clamp(max=2) - 1, tint))
    edge, tint = _cells(draw, 60)
    built.append((tint, edge.clamp(max=1)))
    return [(flat, flat), *((one, _noise(draw, 1.5)) for one in noises), *built]


def sample(kind: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
    """Read textures, at the level whose texels are as large as a pixel.

    Args:
        kind: (...) which texture.
        u: (...) repeats after 1.
        v: (...).
        footprint: (...) what a pixel covers, in the same unit.

    Returns:
        (..., 2) texels, bilinear.
    """
    texels = bank(str(u.device))
    level = (torch.log2(footprint.clamp(min=1e-9) * SIDE) + 0.35).floor_().clamp_(0, LEVELS - 1)
    small = torch.exp2(-level)
    side = small * SIDE
    x, y = u * side - 0.5, v * side - 0.5
    left, top = x.floor(), y.floor()
    right_share, low_share = x.sub_(left)[..., None], y.sub_(top)[..., None]
    whole = side.int()
    column, row = left.int() & (whole - 1), top.int() & (whole - 1)
    # levels before this one hold COUNT * SIDE^2 * (1 + 1/4 + ...) texels
    base = (COUNT * SIDE * SIDE * 4 / 3 * (1 - small * small) + 0.5).int()
    read = torch.nn.functional.embedding(base + (kind.int() * whole + row) * whole + column, texels).to(u.dtype)
    upper, lower = read[..., :4], read[..., 4:]
    rows = torch.lerp(upper, lower, low_share)
    return torch.lerp(rows[..., :2], rows[..., 2:], right_share)
