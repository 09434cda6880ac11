"""Pairs by how much of the scene both frames see, measured from depth and poses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stereo4d.data.pairing import Pairing, PairTable
from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.data.reading import read_frame, read_tracks
from stereo4d.errors import InputError, UsageError
from stereo4d.storage import map_arrays, save_arrays

DEPTH_SIDE = 128
"""Longest side of the depth maps that are looked into, in pixels."""
POINTS_SIDE = 32
"""Longest side of the grid of points that are looked for."""
AGREEMENT = 0.1
"""Share of depth by which a coarse depth map may differ from a point that it shows."""


@dataclass(frozen=True)
class ByOverlap(Pairing):
    """Frames that share between ``lowest`` and ``highest`` of what they see, by the lesser of the two shares.

    Every frame's depth is read once, which takes minutes on large data sets; name a ``cache`` folder to keep what was
    measured.
    """

    lowest: float = 0.1
    highest: float = 0.7
    most_apart: int | None = None
    """Frames further apart are not tried; None: all are."""
    cache: str | None = None
    """A folder of yours; None measures again in every run."""

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if not 0 <= self.lowest < self.highest <= 1 or (self.most_apart is not None and self.most_apart < 1):
            raise UsageError(f"{self}: give 0 <= lowest < highest <= 1, and most_apart >= 1 if at all")

    def table(self, frames: PosedFrames) -> PairTable:
        """Pairs of all scenes, scene by scene.

        Raises:
            InputError: no two frames overlap so much; says how much they do.
        """
        scenes = tuple(frames.scenes())
        found, largest = [np.zeros((0, 3), np.int32)], 0.0
        for number, scene in enumerate(scenes):
            shares = self._shares(frames, scene)
            both = np.triu(np.minimum(np.nan_to_num(shares), np.nan_to_num(shares).T), 1)
            largest = max(largest, float(both.max(initial=0)))
            first, second = np.nonzero((both >= max(self.lowest, 1e-6)) & (both <= self.highest))
            found.append(np.stack([np.full_like(first, number), first, second], 1).astype(np.int32))
        rows = np.concatenate(found)
        if not len(rows):
            raise InputError(
                f"{frames.name}: no two frames share {self.lowest} to {self.highest} of what they see; the largest "
                f"share is {largest:.2f}. Are poses and depth right? 'stereo4d check-data' tells"
            )
        return PairTable(scenes, rows)

    def _shares(self, frames: PosedFrames, scene: str) -> np.ndarray:
        if self.cache is None:
            return overlaps(frames, scene, most_apart=self.most_apart)
        key = hashlib.sha256(repr((frames.name, scene, self.most_apart)).encode() + frames.times(scene).tobytes())
        path = Path(self.cache) / f"{key.hexdigest()[:32]}.safetensors"
        if not path.is_file():
            shares = overlaps(frames, scene, most_apart=self.most_apart)
            save_arrays(path, {"overlap": shares}, {"format": "stereo4d overlap 1", "scene": scene})
        return np.array(map_arrays(path)["overlap"])


def overlaps(frames: PosedFrames, scene: str, *, most_apart: int | None = None) -> np.ndarray:
    """(T, T) float32 shares of frame i's measured points that frame j sees, by a coarse grid of pixels.

    A point is seen where it falls inside the image and the depth there agrees. Of scenes known by tracks alone it is
    the share of i's tracks that are known in j. NaN where not tried, or where i has no measurement.
    """
    count = len(frames.times(scene))
    first = read_frame(frames, scene, 0) if count else None
    if first is None or first.depth is None:
        return _of_tracks(frames, scene, count, most_apart)
    views = [_coarse(read_frame(frames, scene, index)) for index in range(count)]
    shares = np.full((count, count), np.nan, np.float32)
    for i, view in enumerate(views):
        points = view.points()
        for j in _tried(i, count, most_apart):
            if len(points):
                shares[i, j] = views[j].sees(points).mean()
    return shares


@dataclass(frozen=True)
class _Coarse:
    """A frame's depth at small size."""

    depth: np.ndarray
    intrinsics: np.ndarray
    cam2world: np.ndarray

    def points(self) -> np.ndarray:
        """(P, 3) world points of a grid of pixels."""
        step = max(1, -(-max(self.depth.shape) // POINTS_SIDE))
        row, column = np.mgrid[step // 2 : self.depth.shape[0] : step, step // 2 : self.depth.shape[1] : step]
        depth = self.depth[row, column]
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        plane = (np.stack([column, row], -1) - centre) / focal
        local = np.concatenate([plane, np.ones_like(plane[..., :1])], -1) * depth[..., None]
        return local[depth > 0] @ self.cam2world[:3, :3].T + self.cam2world[:3, 3]

    def sees(self, points: np.ndarray) -> np.ndarray:
        """(P,) bool of world points (P, 3)."""
        local = (points - self.cam2world[:3, 3]) @ self.cam2world[:3, :3]
        ahead = np.maximum(local[:, 2], 1e-9)
        pixel = local[:, :2] / ahead[:, None] * self.intrinsics[[0, 1], [0, 1]] + self.intrinsics[:2, 2]
        height, width = self.depth.shape
        pixel = np.floor(pixel + 0.5)
        inside = ((pixel >= 0) & (pixel < (width, height))).all(1) & (local[:, 2] > 0)
        column, row = np.where(inside[:, None], pixel, 0).astype(int).T
        return inside & (np.abs(self.depth[row, column] - ahead) < AGREEMENT * ahead)


def _coarse(frame: Frame) -> _Coarse:
    if frame.depth is None:
        return _Coarse(np.zeros((1, 1)), np.eye(3), np.eye(4))
    step = max(1, -(-max(frame.depth.shape) // DEPTH_SIDE))
    intrinsics = np.array(frame.intrinsics, dtype=np.float64)
    # every step-th pixel, from the first: its centre stays that of the first
    intrinsics[:2] /= step
    return _Coarse(np.nan_to_num(frame.depth[::step, ::step]), intrinsics, frame.cam2world)


def _of_tracks(frames: PosedFrames, scene: str, count: int, most_apart: int | None) -> np.ndarray:
    known = []
    for index in range(count):
        tracks = read_tracks(frames, scene, index)
        if tracks is None:
            raise InputError(f"{frames.name}, scene {scene}, frame {index} has neither depth nor tracks to overlap")
        known.append(np.isfinite(tracks).all(1))
    shares = np.full((count, count), np.nan, np.float32)
    for i in range(count):
        for j in _tried(i, count, most_apart):
            if known[i].any():
                shares[i, j] = known[j][known[i]].mean()
    return shares


def _tried(i: int, count: int, most_apart: int | None) -> range:
    reach = count if most_apart is None else most_apart
    return range(max(0, i - reach), min(count, i + reach + 1))
