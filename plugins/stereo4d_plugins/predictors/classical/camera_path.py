"""From tracks to the cameras of all frames: which kind of motion explains them, and with which focal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stereo4d_plugins.predictors.classical.bundle import Adjusted, Bundle
from stereo4d_plugins.predictors.classical.hypotheses import image_motion, key_frames, moving, refined, turning
from stereo4d_plugins.predictors.classical.lens import Lens
from stereo4d_plugins.predictors.classical.registration import Path, extend, resect_rest, with_points
from stereo4d_plugins.predictors.classical.rotations import between
from stereo4d_plugins.predictors.classical.tracks import Tracks

_KEY_TRACKS, _MOST_TRACKS, _MOST_FRAMES = 400, 1000, 100
_FEWEST_POINTS = 15
_TURNS_AS_WELL = 1.35  # residuals of a camera that only turns, over those of one that moves, up to which it only turns


@dataclass(frozen=True)
class CameraPath:
    """Cameras of N frames."""

    rotation: np.ndarray
    """(N, 3, 3) world to camera."""
    translation: np.ndarray
    """(N, 3) world to camera."""
    known: np.ndarray
    """(N,) bool: placed, not filled in."""
    focal: float
    """Pixels, the shared one."""
    rotation_only: bool
    """Whether no baseline shows; translations are zero then."""
    adjusted: Adjusted
    """The last adjustment, of a part of the frames in a long clip."""


def find_path(tracks: Tracks, lens: Lens, *, seed: int) -> CameraPath | None:
    """The camera path that explains the tracks.

    Args:
        tracks: of N frames.
        lens: whose focal is free unless it is known.
        seed: same seed, same answer.

    Returns:
        None where neither turning nor moving explains them.
    """
    motion = image_motion(tracks)
    keys = key_frames(motion, 0.08 * lens.long_side, at_least=8, at_most=12)
    frames = np.union1d(_adjusted_frames(motion, lens), keys)
    observations = lens.observed(tracks, keys, tracks.longest(keys, at_least=2, at_most=_KEY_TRACKS))
    turned = turning(observations, lens.starts()[::3], free_focal=not lens.known)
    path = moving(observations, lens.starts(), lens.limit, free_focal=not lens.known, seed=seed)
    if path is not None:
        path, done = _all_frames(path, keys, frames, tracks, lens, seed)
        if len(done.bundle.points) < _FEWEST_POINTS or path.placed.sum() < 2:
            path = None
        elif turned is None or done.sigma * _TURNS_AS_WELL < turned.sigma:
            return _moved(path, done)
    # A camera that moves and cannot be placed must not pass for one that turns.
    if turned is None or (path is None and turned.sigma > lens.limit):
        return None
    return _turned(tracks, lens, frames, turned.bundle.focal)


def _moved(path: Path, done: Adjusted) -> CameraPath:
    """A path with the cameras filled in that have none."""
    rotation, where = between(path.bundle.rotation, path.placed), np.flatnonzero(path.placed)
    centre = -np.einsum("nji,nj->ni", path.bundle.rotation, path.bundle.translation)
    steps = np.arange(len(rotation))
    centre = np.stack([np.interp(steps, where, centre[where, axis]) for axis in range(3)], -1)
    return CameraPath(rotation, -np.einsum("nij,nj->ni", rotation, centre), path.placed, path.bundle.focal, False, done)


def _turned(tracks: Tracks, lens: Lens, frames: np.ndarray, focal: float) -> CameraPath | None:
    """A path of rotations for all frames."""
    chosen = tracks.longest(frames, at_least=2, at_most=_most_tracks(frames))
    observations = lens.observed(tracks, frames, chosen)
    done = turning(observations, [focal], free_focal=not lens.known)
    if done is None:
        return None
    known = np.zeros(tracks.frames, bool)
    known[frames] = True
    rotation = np.repeat(np.eye(3)[None], tracks.frames, 0)
    rotation[frames] = done.bundle.rotation
    still = np.zeros((tracks.frames, 3))
    return CameraPath(between(rotation, known), still, known, done.bundle.focal, True, done)


def _adjusted_frames(motion: np.ndarray, lens: Lens) -> np.ndarray:
    """All frames of a clip of usual length; of a longer one those that the image motion asks for."""
    if len(motion) < _MOST_FRAMES:
        return np.arange(len(motion) + 1)
    return key_frames(motion, 0.04 * lens.long_side, at_least=48, at_most=_MOST_FRAMES)


def _all_frames(
    path: Path, keys: np.ndarray, frames: np.ndarray, tracks: Tracks, lens: Lens, seed: int
) -> tuple[Path, Adjusted]:
    """Carry a path of key frames over to more frames and more tracks, and adjust it."""
    chosen = tracks.longest(frames, at_least=min(3, len(frames)), at_most=_most_tracks(frames))
    observations = lens.observed(tracks, frames, chosen)
    whole = _spread_out(path, np.searchsorted(frames, keys), len(frames), len(chosen))
    whole = with_points(whole, observations, lens.limit)
    whole = extend(whole, observations, lens.limit, free_focal=False, seed=seed, rounds=0)
    whole, done = refined(whole, observations, lens.limit, free_focal=not lens.known)
    if len(frames) == tracks.frames:
        return whole, done
    everything = np.arange(tracks.frames)
    points, solid = whole.bundle.points, whole.solid
    whole = _spread_out(whole, frames, tracks.frames, len(chosen))
    whole = Path(replace(whole.bundle, points=points), whole.placed, solid)
    return resect_rest(whole, lens.observed(tracks, everything, chosen), lens.limit, seed), done


def _most_tracks(frames: np.ndarray) -> int:
    return max(_MOST_TRACKS, 15 * len(frames))


def _spread_out(path: Path, at: np.ndarray, frames: int, tracks: int) -> Path:
    """The cameras of a path at their places (K,) among more frames; no points."""
    rotation, translation = np.repeat(np.eye(3)[None], frames, 0), np.zeros((frames, 3))
    placed = np.zeros(frames, bool)
    rotation[at], translation[at], placed[at] = path.bundle.rotation, path.bundle.translation, path.placed
    bundle = Bundle(rotation, translation, np.zeros((tracks, 3)), path.bundle.focal)
    return Path(bundle, placed, np.zeros(tracks, bool))
