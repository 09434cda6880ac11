"""What the tracks of a clip may mean: a camera that stands, one that only turns, one that moves; with any focal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stereo4d_plugins.predictors.classical.bundle import Adjusted, Bundle, Observations, adjust
from stereo4d_plugins.predictors.classical.registration import Path, begin, extend, misfit, with_points
from stereo4d_plugins.predictors.classical.rotations import rotation_between, unit_rays
from stereo4d_plugins.predictors.classical.tracks import Tracks

_SAME_FOCAL = 0.02  # difference of log focal
_COMMON = 15  # tracks that two frames must share to be compared


def image_motion(tracks: Tracks) -> np.ndarray:
    """(N-1,) median distance in pixels that points move from one frame to the next; 0 where none was followed."""
    track, frame, pixels = tracks.track, tracks.frame, tracks.pixels
    next_to = (track[1:] == track[:-1]) & (frame[1:] == frame[:-1] + 1)
    step = np.linalg.norm(pixels[1:] - pixels[:-1], axis=1)[next_to]
    of_frame = frame[:-1][next_to]
    return np.array(
        [np.median(step[of_frame == index]) if (of_frame == index).any() else 0.0 for index in range(tracks.frames - 1)]
    )


def largest_motion(table: np.ndarray) -> float | None:
    """Median distance in pixels that points move between the two frames where it is largest; None: no two compare.

    Args:
        table: (T, K, 2) pixels, NaN where unseen.
    """
    largest: float | None = None
    for first in range(table.shape[1]):
        step = np.linalg.norm(table[:, first + 1 :] - table[:, first : first + 1], axis=-1)
        shared = np.isfinite(step).sum(0) >= _COMMON
        if shared.any():
            largest = max(largest or 0.0, float(np.nanmedian(step[:, shared], axis=0).max()))
    return largest


def key_frames(motion: np.ndarray, span: float, *, at_least: int, at_most: int) -> np.ndarray:
    """(K,) frames spread evenly over the motion of the image, the first and the last among them.

    Args:
        motion: (N-1,) pixels from frame to frame.
        span: pixels of motion from one key frame to the next.
        at_least: K at least, as far as there are frames.
        at_most: K at most.
    """
    frames = len(motion) + 1
    # Time counts a little, so that a standing stretch is not skipped altogether.
    walked = np.concatenate([[0.0], np.cumsum(motion + 0.1 * motion.sum() / frames + 1e-6)])
    count = int(np.clip(np.ceil(walked[-1] / span) + 1, min(at_least, frames), min(at_most, frames)))
    wanted = np.linspace(0, walked[-1], count)
    return np.unique(np.abs(walked[:, None] - wanted).argmin(0))


def turning(observations: Observations, focals: list[float], *, free_focal: bool) -> Adjusted | None:
    """The best camera that only turns: rotations, directions, and the focal if it is free.

    Args:
        observations: of T points in N cameras; neighbouring cameras share points.
        focals: to begin from.
        free_focal: whether the focal is an unknown.

    Returns:
        None where neighbouring cameras share too few points.
    """
    best: Adjusted | None = None
    for focal in focals:
        start = _turning_start(observations, focal)
        if start is None:
            return None
        done = adjust(start, observations, motion="rotation", free_focal=free_focal, rounds=12)
        if best is None or done.sigma < best.sigma:
            best = done
    return best


def _turning_start(observations: Observations, focal: float) -> Bundle | None:
    rays = unit_rays(observations.offsets, focal)
    seen = observations.seen
    frames = seen.shape[1]
    rotation = np.repeat(np.eye(3)[None], frames, 0)
    for frame in range(1, frames):
        both = seen[:, frame] & seen[:, frame - 1]
        if both.sum() < _COMMON:
            return None
        step, _ = rotation_between(rays[both, frame - 1], rays[both, frame])
        rotation[frame] = step @ rotation[frame - 1]
    points = np.einsum("nji,tnj,tn->ti", rotation, rays, seen.astype(np.float64))
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return Bundle(rotation, np.zeros((frames, 3)), points, focal)


def moving(
    observations: Observations, focals: list[float], limit: float, *, free_focal: bool, seed: int
) -> Path | None:
    """The best camera path with baselines over several focals to begin from.

    Args:
        observations: of T points in N cameras.
        focals: pixels, the widest view first.
        limit: reprojection error in pixels from which an observation counts as wrong.
        free_focal: whether adjustments move the focal.
        seed: same seed, same answer.
    """
    best, best_value = None, np.inf
    ends: list[float] = []
    for focal in focals:
        path = begin(observations, focal, limit, seed)
        if path is None:
            continue
        path = extend(path, observations, limit, free_focal=free_focal, seed=seed)
        value = misfit(path, observations, 3 * limit)
        if value < best_value:
            best, best_value = path, value
        ends.append(path.bundle.focal)
        # There may be a false answer with a long focal: only where the widest start agrees has enough been tried.
        if len(ends) > 1 and abs(np.log(ends[0] / ends[-1])) < _SAME_FOCAL:
            break
    return best


def refined(path: Path, observations: Observations, limit: float, *, free_focal: bool) -> tuple[Path, Adjusted]:
    """Adjust a whole path, part with tracks that do not fit a world at rest, and adjust again.

    Args:
        path: cameras and points.
        observations: of its points in its cameras.
        limit: reprojection error in pixels from which an observation counts as wrong.
        free_focal: whether the focal is an unknown.
    """
    for rounds in (10, 20):
        path = with_points(replace(path, solid=np.zeros_like(path.solid)), observations, limit)
        rows, columns = np.flatnonzero(path.solid), np.flatnonzero(path.placed)
        part = Observations(observations.offsets[np.ix_(rows, columns)], observations.seen[np.ix_(rows, columns)])
        whole = path.bundle
        small = Bundle(whole.rotation[columns], whole.translation[columns], whole.points[rows], whole.focal)
        done = adjust(small, part, free_focal=free_focal, rounds=rounds)
        rotation, translation, points = whole.rotation.copy(), whole.translation.copy(), whole.points.copy()
        rotation[columns], translation[columns] = done.bundle.rotation, done.bundle.translation
        points[rows] = done.bundle.points
        path = replace(path, bundle=Bundle(rotation, translation, points, done.bundle.focal))
        limit = float(np.clip(4 * done.sigma, 0.4 * limit, limit))
    return path, done
