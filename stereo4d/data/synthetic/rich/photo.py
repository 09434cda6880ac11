"""What cameras do to clean pictures: smear, focus, exposure, noise, compression. Colour only."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stereo4d.data.synthetic.rich.config import Picture
from stereo4d.geometry.camera import project
from stereo4d.geometry.rigid import invert, transform_points

if TYPE_CHECKING:
    from stereo4d.data.synthetic.render import Rendered
    from stereo4d.data.synthetic.rich.scenes import RichScenes
    from stereo4d.data.synthetic.world import Draw

TAPS = 7
BLOCK = 8
"""Side of the blocks that are compressed."""


def smeared(scenes: RichScenes, seen: Rendered, time: Tensor, intrinsics: Tensor) -> Tensor:
    """(B, H, W, 3) colours smeared along the way that their pixels go while the shutter is open.

    Each pixel gathers along its own way (Potmesil and Chakravarty 1983), so that one rendering is enough.
    """
    if not bool((scenes.shutter > 0).any()):
        return seen.rgb
    from stereo4d.data.synthetic.rich.scenes import mapped

    some = (scenes.shutter > 0).nonzero()[:, 0]
    part = mapped(scenes, lambda value: value[some])
    height, width = seen.depth.shape[1:]
    surface, local, here = seen.surface[some], seen.local[some], seen.sky[some]
    way = []
    for moment in (time[some] - part.shutter / 2, time[some] + part.shutter / 2):
        points = part.surface_position(surface, local, moment)
        pixel, depth = project(transform_points(invert(part.camera_pose(moment)), points), intrinsics[some])
        way.append(torch.where((here | (depth < 0.05))[..., None], torch.nan, pixel))
    flow = (way[1] - way[0]).nan_to_num(0, 0, 0).clamp(-0.1 * width, 0.1 * width)
    scale = torch.tensor([2 / width, 2 / height], dtype=flow.dtype, device=flow.device)
    ways = [torch.arange(n, dtype=flow.dtype, device=flow.device) * 2 / n - 1 + 1 / n for n in (width, height)]
    grid = torch.stack(torch.meshgrid(ways[0], ways[1], indexing="xy"), -1)
    colours = seen.rgb[some].permute(0, 3, 1, 2)
    total = torch.zeros_like(colours)
    for share in torch.linspace(-0.5, 0.5, TAPS).tolist():
        where = grid + share * flow * scale
        total += torch.nn.functional.grid_sample(colours, where, padding_mode="border", align_corners=False)
    return seen.rgb.index_copy(0, some, (total / TAPS).permute(0, 2, 3, 1))


def photograph(rgb: Tensor, picture: Picture, draw: Draw) -> Tensor:
    """(B, 3, H, W) in [-1, 1] of clean colours (B, H, W, 3) in [0, 1]."""
    batch = len(rgb)
    image = rgb.permute(0, 3, 1, 2)
    soft = (draw.uniform(batch) < picture.blur_share) * draw.uniform(batch, low=0.4, high=1.1)
    some = (soft > 0).nonzero()[:, 0]
    if len(some):
        image = image.index_copy(0, some, _softened(image[some], soft[some]))
    one = (batch, 1, 1, 1)
    gain = (1 + picture.exposure * draw.uniform(*one, low=-1, high=1)) * (
        1 + picture.colour * draw.uniform(batch, 3, 1, 1, low=-1, high=1)
    )
    gamma = 1 + picture.gamma * draw.uniform(*one, low=-1, high=1)
    deviation = picture.noise * draw.uniform(*one).square()
    image = (gain * image.clamp(1e-4, 1).pow(gamma) + deviation * draw.normal(*image.shape)).clamp(0, 1)
    quality = draw.uniform(batch, low=picture.quality[0], high=picture.quality[1])
    some = (draw.uniform(batch) < picture.compression_share).nonzero()[:, 0]
    if len(some):
        image = image.index_copy(0, some, compressed(image[some], quality[some]))
    return (2 * image - 1).contiguous()


def _softened(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur by three taps along each axis; sigma (B,) in pixels."""
    side = torch.exp(-0.5 / sigma.square())[:, None, None, None]
    middle, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
    wide = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    wide = middle * wide[..., 1:-1] + side * (wide[..., :-2] + wide[..., 2:])
    return middle * wide[..., 1:-1, :] + side * (wide[..., :-2, :] + wide[..., 2:, :])


@functools.lru_cache(maxsize=4)
def _cosines(device: str) -> Tensor:
    """(8, 8) orthonormal cosine transform."""
    place = torch.arange(BLOCK)
    rows = torch.cos(torch.pi * (2 * place[None] + 1) * place[:, None] / (2 * BLOCK)) * (2 / BLOCK) ** 0.5
    rows[0] /= 2**0.5
    return rows.to(device)


def compressed(image: Tensor, quality: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with block cosines rounded, as JPEG does at qualities (B,) of 100."""
    height, width = image.shape[2:]
    padded = torch.nn.functional.pad(image, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    # brightness and two differences of colour; differences are rounded more coarsely
    to = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], device=image.device)
    turned = torch.einsum("ij,bjhw->bihw", to, padded)
    blocks = turned.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)  # (B, 3, h, w, 8, 8)
    cosines = _cosines(str(image.device))
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None] / 255
    ramp = torch.arange(BLOCK, device=image.device)
    luma = 10 + 5.5 * (ramp[:, None] + ramp)  # close to the table of the standard, which rises with frequency
    steps = scale * torch.stack([luma, 1.5 * luma + 7, 1.5 * luma + 7])
    steps = steps[:, :, None, None]
    kept = ((cosines @ blocks @ cosines.T) / steps).round() * steps
    back = (cosines.T @ kept @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to), back)[..., :height, :width].clamp(0, 1)
