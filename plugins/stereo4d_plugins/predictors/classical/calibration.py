"""Cameras of a clip without any network: its focal, its camera path, and what about them cannot be known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stereo4d.progress import SILENT, Progress
from stereo4d_plugins.predictors.classical import clip_remarks
from stereo4d_plugins.predictors.classical.camera_path import CameraPath, find_path
from stereo4d_plugins.predictors.classical.hypotheses import image_motion, key_frames, largest_motion
from stereo4d_plugins.predictors.classical.lens import Lens
from stereo4d_plugins.predictors.classical.tracks import Tracks, track_clip

_RANGE = (0.35, 4.0)  # focals of the long side that are believed; beyond them perspective cannot be told from noise
_CERTAIN = 0.025  # standard deviation of log focal up to which it counts as observed; true errors are about 3 times
_FEWEST_TRACKS = 20
_STILL = 0.4  # median motion in pixels (at most 480 wide) that noise alone can show


@dataclass(frozen=True)
class ClipCalibration:
    """Cameras of the N frames of a clip."""

    focal: float
    """Pixels; of all frames where intrinsics were not given, else the median of what was given."""
    focal_source: str
    """``given``, ``self-calibrated`` or ``prior``."""
    focal_deviation: float
    """Standard deviation of log focal that the tracks leave; inf where it was not an unknown or does not show."""
    intrinsics: np.ndarray
    """(N, 3, 3) float64, pixels: those given, or the focal with the principal point (W/2, H/2)."""
    world2cam: np.ndarray
    """(N, 4, 4) float64; the world is the first camera, its unit arbitrary."""
    camera_known: np.ndarray
    """(N,) bool: False where a frame could not be placed; its camera is then in between its neighbours'."""
    moves: bool
    """Whether the camera moved or turned at all."""
    rotation_only: bool
    """Whether it turned without a baseline that shows; translations are zero then."""
    error: float
    """Median reprojection error in pixels; NaN without points."""
    points: int
    """Points that were placed."""
    tracks: int
    """Tracks that were followed."""
    remarks: tuple[str, ...]
    """Sentences for the user."""


def calibrate_clip(
    rgb: np.ndarray,
    *,
    intrinsics: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ClipCalibration:
    """Find the focal and the cameras of a clip.

    Args:
        rgb: (N, H, W, 3) uint8, frames in order of time.
        intrinsics: (N, 3, 3) pixels where known, rows of NaN where not; None where nothing is known.
        seed: same seed, same answer.
        progress: told about the work.

    Returns:
        Finite cameras whatever the clip shows; ``remarks`` say what it does not show.
    """
    lens = Lens.of(rgb.shape, intrinsics)
    tracks = track_clip(rgb, progress=progress)
    keys = key_frames(image_motion(tracks), 0.08 * lens.long_side, at_least=12, at_most=24)
    table = tracks.table(keys, tracks.longest(keys, at_least=2, at_most=600))
    motion = largest_motion(table)
    if motion is None or len(table) < _FEWEST_TRACKS:
        return _without_path(lens, tracks, clip_remarks.no_tracks(len(rgb), tracks.count))
    if motion < _STILL * max(1.0, lens.long_side / 480):
        return _without_path(lens, tracks, clip_remarks.STANDS, known=_looked_at(tracks))
    with progress.stage("cameras", 1, "clip") as stage:
        path = find_path(tracks, lens, seed=seed)
        source = "given" if lens.known else "self-calibrated"
        if path is not None and not lens.known and not _believable(path, lens):
            lens, source = lens.believed(), "prior"
            path = replace(find_path(tracks, lens, seed=seed) or path, focal=lens.shared)
        stage.advance()
    if path is None:
        return _without_path(lens, tracks, clip_remarks.NO_PATH)
    return _with_path(path, lens, source, tracks)


def _believable(path: CameraPath, lens: Lens) -> bool:
    """Whether a clip has shown its focal: few frames must show it the more clearly, for nothing else confirms it."""
    certain = _CERTAIN * min(1.0, (path.known.sum() - 1) / 8)
    return path.adjusted.focal_deviation < certain and _RANGE[0] < path.focal / lens.long_side < _RANGE[1]


def _looked_at(tracks: Tracks) -> np.ndarray:
    """(N,) bool: frames in which enough points were seen to say that nothing moved."""
    return np.bincount(tracks.frame, minlength=tracks.frames) >= _FEWEST_TRACKS


def _without_path(lens: Lens, tracks: Tracks, remark: str, known: np.ndarray | None = None) -> ClipCalibration:
    """Cameras that all stand in one place."""
    frames = len(lens.intrinsics)
    return ClipCalibration(
        focal=lens.shared,
        focal_source="given" if lens.known else "prior",
        focal_deviation=float("inf"),
        intrinsics=lens.intrinsics,
        world2cam=np.tile(np.eye(4), (frames, 1, 1)),
        camera_known=np.zeros(frames, bool) if known is None else known,
        moves=False,
        rotation_only=False,
        error=float("nan"),
        points=0,
        tracks=tracks.count,
        remarks=(remark, *clip_remarks.about_focal("given" if lens.known else "prior", lens.shared, lens.long_side)),
    )


def _with_path(path: CameraPath, lens: Lens, source: str, tracks: Tracks) -> ClipCalibration:
    world2cam = np.tile(np.eye(4), (len(path.rotation), 1, 1))
    world2cam[:, :3, :3], world2cam[:, :3, 3] = path.rotation, path.translation
    world2cam = world2cam @ np.linalg.inv(world2cam[0])
    world2cam[0] = np.eye(4)
    error = float(np.nanmedian(path.adjusted.residuals))
    remarks = [
        *((clip_remarks.TURNS,) if path.rotation_only else ()),
        *clip_remarks.about_focal(source, path.focal, lens.long_side),
        *clip_remarks.about_frames(path.known),
        *clip_remarks.about_error(error, lens.limit),
    ]
    return ClipCalibration(
        focal=path.focal,
        focal_source=source,
        focal_deviation=path.adjusted.focal_deviation,
        intrinsics=lens.with_focal(path.focal),
        world2cam=world2cam,
        camera_known=path.known,
        moves=True,
        rotation_only=path.rotation_only,
        error=error,
        points=len(path.adjusted.bundle.points),
        tracks=tracks.count,
        remarks=tuple(remarks),
    )
