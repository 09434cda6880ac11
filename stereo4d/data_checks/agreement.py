"""How well the truth of two frames agrees: points of one, seen from the other, meet its depth and its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.data.conventions import Conventions, ray_length
from stereo4d.data.posed_frames import Frame

DEPTH_LIMIT, COLOUR_LIMIT = 0.1, 64.0
"""Relative depths, and colours of 255, that differ by more differ wholly."""
SAME_SURFACE = 0.05
"""Relative depths of neighbours that differ by more belong to two surfaces."""


@dataclass(frozen=True)
class Points:
    """P surface points seen in a first frame, as its files say them, and where they are looked for: a second frame."""

    first: Frame
    second: Frame
    pixels: np.ndarray
    """(P, 2) float64 in the first frame."""
    stored: np.ndarray
    """(P,) float32 depth, in the unit of the files."""


@dataclass(frozen=True)
class TrackViews:
    """P tracked points that two frames see."""

    first: Frame
    second: Frame
    tracks0: np.ndarray
    """(P, 3) float64 in the world at the first frame."""
    tracks1: np.ndarray
    """(P, 3) float64 in the world at the second frame."""


@dataclass(frozen=True)
class Agreement:
    """What became of P points in a second frame."""

    inside: np.ndarray
    """(P,) bool: in front of it, in its image."""
    depth: np.ndarray
    """(P,) relative difference to its depth there; NaN outside and where it has none."""
    colour: np.ndarray
    """(P,) mean absolute difference of colours of 255; NaN outside."""
    pixels: np.ndarray
    """(P,) how far from where they started points come back, by the second frame's depth; NaN as ``depth``."""

    def misfit(self) -> np.ndarray:
        """(P,) from 0, all agrees, to 1, which is also that of a point outside."""
        colour = np.minimum(self.colour / COLOUR_LIMIT, 1)
        depth = np.minimum(self.depth / DEPTH_LIMIT, 1)
        both = np.where(np.isnan(depth), colour, (colour + depth) / 2)
        return np.where(self.inside, both, 1.0)


def points_of(first: Frame, second: Frame, said: Conventions, count: int, rng: np.random.Generator) -> Points:
    """Some measured pixels of a frame that are not known to move or to be sky.

    Args:
        first: with depth.
        second: with depth.
        said: what the data set takes its files to mean.
        count: P at most.
        rng: chooses.
    """
    depth = first.depth
    assert depth is not None
    usable = np.isfinite(depth) & (depth > 0)
    for mask in (first.moving, first.sky):
        if mask is not None:
            usable &= ~mask
    chosen = np.argwhere(usable)
    chosen = chosen[rng.permutation(len(chosen))[:count]]
    pixels = chosen[:, ::-1].astype(np.float64)
    values = depth[chosen[:, 0], chosen[:, 1]]
    return Points(first, second, pixels, said.stored_depth(values, ray_length(pixels, first.intrinsics)))


def agreement(points: Points, said: Conventions, tried: Conventions) -> Agreement:
    """How points agree if the files meant something else than they are taken for.

    Args:
        points: of two frames.
        said: what the data set takes its files to mean.
        tried: what they may mean.
    """
    lens0, lens1 = (tried.intrinsics(said.stored_intrinsics(f.intrinsics)) for f in (points.first, points.second))
    pose0, pose1 = (tried.cam2world(said.stored_pose(f.cam2world)) for f in (points.first, points.second))
    to_second = np.linalg.inv(pose1) @ pose0
    depth = tried.depth(points.stored, ray_length(points.pixels, lens0)).astype(np.float64)
    there = _lifted(points.pixels, depth, lens0) @ to_second[:3, :3].T + to_second[:3, 3]
    found, inside = projected(there, lens1, points.second.rgb.shape)
    colour = np.abs(sampled(points.second.rgb, found) - sampled(points.first.rgb, points.pixels)).mean(-1)
    measured = _second_depth(points, said, tried, found, lens1)
    back = (_lifted(found, measured, lens1) - to_second[:3, 3]) @ to_second[:3, :3]
    returned = _divided(back @ lens0.T)
    unknown = ~inside | np.isnan(measured)
    return Agreement(
        inside=inside,
        depth=np.where(unknown, np.nan, np.abs(there[:, 2] - measured) / np.where(unknown, 1, measured)),
        colour=np.where(inside, colour, np.nan),
        pixels=np.where(unknown, np.nan, np.linalg.norm(returned - points.pixels, axis=-1)),
    )


def projected(points: np.ndarray, intrinsics: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where points (P, 3) of a camera's frame are seen in its image.

    Returns:
        (P, 2) pixels, those of points outside being the first, and (P,) whether they are in front and inside.
    """
    with np.errstate(all="ignore"):
        pixels = _divided(points @ intrinsics.T)
        inside = (points[:, 2] > 0) & (pixels >= 0).all(1) & (pixels <= [shape[1] - 1, shape[0] - 1]).all(1)
    return np.where(inside[:, None], pixels, 0), inside


def sampled(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(P, C) float64 colours of an image (H, W, C) between its pixels, at (P, 2) within it."""
    corners, weights = _corners(pixels, image.shape)
    return (image[corners[..., 1], corners[..., 0]] * weights[..., None]).sum(1)


def _second_depth(
    points: Points, said: Conventions, tried: Conventions, found: np.ndarray, lens: np.ndarray
) -> np.ndarray:
    """(P,) depth of the second frame between its pixels, that of the nearest one at edges; NaN where not measured."""
    known = points.second.depth
    assert known is not None
    corners, weights = _corners(found, known.shape)
    values = known[corners[..., 1], corners[..., 0]]
    stored = said.stored_depth(values, ray_length(corners, points.second.intrinsics))
    depth = tried.depth(stored, ray_length(corners, lens)).astype(np.float64)
    with np.errstate(all="ignore"):
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
        smooth = depth.max(1) - depth.min(1) < SAME_SURFACE * depth.min(1)
    nearest = depth[np.arange(len(depth)), weights.argmax(1)]
    return np.where(smooth, (depth * weights).sum(1), nearest)


def _corners(pixels: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(P, 4, 2) int pixels around places (P, 2) in an image, and their (P, 4) bilinear weights."""
    low = np.floor(pixels).astype(int)
    part = pixels - low
    steps = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    corners = np.minimum(low[:, None] + steps, [shape[1] - 1, shape[0] - 1])
    weights = np.where(steps, part[:, None], 1 - part[:, None]).prod(-1)
    return corners, weights


def _lifted(pixels: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(P, 3) points of pixels (P, 2) at depth (P,) in their camera's frame."""
    plane = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    return np.concatenate([plane, np.ones((len(plane), 1))], 1) * depth[:, None]


def _divided(points: np.ndarray) -> np.ndarray:
    """(P, 2) from homogeneous (P, 3)."""
    with np.errstate(all="ignore"):
        return points[:, :2] / points[:, 2:]


def track_agreement(views: TrackViews, said: Conventions, tried: Conventions) -> Agreement:
    """How tracked points agree, seen where each frame's camera has them, if the poses meant something else.

    Args:
        views: two frames and the tracks seen in both.
        said: what the data set takes its files to mean.
        tried: what they may mean.
    """
    found, inside = [], []
    for frame, tracks in ((views.first, views.tracks0), (views.second, views.tracks1)):
        world2cam = np.linalg.inv(tried.cam2world(said.stored_pose(frame.cam2world)))
        lens = tried.intrinsics(said.stored_intrinsics(frame.intrinsics))
        pixels, seen = projected(tracks @ world2cam[:3, :3].T + world2cam[:3, 3], lens, frame.rgb.shape)
        found.append(pixels)
        inside.append(seen)
    both = inside[0] & inside[1]
    colour = np.abs(sampled(views.first.rgb, found[0]) - sampled(views.second.rgb, found[1])).mean(-1)
    nothing = np.full(len(both), np.nan)
    return Agreement(both, nothing, np.where(both, colour, np.nan), nothing)
