"""One image of a pair after its crop, with what is known of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from stereo4d.data.augmentation import Augmentation
from stereo4d.data.cropping import Crop, plan_crop
from stereo4d.data.posed_frames import Frame
from stereo4d.data.sparse_maps import of_tracks, winning_tracks

AGREEMENT = 0.05
"""Share of depth within which two measurements show the same surface."""


@dataclass(frozen=True)
class Seen:
    """A view at its final size, upright."""

    picture: Image.Image
    """(H, W)."""
    crop: Crop
    cam2world: np.ndarray
    """(4, 4) float64."""
    depth: np.ndarray
    """(H, W) float64 along the optical axis; NaN where there is no truth."""
    tracks: np.ndarray | None
    """(N, 3) float64 world points at this view's time."""
    shown: np.ndarray
    """(H, W) int64: the track that a pixel shows, -1 for none."""
    moving: np.ndarray | None
    """(H, W) bool, if the data set knows."""
    sky: np.ndarray
    """(H, W) bool."""
    dense: bool
    """Geometry is that of a depth map; else of tracks alone."""

    @property
    def valid(self) -> np.ndarray:
        """(H, W) bool: there is a point."""
        return np.isfinite(self.depth)

    @cached_property
    def points(self) -> np.ndarray:
        """(H, W, 3) world points, not to be changed; NaN where there is none.

        Those of depth lie on their pixels' rays; those of tracks anywhere within their pixels.
        """
        if not self.dense and self.tracks is not None:
            return of_tracks(self.tracks, self.shown)
        height, width = self.depth.shape
        camera = self.crop.intrinsics
        across = (np.arange(width) - camera[0, 2]) / camera[0, 0]
        down = (np.arange(height) - camera[1, 2]) / camera[1, 1]
        rays = np.stack(np.broadcast_arrays(across[None], down[:, None], np.ones(self.depth.shape)), -1)
        return moved(self.cam2world, self.depth[..., None] * rays)

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Where world points (..., 3) are seen in this view, in pixels (..., 2); NaN where they are not.

        A point is seen where it falls into the image and the depth there agrees.
        """
        x, y, depth = np.moveaxis(moved(np.linalg.inv(self.cam2world), points), -1, 0)
        camera = self.crop.intrinsics
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = x / depth * camera[0, 0] + camera[0, 2], y / depth * camera[1, 1] + camera[1, 2]
        height, width = self.depth.shape
        inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5) & (depth > 0)  # never of a NaN
        column, row = (np.floor(np.where(inside, along, 0) + 0.5).astype(int) for along in (u, v))
        agrees = np.abs(self.depth[row, column] - depth) < AGREEMENT * depth
        return np.where((inside & agrees)[..., None], np.stack([u, v], -1), np.nan)


def see(
    frame: Frame,
    tracks: np.ndarray | None,
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    augmentation: Augmentation,
    portraits: bool,
    farthest: float = math.inf,
    background: bool = True,
) -> Seen:
    """Crop a frame and all that is known of it.

    Args:
        frame: with depth, or with tracks.
        tracks: (N, 3) world points at the frame's time, NaN where not known.
        size: (H, W) of the result; of portrait images (W, H) where ``portraits``.
        rng: what is drawn comes from it.
        augmentation: of crop and colours.
        portraits: portrait images stay portrait.
        farthest: depth from here on is no truth.
        background: what surrounds the object of the scene has truth.
    """
    crop = plan_crop(
        (frame.rgb.shape[0], frame.rgb.shape[1]),
        frame.intrinsics,
        size,
        rng=rng,
        portraits=portraits,
        jitter=augmentation.crop,
        focal=augmentation.focal,
        anywhere=augmentation.anywhere,
    )
    picture = augmentation.colour(crop.picture(frame.rgb), rng)
    sky = np.zeros(crop.size, bool) if frame.sky is None else crop.map(frame.sky)
    hidden = sky if frame.background is None or background else sky | crop.map(frame.background)
    shown, depth = np.full(crop.size, -1), np.full(crop.size, np.nan)
    if tracks is not None:
        local = moved(np.linalg.inv(frame.cam2world), tracks)
        shown = winning_tracks(local, crop.intrinsics, crop.size)
        depth = of_tracks(local[:, 2], shown)
    if frame.depth is not None:
        measured = crop.map(frame.depth).astype(np.float64)
        # a track behind what the depth shows may be known, yet it is not seen
        shown[~(np.abs(depth - measured) < AGREEMENT * measured)] = -1
        depth = measured
    depth = np.where((depth > 0) & (depth < farthest) & ~hidden, depth, np.nan)
    shown[np.isnan(depth)] = -1
    return Seen(
        picture=picture,
        crop=crop,
        cam2world=frame.cam2world,
        depth=depth,
        tracks=tracks,
        shown=shown,
        moving=None if frame.moving is None else crop.map(frame.moving),
        sky=sky,
        dense=frame.depth is not None,
    )


def moved(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in another frame, by a rigid motion (4, 4)."""
    return points @ transform[:3, :3].T + transform[:3, 3]
