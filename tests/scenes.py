"""A tiny exact scene for tests: a camera slides past a wall while a ball crosses in front of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stereo4d.types import MotionSamples, Scene


def wall_and_ball(*, frames: int = 4, height: int = 24, width: int = 32, fps: float = 10.0) -> Scene:
    """A wall at z = 4 with a coloured pattern fixed to it, a ball of radius 0.5 at z = 2.5, a camera sliding right."""
    intrinsics = np.array([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1]], np.float32)
    cam2world = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    cam2world[:, 0, 3] = np.linspace(0, 0.3 * (frames - 1), frames)
    v, u = np.mgrid[:height, :width].astype(np.float64)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    depth = np.full((frames, height, width), 4.0)
    rgb = np.zeros((frames, height, width, 3), np.uint8)
    dynamic = np.zeros((frames, height, width), np.uint8)
    for i in range(frames):
        wall = 4.0 * rays[..., :2] + cam2world[i, :2, 3]
        rgb[i] = np.stack(
            [128 + 100 * np.sin(3 * wall[..., 0]), 128 + 100 * np.sin(3 * wall[..., 1]), wall[..., 0] * 0 + 90], -1
        )
        centre = np.array([-0.6 + 0.4 * i, 0.1, 2.5]) - cam2world[i, :3, 3]
        hit, ball_depth = _sphere(rays, centre, radius=0.5)
        depth[i][hit], rgb[i][hit], dynamic[i][hit] = ball_depth[hit], (230, 60, 40), 1
    confidence = np.full(depth.shape, 3.0, np.float16)
    confidence[:, :2] = 1.05  # the upper rows are not to be trusted
    return Scene(
        cam2world=cam2world,
        intrinsics=np.tile(intrinsics, (frames, 1, 1)),
        depth=depth.astype(np.float16),
        confidence=confidence,
        dynamic=dynamic,
        rgb=rgb,
        times=np.arange(frames) / fps,
        frame_indices=np.arange(frames) * 2,
        intrinsics_original=np.tile(2.0 * intrinsics.astype(np.float64), (frames, 1, 1)),
        original_sizes=np.tile(np.array([2 * height, 2 * width]), (frames, 1)),
        manifest={"input": {"path": "wall_and_ball"}},
    )


def _sphere(rays: np.ndarray, centre: np.ndarray, *, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (H, W, 3) from the origin, with z = 1, meet a sphere, and at what depth."""
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - radius**2
    discriminant = b**2 - a * c
    return discriminant > 0, (b - np.sqrt(np.maximum(discriminant, 0))) / a


def with_motion(scene: Scene, *, times: tuple[float, ...] = (0.5, 1.0)) -> Scene:
    """``wall_and_ball`` that knows how the ball moves: 0.4 to the right a frame, evenly."""
    frames = len(scene)
    edges = np.array([(i, j) for i in range(frames) for j in (i - 1, i + 1) if 0 <= j < frames], np.int64)
    way = 0.4 * (edges[:, 1] - edges[:, 0])[:, None] * np.array(times)
    ball = np.asarray(scene.dynamic)[edges[:, 0]][:, None] != 0
    displacement = np.zeros((*way.shape, *scene.depth.shape[1:], 3), np.float16)
    displacement[..., 0] = ball * way[..., None, None]
    samples = MotionSamples(edges, np.array(times), displacement, np.full(displacement.shape[:-1], 2.0, np.float16))
    return replace(scene, motion_samples=samples)
