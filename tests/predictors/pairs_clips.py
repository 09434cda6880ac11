"""Clips with exact truth for tests of the classical predictor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from stereo4d_plugins.predictors.classical.calibration import ClipCalibration

from stereo4d.data.synthetic.clip import SyntheticTruth, load_truth, synthesize_clip
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.video.clip import Clip


@dataclass(frozen=True)
class TrueClip:
    """A clip, its truth, and its exact cameras as a calibration."""

    clip: Clip
    truth: SyntheticTruth
    calibration: ClipCalibration

    def parallax(self, frame: int, other: int) -> np.ndarray:
        """(H, W) degrees between the rays from both cameras to what a frame sees."""
        points = self.truth.positions(frame, float(self.truth.clip.times[frame])).astype(np.float64)
        rays = [points - self.truth.clip.cam2world[one, :3, 3] for one in (frame, other)]
        cosine = (rays[0] * rays[1]).sum(-1) / np.linalg.norm(rays[0], axis=-1) / np.linalg.norm(rays[1], axis=-1)
        return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

    def flow(self, frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 2) exact pixels of motion, and (H, W) bool where what moved is still in the image and in sight."""
        truth = self.truth.clip
        world2cam = np.linalg.inv(truth.cam2world[other].astype(np.float64))
        points = self.truth.positions(frame, float(truth.times[other])) @ world2cam[:3, :3].T + world2cam[:3, 3]
        image = points @ truth.intrinsics[other].T
        target = image[..., :2] / image[..., 2:]
        height, width = truth.depth.shape[1:]
        u, v = np.rint(target[..., 0]).astype(int), np.rint(target[..., 1]).astype(int)
        inside = (u >= 0) & (v >= 0) & (u < width) & (v < height) & (points[..., 2] > 0)
        there = truth.depth[other][v.clip(0, height - 1), u.clip(0, width - 1)]
        rows, columns = np.mgrid[:height, :width]
        return target - np.stack([columns, rows], -1), inside & (np.abs(there / points[..., 2] - 1) < 0.02)


def true_clip(folder: Path, *, seed: int, frames: int, height: int, width: int, **world: object) -> TrueClip:
    """Render a clip of the synthetic world."""
    synthesize_clip(folder, seed=seed, frames=frames, height=height, width=width, config=WorldConfig(**world))  # type: ignore[arg-type]
    truth = load_truth(folder)
    rgb = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "frames").glob("*.png"))])
    calibration = ClipCalibration(
        focal=float(truth.clip.intrinsics[0, 0, 0]),
        focal_source="given",
        intrinsics=truth.clip.intrinsics.astype(np.float64),
        world2cam=np.linalg.inv(truth.clip.cam2world.astype(np.float64)),
        camera_known=np.ones(frames, bool),
        moves=True,
        rotation_only=False,
        error=0.0,
        points=1000,
        tracks=1000,
        focal_deviation=0.0,
        remarks=(),
    )
    return TrueClip(clip_of(rgb), truth, calibration)


def clip_of(rgb: np.ndarray) -> Clip:
    """Images (N, H, W, 3) uint8 as a clip of ten frames a second, whose pixels are their own original."""
    count = len(rgb)
    sizes, maps = np.tile(rgb.shape[1:3], (count, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (count, 1))
    return Clip(rgb, np.arange(count) / 10, np.arange(count), sizes.astype(np.int64), maps)
