"""Small exact worlds for tests of the alignment: a room with balls, smooth cameras, and what a perfect network says."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment import AlignmentProblem
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.rigid import invert, rotation_from_vector, transform_points
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class World:
    cam2world: Tensor  # (N, 4, 4)
    focal: Tensor  # (N,)
    depth: Tensor  # (N, H, W)


def smooth_cameras(frames: int, seed: int = 0, *, turn: float = 0.3, travel: float = 1.0) -> Tensor:
    """(N, 4, 4) float64 cameras on a smooth random path; the first at the origin, looking along z."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]
    wave = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    curve = wave[0] * time + 0.5 * wave[1] * torch.sin(3 * time + wave[2]) - 0.5 * wave[1] * torch.sin(wave[2])
    cam2world = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    cam2world[:, :3, :3] = rotation_from_vector(turn * curve[:, :3])
    cam2world[:, :3, 3] = travel * 0.5 * curve[:, 3:].clamp(-2, 2)
    return cam2world


def render(cam2world: Tensor, focal: Tensor, height: int, width: int) -> World:
    """Depth of a box-shaped room with three balls in it."""
    rays = (pixel_grid(height, width).double() - torch.tensor([width / 2, height / 2])) / focal[:, None, None, None]
    rays = torch.cat([rays, torch.ones_like(rays[..., :1])], -1)
    direction = torch.einsum("nij,nhwj->nhwi", cam2world[:, :3, :3], rays)
    origin = cam2world[:, None, None, :3, 3]
    low, high = torch.tensor([-3.0, -2.0, -3.0]).double(), torch.tensor([3.0, 2.0, 6.0]).double()
    # From inside the box the wall is the nearest of the far planes.
    depth = torch.maximum((low - origin) / direction, (high - origin) / direction).amin(-1)
    for centre, radius in (((0.6, 0.4, 3.0), 0.7), ((-1.0, -0.3, 3.6), 0.8), ((0.1, -0.9, 4.5), 0.6)):
        to_centre = torch.tensor(centre).double() - origin
        a, b = direction.square().sum(-1), (direction * to_centre).sum(-1)
        inside = b.square() - a * (to_centre.square().sum(-1) - radius**2)
        near = (b - inside.clamp(min=0).sqrt()) / a
        depth = torch.where((inside > 0) & (near > 0.05) & (near < depth), near, depth)
    return World(cam2world, focal, depth)


def window_edges(frames: int, window: int = 3) -> Tensor:
    """All pairs up to a distance, both ways."""
    one_way = [(i, i + step) for step in range(1, window + 1) for i in range(frames - step)]
    return torch.tensor(one_way + [(j, i) for i, j in one_way])


def predict(
    world: World, edges: Tensor, *, noise: float = 0.0, wrong: float = 0.0, garbage: float = 0.0, seed: int = 0
) -> PairPrediction:
    """What a network would say: every pair in its own scale, with smooth noise, some pairs confidently wrong.

    Args:
        world: the truth.
        edges: (E, 2).
        noise: relative to distance, grows with the distance in time.
        wrong: share of pairs seen with a field of view 20 % off, sheared, at high confidence.
        garbage: share of pairs that are unrelated to the truth, at high confidence.
        seed: of all that is random.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = world.depth.shape[1:]
    camera = torch.cat(
        [
            (pixel_grid(height, width).double() - torch.tensor([width / 2, height / 2]))
            * (world.depth / world.focal[:, None, None])[..., None],
            world.depth[..., None],
        ],
        -1,
    )
    first, second = edges.T
    relative = invert(world.cam2world[first]) @ world.cam2world[second]
    maps = [camera[first], transform_points(relative, camera[second])]
    scale = torch.exp(0.4 * torch.randn(len(edges), 1, 1, 1, generator=generator, dtype=torch.float64))
    fate = torch.rand(len(edges), generator=generator)
    stretch = torch.where(fate < wrong / 2, 1.2, torch.where(fate < wrong, 0.8, 1.0)).double()
    shear = torch.where(fate < wrong, 0.1, 0.0).double()
    apart = (first - second).abs()
    confidences = []
    for side in (0, 1):
        m = maps[side]
        m = m * torch.stack([stretch, stretch, torch.ones_like(stretch)], -1)[:, None, None]
        m[..., 0] += shear[:, None, None] * m[..., 2]
        spread = noise * (1 + 0.5 * apart)[:, None, None, None] * m.norm(dim=-1, keepdim=True)
        m = m + spread * torch.randn(m.shape, generator=generator, dtype=torch.float64)
        junk = torch.randn(m.shape, generator=generator, dtype=torch.float64) + torch.tensor([0.0, 0.0, 4.0])
        bad = ((fate >= wrong) & (fate < wrong + garbage))[:, None, None, None]
        maps[side] = scale * torch.where(bad, junk, m)
        confidence = 1 + 6 / (1 + 0.3 * apart)[:, None, None] * torch.ones(m.shape[:3])
        confidence = confidence * (0.75 + 0.5 * torch.rand(m.shape[:3], generator=generator))
        confidences.append((confidence * torch.where(bad[..., 0], 1.3, 1.0)).clamp(min=1.01))
    return PairPrediction(maps[0].float(), confidences[0].float(), maps[1].float(), confidences[1].float())


def problem_of(
    frames: int = 6,
    height: int = 15,
    width: int = 20,
    *,
    window: int = 3,
    seed: int = 0,
    shared_focal: bool = True,
    path: Tensor | None = None,
    **told: float,
) -> tuple[World, AlignmentProblem]:
    """A world and the alignment problem that a network would make of it."""
    path = smooth_cameras(frames, seed) if path is None else path
    focal = torch.full((frames,), 0.9 * width, dtype=torch.float64)
    if not shared_focal:
        focal = focal * torch.linspace(0.9, 1.1, frames)
    world = render(path, focal, height, width)
    edges = window_edges(frames, window)
    return world, AlignmentProblem(edges, predict(world, edges, seed=seed, **told), frames, shared_focal=shared_focal)
