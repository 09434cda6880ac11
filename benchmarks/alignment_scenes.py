"""Alignment problems of any size, with their truth: a furnished room, a hand-held camera, and what a network might say.

Everything is analytic and drawn from seeds, pair by pair, so that a problem is the same on every machine and needs
little more memory than its predictions do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment import AlignmentProblem
from stereo4d.geometry.camera import pinhole, pixel_grid, unproject
from stereo4d.geometry.rigid import invert, rotation_from_vector, transform_points
from stereo4d.types import PairPrediction
from stereo4d.video.pair_graph import pair_graph

ROOM = ((-3.0, -2.0, -3.0), (3.0, 2.0, 6.0))
STEP = 0.06
"""Mean distance between neighbouring camera centres; the room is 6 x 4 x 9."""
NOISE = 0.004
"""Of a point's distance, for frames that are not apart: the noise of the golden scene."""
HIGH = 1.3
"""What wrong and garbage pairs' confidences are multiplied by: they are surer of themselves than the others."""

FIELDS = ("pointmap0", "confidence0", "pointmap1", "confidence1")
Garbage = Literal["surface", "noise"]
Kind = Literal["scale", "view", "shear"]


@dataclass(frozen=True)
class Truth:
    """N frames of a room in which nothing moves."""

    cam2world: Tensor
    """(N, 4, 4) float64; the first is not the identity."""
    intrinsics: Tensor
    """(N, 3, 3) float64, pixels; one focal."""
    depth: Tensor
    """(N, H, W) float32."""


@dataclass(frozen=True)
class Told:
    """How a network sees: exactly but for noise, except for some pairs."""

    wrong: float = 0.0
    """Share of pairs that are confidently wrong in all of ``kinds``."""
    kinds: tuple[Kind, ...] = ("scale", "view", "shear")
    """Scale: the second pointmap larger or smaller by 20 %, beside the scale that every pair has of its own. View: the
    field of view 20 % off, x and y stretched or squeezed. Shear: 0.1 z into x."""
    garbage: float = 0.0
    """Share of pairs that show unrelated geometry."""
    garbage_kind: Garbage = "surface"
    """Smooth surfaces that are not there, or no surface at all."""
    both_ways: bool = True
    """Whether a pair is spoiled in both its directions; otherwise directed edges are spoiled one by one."""
    noise: float = NOISE
    """Of a point's distance, times 1 + |i - j| / 2."""


@dataclass(frozen=True)
class AlignmentScene:
    """A problem and its truth."""

    truth: Truth
    edges: Tensor
    """(E, 2) int64."""
    prediction: PairPrediction
    wrong: Tensor
    """(E,) bool."""
    garbage: Tensor
    """(E,) bool."""

    def problem(self, *, shared_focal: bool = True) -> AlignmentProblem:
        """What an aligner is asked."""
        return AlignmentProblem(self.edges, self.prediction, len(self.truth.depth), shared_focal=shared_focal)


def make_scene(
    frames: int,
    height: int,
    width: int,
    *,
    graph: str = "swin-3-noncyclic",
    told: Told | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    folder: Path | None = None,
) -> AlignmentScene:
    """A room, a path, and all predictions.

    Args:
        frames: N.
        height: H in pixels.
        width: W in pixels.
        graph: see ``stereo4d.video.pair_graph.pair_graph``.
        told: how the network sees; None for consistent pairs.
        seed: of the room, the path and all that is random in the pairs.
        dtype: of the predictions, float32 or float16.
        folder: where to write the predictions as they are made, for ``load_scene``; None keeps them in memory.
    """
    told = told or Told()
    truth = make_truth(frames, height, width, seed=seed)
    edges = torch.tensor(pair_graph(graph, frames), dtype=torch.int64).reshape(-1, 2)
    prediction = _room_for(len(edges), height, width, dtype, folder)
    wrong, garbage = spoiled(edges, told, seed)
    own = unproject(truth.depth, truth.intrinsics.float())
    for edge in range(len(edges)):
        said = predict_pair(truth, own, edges[edge], bool(wrong[edge]), bool(garbage[edge]), told, seed)
        for name, values in zip(FIELDS, said, strict=True):
            getattr(prediction, name)[edge] = values
    scene = AlignmentScene(truth, edges, prediction, wrong, garbage)
    if folder is not None:
        _save_the_rest(scene, folder)
    return scene


def make_truth(frames: int, height: int, width: int, *, seed: int = 0) -> Truth:
    """A path through a room and the depth that its cameras see; see ``make_scene``."""
    cam2world = handheld_path(frames, seed)
    intrinsics = pinhole(torch.full((frames,), 0.85 * max(height, width), dtype=torch.float64), height, width)
    furniture = furnish(cam2world[:, :3, 3], seed)
    views = [cast_rays(cam2world[n], intrinsics[n], height, width, furniture) for n in range(frames)]
    return Truth(cam2world, intrinsics, torch.stack(views))


def handheld_path(frames: int, seed: int = 0) -> Tensor:
    """(N, 4, 4) float64 cameras that wander about the origin and look about along z, with a little tremor."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * torch.rand(4, 3, generator=generator, dtype=torch.float64)
    pace = 1 + 0.3 * torch.rand(2, 3, generator=generator, dtype=torch.float64)
    time = torch.arange(frames, dtype=torch.float64)[:, None]
    # Mean speed of a sine is amplitude times frequency times 2 / pi; x and z share it.
    reach, swing = torch.tensor([0.8, 0.25, 0.8]), torch.tensor([0.2, 0.45, 0.08])
    tempo = STEP * math.pi / 2 / (0.8 * 2**0.5)
    centre = reach * torch.sin(tempo * pace[0] * time + phase[0]) + 0.004 * torch.sin(2.1 * time + phase[1])
    angle = swing * torch.sin(0.7 * tempo * pace[1] * time + phase[2]) + 0.004 * torch.sin(1.7 * time + phase[3])
    cam2world = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    cam2world[:, :3, :3] = rotation_from_vector(angle)
    cam2world[:, :3, 3] = centre
    return cam2world


def furnish(centres: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Balls (K, 4), centre and radius, and boxes (K, 2, 3), corners, none of which a camera at (N, 3) stands in."""
    generator = torch.Generator().manual_seed(seed + 1)
    low, high = torch.tensor(ROOM, dtype=torch.float64)
    balls: list[Tensor] = []
    boxes: list[Tensor] = []
    while len(balls) < 8 or len(boxes) < 8:
        place = low + (high - low) * torch.rand(3, generator=generator, dtype=torch.float64)
        half = 0.2 + 0.5 * torch.rand(3, generator=generator, dtype=torch.float64)
        # Most of what is seen lies ahead, beyond arm's length.
        if place[2] < 0.8 or (centres - place).norm(dim=-1).min() < 0.6 + float(half.norm()):
            continue
        if len(balls) < 8:
            balls.append(torch.cat([place, half[:1]]))
        else:
            boxes.append(torch.stack([place - half, place + half]))
    return torch.stack(balls), torch.stack(boxes)


def cast_rays(
    cam2world: Tensor, intrinsics: Tensor, height: int, width: int, furniture: tuple[Tensor, Tensor]
) -> Tensor:
    """(H, W) float32 depth of the first surface on each pixel's ray."""
    rays = unproject(torch.ones(1, height, width, dtype=torch.float64), intrinsics[None])[0]
    direction, origin = rays @ cam2world[:3, :3].T, cam2world[:3, 3]
    low, high = torch.tensor(ROOM, dtype=torch.float64)
    # From inside a box its wall is the nearest of the far planes; from outside the farthest of the near planes.
    depth = torch.maximum((low - origin) / direction, (high - origin) / direction).amin(-1)
    squared = direction.square().sum(-1)
    for x, y, z, radius in furniture[0].tolist():
        to_centre = torch.tensor([x, y, z], dtype=torch.float64) - origin
        along = direction @ to_centre
        inside = along.square() - squared * (to_centre.square().sum() - radius**2)
        near = (along - inside.clamp(min=0).sqrt()) / squared
        depth = torch.where((inside > 0) & (near > 0) & (near < depth), near, depth)
    for corner, opposite in furniture[1]:
        first, second = (corner - origin) / direction, (opposite - origin) / direction
        near, far = torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)
        depth = torch.where((near < far) & (near > 0) & (near < depth), near, depth)
    return depth.float()


def spoiled(edges: Tensor, told: Told, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(E,) bool: which pairs are wrong and which are garbage, exactly the shares asked for, never both."""
    if told.both_ways:
        _, unit = edges.sort(1).values.unique(dim=0, return_inverse=True)
    else:
        unit = torch.arange(len(edges))
    count = int(unit.max()) + 1
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 2))[unit]
    wrong = drawn < round(told.wrong * count)
    return wrong, ~wrong & (drawn < round(told.wrong * count) + round(told.garbage * count))


def predict_pair(
    truth: Truth, own: Tensor, edge: Tensor, wrong: bool, garbage: bool, told: Told, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network says about one pair: pointmap and confidence of view 0, then of view 1, float32.

    ``own`` are the true points of every frame in its own camera, (N, H, W, 3); ``edge`` is (2,).
    """
    i, j = edge.tolist()
    generator = torch.Generator().manual_seed(seed * 1_000_003 + i * 1009 + j)
    # What is wrong about a pair is wrong in both its directions, if both are.
    same = torch.Generator().manual_seed(seed * 1_000_003 + min(i, j) * 1009 + max(i, j) + 500_000)
    apart = 1 + 0.5 * abs(i - j)
    if garbage:
        views = _nonsense(truth, told.garbage_kind, generator)
    else:
        relative = (invert(truth.cam2world[i]) @ truth.cam2world[j]).float()
        views = torch.stack([own[i], transform_points(relative[None], own[j][None])[0]])
    if wrong:
        views = _distorted(views, told.kinds, same)
    if told.noise and not garbage:
        spread = told.noise * apart * views.norm(dim=-1, keepdim=True)
        views = views + spread * torch.randn(views.shape, generator=generator)
    views = torch.exp(0.4 * torch.randn((), generator=generator)) * views
    confidence = (HIGH if wrong or garbage else 1.0) * 7 / apart
    confidence = 1 + confidence * (0.6 + 0.8 * torch.rand(views.shape[:-1], generator=generator))
    return views[0], confidence[0], views[1], confidence[1]


def _distorted(views: Tensor, kinds: tuple[Kind, ...], generator: torch.Generator) -> Tensor:
    """(2, H, W, 3) as a network sees that has the wrong lens in mind."""
    larger, wider = torch.where(torch.rand(2, generator=generator) < 0.5, 1.2, 0.8).tolist()
    lens = torch.eye(3)
    if "view" in kinds:
        lens[0, 0] = lens[1, 1] = wider
    if "shear" in kinds:
        lens[0, 2] = 0.1
    views = views @ lens.T
    if "scale" in kinds:
        views[1] *= larger
    return views


def _nonsense(truth: Truth, kind: Garbage, generator: torch.Generator) -> Tensor:
    """(2, H, W, 3) geometry that has nothing to do with the scene."""
    height, width = truth.depth.shape[1:]
    if kind == "noise":
        return torch.randn(2, height, width, 3, generator=generator) + torch.tensor([0.0, 0.0, 4.0])
    # Hills and valleys of a few waves across the image, seen through a lens of its own, from two places.
    waves = 2 * math.pi * torch.randn(2, 5, 2, generator=generator)
    phase = 2 * math.pi * torch.rand(2, 5, 1, 1, generator=generator)
    grid = pixel_grid(height, width) / max(height, width)
    hills = torch.sin(torch.einsum("hwc,vkc->vkhw", grid, waves) + phase).sum(1)
    depth = (2 + 2 * torch.rand(2, 1, 1, generator=generator)) * torch.exp(0.3 * hills)
    focal = max(height, width) * torch.exp(0.3 * torch.randn(1, generator=generator))
    views = unproject(depth, pinhole(focal.repeat(2), height, width))
    turn = rotation_from_vector(0.3 * torch.randn(3, generator=generator))
    views[1] = views[1] @ turn.T + 0.5 * torch.randn(3, generator=generator)
    return views


def _room_for(pairs: int, height: int, width: int, dtype: torch.dtype, folder: Path | None) -> PairPrediction:
    """An empty prediction, in memory or in files of a folder."""
    arrays = {}
    for name in FIELDS:
        shape = (pairs, height, width, 3) if name.startswith("pointmap") else (pairs, height, width)
        if folder is None:
            arrays[name] = torch.empty(shape, dtype=dtype)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            kind = {torch.float16: np.float16, torch.float32: np.float32}[dtype]
            stored = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
            arrays[name] = torch.from_numpy(stored)
    return _together(arrays)


def _together(arrays: dict[str, Tensor]) -> PairPrediction:
    return PairPrediction(arrays["pointmap0"], arrays["confidence0"], arrays["pointmap1"], arrays["confidence1"])


def _save_the_rest(scene: AlignmentScene, folder: Path) -> None:
    truth = scene.truth
    torch.save(
        {"cam2world": truth.cam2world, "intrinsics": truth.intrinsics, "depth": truth.depth}
        | {"edges": scene.edges, "wrong": scene.wrong, "garbage": scene.garbage},
        folder / "truth.pt",
    )


def load_scene(folder: Path) -> AlignmentScene:
    """A scene that ``make_scene`` wrote; predictions stay in their files, mapped, until they are looked at."""
    rest = torch.load(folder / "truth.pt", weights_only=True)
    # Copy on write: torch takes no read-only memory, and nobody writes.
    stored = {name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in FIELDS}
    truth = Truth(rest["cam2world"], rest["intrinsics"], rest["depth"])
    return AlignmentScene(truth, rest["edges"], _together(stored), rest["wrong"], rest["garbage"])
