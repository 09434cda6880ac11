"""Clips rendered in memory with their exact cameras, for tests of the calibration of clips."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose
from stereo4d.data.synthetic.render import render
from stereo4d.data.synthetic.world import WorldConfig, sample_world
from stereo4d.geometry.rigid import similarity

HEIGHT, WIDTH = 112, 160


@dataclass(frozen=True)
class Filmed:
    """A clip and its truth."""

    rgb: np.ndarray
    """(N, H, W, 3) uint8."""
    cam2world: np.ndarray
    """(N, 4, 4)."""
    intrinsics: np.ndarray
    """(3, 3)."""
    depth: np.ndarray
    """(N, H, W)."""
    moving: np.ndarray
    """(N, H, W) bool."""


def filmed(seed: int, *, moving: float = 0.0, frames: int = 12) -> Filmed:
    """A clip of the synthetic world."""
    world = sample_world(WorldConfig(moving_share=moving), 1, seed=seed)
    intrinsics = camera_intrinsics(world, HEIGHT, WIDTH)
    poses, seen = [], []
    for time in torch.linspace(0, 1, frames):
        poses.append(camera_pose(world, time[None]))
        seen.append(render(world, time[None], poses[-1], intrinsics, HEIGHT, WIDTH))
    return Filmed(
        np.concatenate([(one.rgb * 255).round().to(torch.uint8).numpy() for one in seen]),
        torch.cat(poses).double().numpy(),
        intrinsics[0].double().numpy(),
        torch.cat([one.depth for one in seen]).numpy(),
        torch.cat([one.moving for one in seen]).numpy(),
    )


def turning_camera(focal: float, *, yaw: float, frames: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A clip (N, H, W, 3) of a far, flat picture from a camera that only turns, and its rotations (N, 3, 3)."""
    random = np.random.default_rng(3)
    picture = cv2.GaussianBlur(random.integers(0, 256, (700, 1000, 3), dtype=np.uint8), (0, 0), 2.5).astype(float)
    picture = np.clip((picture - picture.mean()) * 5 + 128, 0, 255).astype(np.uint8)
    camera = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    far = np.array([[400, 0, 500], [0, 400, 350], [0, 0, 1.0]])
    images, rotations = [], []
    for share in np.linspace(-0.5, 0.5, frames):
        rotation = cv2.Rodrigues(np.array([0.3 * yaw * share, yaw * share, 0.05 * share]))[0]
        homography = camera @ rotation @ np.linalg.inv(far)
        images.append(cv2.warpPerspective(picture, homography, (WIDTH, HEIGHT)))
        rotations.append(rotation)
    return np.stack(images), np.stack(rotations)


def path_error(world2cam: np.ndarray, cam2world: np.ndarray) -> float:
    """Root mean square error of camera centres after a similarity, as a share of the length of the true path."""
    found = torch.from_numpy(np.linalg.inv(world2cam)[:, :3, 3])
    true = torch.from_numpy(cam2world[:, :3, 3])
    fit = similarity(found[None], true[None], torch.ones(1, len(true), dtype=torch.float64))[0]
    error = found @ fit[:3, :3].T + fit[:3, 3] - true
    return float(error.square().sum(-1).mean().sqrt() / true.diff(dim=0).norm(dim=-1).sum())


def turned_by(world2cam: np.ndarray, rotations: np.ndarray) -> float:
    """Largest angle in degrees between relative rotations found (N, 4, 4) and true (N, 3, 3), both world to camera."""
    found = world2cam[:, :3, :3] @ world2cam[0, :3, :3].T
    true = rotations @ rotations[0].T
    chord = np.linalg.norm(found - true, axis=(1, 2))
    return float(np.degrees(2 * np.arcsin(np.clip(chord / 8**0.5, 0, 1))).max())
