"""The synthetic world as a data set of posed frames, whose truth is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose, surface_position
from stereo4d.data.synthetic.render import Rendered, render
from stereo4d.data.synthetic.world import World, WorldConfig, sample_world
from stereo4d.errors import InputError

KNOBS = WorldConfig(moving_share=0.9, object_radius=(0.4, 0.8), camera_travel=(0.1, 0.4), target_travel=0.2)


@dataclass
class WorldFrames(PosedFrames):
    """Scenes "0", "1", ...: one world each, filmed at even times from 0 to 1 seconds."""

    count: int = 2
    """Scenes."""
    length: int = 5
    """Frames a scene."""
    size: tuple[int, int] = (60, 80)
    name: str = "worlds"
    metric: bool = True
    has_depth: bool = True
    has_tracks: bool = False
    has_moving: bool = True
    damaged: tuple[tuple[str, int], ...] = ()
    """Frames that cannot be read."""

    def scenes(self) -> Sequence[str]:
        return [str(number) for number in range(self.count)]

    def times(self, scene: str) -> np.ndarray:
        return np.linspace(0, 1, self.length)

    def frame(self, scene: str, index: int) -> Frame:
        if (scene, index) in self.damaged:
            raise InputError(f"{scene}/{index}.png is cut short")
        _, intrinsics, poses, seen = filmed(int(scene), self.length, self.size)
        return Frame(
            rgb=(seen[index].rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
            intrinsics=intrinsics,
            cam2world=poses[index],
            depth=seen[index].depth[0].numpy() if self.has_depth else None,
            moving=seen[index].moving[0].numpy() if self.has_moving else None,
        )

    def tracks(self, scene: str, index: int) -> np.ndarray | None:
        """Every third pixel's surface point of every frame; known always if there is depth, else where it is seen."""
        if not self.has_tracks:
            return None
        world, intrinsics, poses, seen = filmed(int(scene), self.length, self.size)
        then = torch.tensor([self.times(scene)[index]])
        found = [
            surface_position(world, view.surface[:, ::3, ::3], view.local[:, ::3, ::3], then).reshape(-1, 3)
            for view in seen
        ]
        points = torch.cat(found).numpy()
        if not self.has_depth:
            points[~_in_sight(points, intrinsics, poses[index], seen[index].depth[0].numpy())] = np.nan
        return points


def _in_sight(points: np.ndarray, intrinsics: np.ndarray, cam2world: np.ndarray, depth: np.ndarray) -> np.ndarray:
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    pixel = np.round((local @ intrinsics.T)[:, :2] / local[:, 2:])
    inside = (local[:, 2] > 0) & (pixel >= 0).all(1) & (pixel < depth.shape[::-1]).all(1)
    column, row = np.where(inside[:, None], pixel, 0).astype(int).T
    return inside & (np.abs(depth[row, column] - local[:, 2]) < 0.02 * local[:, 2])


@cache
def filmed(seed: int, length: int, size: tuple[int, int]) -> tuple[World, np.ndarray, list[np.ndarray], list[Rendered]]:
    """A world, its camera's intrinsics, poses, and what is seen of it; float64."""
    world = sample_world(KNOBS, 1, seed=seed)
    world = World(
        **{name: value.double() if value.is_floating_point() else value for name, value in vars(world).items()}
    )
    intrinsics = camera_intrinsics(world, *size)
    poses, seen = [], []
    for time in torch.linspace(0, 1, length, dtype=torch.float64):
        pose = camera_pose(world, time[None])
        poses.append(pose[0].numpy())
        seen.append(render(world, time[None], pose, intrinsics, *size))
    return world, intrinsics[0].numpy(), poses, seen
