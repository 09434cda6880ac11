"""Scenes of the synthetic world with its true motion in place of predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose, surface_position
from stereo4d.data.synthetic.render import Rendered, cast, render
from stereo4d.data.synthetic.world import World, WorldConfig, sample_world
from stereo4d.types import MotionSamples, Scene

SECONDS = 2.0
"""How long a clip lasts; the world's own time runs from 0 to 1 meanwhile."""


@dataclass(frozen=True)
class TrueScene:
    """A scene and what is really so."""

    scene: Scene
    world: World
    seen: list[Rendered]

    def positions(self, frame: int, time: float) -> np.ndarray:
        """(H, W, 3) where the points seen in a frame are at a time in seconds."""
        rendered, then = self.seen[frame], torch.tensor([time / SECONDS], dtype=torch.float64)
        return surface_position(self.world, rendered.surface, rendered.local, then)[0].numpy()

    def visible(self, points: np.ndarray, frame: int) -> np.ndarray:
        """(P,) bool: whether world points (P, 3) are the first thing on their ray, and within the image."""
        cam2world = torch.from_numpy(self.scene.cam2world[frame]).double()[None]
        direction = torch.from_numpy(points).double() - cam2world[0, :3, 3]
        time = torch.tensor([self.scene.times[frame] / SECONDS], dtype=torch.float64)
        hit = cast(self.world, time, cam2world[:, :3, 3], direction[None])
        camera = direction.numpy() @ self.scene.cam2world[frame, :3, :3].astype(np.float64)
        pixel = camera @ self.scene.intrinsics[frame].T.astype(np.float64)
        u, v = (pixel[:, :2] / pixel[:, 2:]).T
        height, width = self.scene.depth.shape[1:]
        inside = (
            (camera[:, 2] > 0)
            & (np.abs(u - (width - 1) / 2) <= width / 2)
            & (np.abs(v - (height - 1) / 2) <= height / 2)
        )
        return (hit.distance[0].numpy() > 0.999) & inside


def true_scene(
    seed: int = 3,
    *,
    frames: int = 8,
    height: int = 48,
    width: int = 64,
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    **knobs: float,
) -> TrueScene:
    """A clip of one random world, and its true motion between neighbouring frames, both ways."""
    drawn = sample_world(WorldConfig(**{"objects": 6, "moving_share": 0.7, **knobs}), 1, seed=seed)  # type: ignore[arg-type]
    world = World(
        **{name: value.double() if value.is_floating_point() else value for name, value in vars(drawn).items()}
    )
    intrinsics = camera_intrinsics(world, height, width)
    moments = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]
    poses = [camera_pose(world, moment) for moment in moments]
    seen = [render(world, moment, pose, intrinsics, height, width) for moment, pose in zip(moments, poses, strict=True)]
    edges = [(i, j) for i in range(frames) for j in (i - 1, i + 1) if 0 <= j < frames]
    motion = [_motion(world, seen[i], moments[i], moments[j], fractions) for i, j in edges]
    scene = Scene(
        cam2world=torch.cat(poses).numpy().astype(np.float32),
        intrinsics=np.repeat(intrinsics.numpy(), frames, 0).astype(np.float32),
        depth=np.concatenate([one.depth.numpy() for one in seen]).astype(np.float16),
        confidence=np.full((frames, height, width), 9, np.float16),
        dynamic=np.concatenate([one.moving.numpy() for one in seen]).astype(np.uint8),
        rgb=np.concatenate([(255 * one.rgb.numpy()).clip(0, 255) for one in seen]).astype(np.uint8),
        times=SECONDS * moments[:, 0].numpy(),
        frame_indices=np.arange(frames),
        intrinsics_original=np.repeat(intrinsics.numpy(), frames, 0).astype(np.float64),
        original_sizes=np.tile([height, width], (frames, 1)),
        motion_samples=MotionSamples(
            np.array(edges),
            np.array(fractions),
            np.stack(motion).astype(np.float16),
            np.full((len(edges), len(fractions), height, width), 5, np.float16),
        ),
    )
    return TrueScene(scene, world, seen)


def _motion(world: World, seen: Rendered, start: Tensor, end: Tensor, fractions: tuple[float, ...]) -> np.ndarray:
    """(Q, H, W, 3) displacement of a frame's points towards another's time."""
    own = surface_position(world, seen.surface, seen.local, start)
    ends = [surface_position(world, seen.surface, seen.local, start + share * (end - start)) for share in fractions]
    return torch.cat([then - own for then in ends]).numpy()


def similar(scene: Scene, turn: np.ndarray, shift: np.ndarray, scale: float) -> Scene:
    """The same scene in a world that is turned, scaled and shifted; ``scale`` a power of two loses no digit."""
    samples = scene.motion_samples
    assert samples is not None
    cam2world = scene.cam2world.copy()
    cam2world[:, :3, :3] = turn @ scene.cam2world[:, :3, :3]
    cam2world[:, :3, 3] = scale * scene.cam2world[:, :3, 3] @ turn.T + shift
    moved = scale * samples.displacement.astype(np.float64) @ turn.T
    return replace(
        scene,
        cam2world=cam2world,
        depth=scene.depth * np.float16(scale),
        motion_samples=replace(samples, displacement=moved.astype(np.float32)),
    )
