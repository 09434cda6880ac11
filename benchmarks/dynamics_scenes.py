"""Clips with much that moves, their exact flow, and what a network that was never shown motion says of their pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.synthetic.clip import SyntheticTruth, load_truth, synthesize_clip
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.geometry.camera import unproject
from stereo4d.geometry.rigid import invert, rotation_from_vector, transform_points
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.flow import Flow
from stereo4d.video.pair_graph import pair_graph

CROWDED = WorldConfig(
    objects=10,
    moving_share=1.0,
    object_radius=(0.35, 0.8),
    room_size=(6, 9),
    camera_travel=(0.8, 1.6),
    object_travel=1.5,
)
"""A room of ten objects all of which move."""
SEEDS = (1, 5, 9)
"""Worlds in which about 40 % of the pixels move, in the mean over the clip."""


@dataclass(frozen=True)
class NoisyPairs:
    """How a network sees: every pair is off in its own way."""

    points: float = 0.02
    """Standard deviation of the noise of every point, in its distance, independent from pixel to pixel."""
    turn: float = 0.01
    """Of the error of the relative rotation, radians per coordinate; times the square root of frames apart."""
    shift: float = 0.01
    """Of the error of the relative position, as a share of the scene's depth; likewise."""
    moving: float = 0.15
    """Of the error in depth of what moves, as a share of it, one for each object and pair."""


@dataclass(frozen=True)
class DynamicClip:
    """A clip and its truth."""

    truth: SyntheticTruth
    clip: Clip
    edges: Tensor
    """(E, 2) int64."""


def make_clip(folder: Path, seed: int, *, frames: int = 24, height: int = 112, width: int = 160) -> DynamicClip:
    """Render one world, photographed with noise."""
    synthesize_clip(folder, seed=seed, frames=frames, height=height, width=width, config=CROWDED)
    truth = load_truth(folder)
    from PIL import Image

    rgb = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "frames").iterdir())])
    count = len(rgb)
    maps = np.tile([1.0, 1.0, 0.0, 0.0], (count, 1))
    clip = Clip(rgb, np.array(truth.clip.times), np.arange(count), np.tile(rgb.shape[1:3], (count, 1)), maps)
    return DynamicClip(truth, clip, torch.tensor(pair_graph("swin-3-noncyclic", count)))


def predict(scene: DynamicClip, told: NoisyPairs, seed: int = 0) -> PairPrediction:
    """What the network says of all pairs."""
    truth = scene.truth.clip
    cam2world = torch.from_numpy(np.array(truth.cam2world)).double()
    depth = torch.from_numpy(np.array(truth.depth)).float()
    own = unproject(depth, torch.from_numpy(np.array(truth.intrinsics)).float())
    surface = torch.from_numpy(np.array(scene.truth.surface)).long()
    moving = torch.from_numpy(np.array(truth.dynamic)).bool()
    far = float(depth.median())
    pointmaps: tuple[list[Tensor], list[Tensor]] = ([], [])
    for i, j in scene.edges.tolist():
        random = torch.Generator().manual_seed(1_000_003 * seed + 1009 * i + j)
        relative = (invert(cam2world[i]) @ cam2world[j]).clone()
        apart = abs(i - j) ** 0.5
        relative[:3, :3] = (
            rotation_from_vector(told.turn * apart * torch.randn(3, generator=random, dtype=torch.float64))
            @ relative[:3, :3]
        )
        relative[:3, 3] += told.shift * apart * far * torch.randn(3, generator=random, dtype=torch.float64)
        # Motion is taken for parallax, so that an object that moves is seen too near or too far.
        wrong = (told.moving * torch.randn(256, generator=random)).exp()
        unit = torch.exp(0.4 * torch.randn((), generator=random))
        for view, frame in enumerate((i, j)):
            points = own[frame] * torch.where(moving[frame], wrong[surface[frame]], 1.0)[..., None]
            noise = told.points * points.norm(dim=-1, keepdim=True) * torch.randn(points.shape, generator=random)
            points = points + noise
            if view:
                points = transform_points(relative[None].float(), points[None])[0]
            pointmaps[view].append(unit * points)
    sure = torch.full((len(scene.edges), *depth.shape[1:]), 5.0)
    return PairPrediction(torch.stack(pointmaps[0]), sure, torch.stack(pointmaps[1]), sure.clone())


class ExactFlow(Flow):
    """Where pixels truly went; found by the images themselves, which are those of the clip."""

    def __init__(self, scene: DynamicClip) -> None:
        self._scene = scene
        self._frame = {image.tobytes(): frame for frame, image in enumerate(scene.clip.rgb)}

    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        """See ``Flow.flow``."""
        first, second = self._frame[image0.tobytes()], self._frame[image1.tobytes()]
        truth = self._scene.truth.clip
        there = self._scene.truth.positions(first, float(truth.times[second])).astype(np.float64)
        pose = np.linalg.inv(truth.cam2world[second].astype(np.float64))
        camera = there @ pose[:3, :3].T + pose[:3, 3]
        seen = camera @ truth.intrinsics[second].T.astype(np.float64)
        pixels = seen[..., :2] / np.maximum(seen[..., 2:], 1e-6)
        v, u = np.mgrid[: image0.shape[0], : image0.shape[1]]
        return (pixels - np.stack([u, v], -1)).astype(np.float32)
