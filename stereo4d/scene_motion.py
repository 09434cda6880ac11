"""A scene between its frames: how far pixels move from one time to another, and all points at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stereo4d.errors import UsageError
from stereo4d.scene_tracks import go_on, motion_of_frame, samples_of, set_out, visits

if TYPE_CHECKING:
    from stereo4d.types import Scene

SAME_TIME = 1e-6
"""Seconds: times closer than this are one."""


@dataclass(frozen=True)
class SceneMotion:
    """How far the pixels of one frame move until another time."""

    displacement: np.ndarray
    """(H, W, 3) float32, world axes, scene's unit; NaN where the pixel has no measurement."""
    confidence: np.ndarray
    """(H, W) float32, >= 1; as of ``Tracks``."""
    visible: np.ndarray
    """(H, W) bool: seen at the later time; between two frames, in both of them."""


@dataclass(frozen=True)
class Moment:
    """The scene at one time: P points, and the camera."""

    points: np.ndarray
    """(P, 3) float32, world. Between frames those of both neighbours: what both see is there twice."""
    colors: np.ndarray
    """(P, 3) uint8 RGB, of the pixels that the points come from."""
    confidence: np.ndarray
    """(P,) float32, >= 1: no more than that of the pixel's point, and of its motion."""
    moving: np.ndarray
    """(P,) bool: the pixel is marked ``dynamic``."""
    cam2world: np.ndarray
    """(4, 4) float32; between frames the camera turns evenly about one axis and goes straight."""
    intrinsics: np.ndarray
    """(3, 3) float32, pixels at network resolution; between frames in proportion."""
    time: float
    """Seconds."""


def motion_between(scene: Scene, t0: float, t1: float) -> SceneMotion:
    """See ``Scene.motion``."""
    samples_of(scene)
    frame = _frame_at(scene, t0)
    _check_within(scene, t1)
    height, width = scene.depth.shape[1:]
    v, u = np.mgrid[:height, :width]
    begin = set_out(scene, np.stack([u.ravel(), v.ravel()], 1).astype(np.float64), frame)
    # whole frames first: up to the last one before t1, and the one behind t1 to tell what is still seen
    before, behind = _around(scene, t1)
    forward = scene.times[frame] <= t1 + SAME_TIME
    near, far = (before, behind) if forward else (behind, before)
    last, visible = begin, np.ones(height * width, bool)
    for index, walk in visits(scene, begin, frame, far):
        if index in (near, far):
            last, visible = walk if index == near else last, visible & walk.place.seen
    arrived = last if near == far else go_on(scene, last, near, t1)
    displacement = (arrived.points - begin.points).astype(np.float32)
    return SceneMotion(
        displacement.reshape(height, width, 3),
        arrived.confidence.astype(np.float32).reshape(height, width),
        visible.reshape(height, width),
    )


def moment_at(scene: Scene, t: float) -> Moment:
    """See ``Scene.at``."""
    _check_within(scene, t)
    before, behind = _around(scene, t)
    parts = []
    for frame in sorted({before, behind}):
        points, confidence = scene.points(frame), np.asarray(scene.confidence[frame], np.float32)
        if before != behind:
            samples_of(scene)
            found = motion_of_frame(scene, frame, t)
            if found is None:
                continue
            points, confidence = points + found[0], np.fmin(confidence, found[1])
        known = np.isfinite(points).all(-1)
        parts.append((points[known], scene.rgb[frame][known], confidence[known], scene.dynamic[frame][known] > 0))
    if not parts:
        raise UsageError(f"motion_samples say nothing of the frames around {t:g} s; ask at a frame's time")
    points, colors, confidence, moving = (np.concatenate(part) for part in zip(*parts, strict=True))
    span = float(scene.times[behind] - scene.times[before])
    share = (t - float(scene.times[before])) / span if span else 0.0
    intrinsics = (1 - share) * scene.intrinsics[before] + share * scene.intrinsics[behind]
    cam2world = between_poses(scene.cam2world[before], scene.cam2world[behind], share)
    return Moment(points.astype(np.float32), colors, confidence, moving, cam2world, intrinsics.astype(np.float32), t)


def between_poses(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """(4, 4) float32 pose between two, turned evenly about one axis, moved straight; the ends are the poses given."""
    from scipy.spatial.transform import Rotation, Slerp

    if share <= 0 or share >= 1:
        return np.array(start if share <= 0 else end, np.float32)
    pose = np.eye(4, dtype=np.float32)
    turn = Slerp([0, 1], Rotation.from_matrix(np.stack([start[:3, :3], end[:3, :3]]).astype(np.float64)))
    pose[:3, :3] = turn(share).as_matrix()
    pose[:3, 3] = (1 - share) * start[:3, 3] + share * end[:3, 3]
    return pose


def _frame_at(scene: Scene, t0: float) -> int:
    """The frame at a time, to within half the time to its neighbours."""
    times = np.asarray(scene.times)
    nearest = int(np.abs(times - t0).argmin())
    step = np.abs(np.delete(times, nearest) - times[nearest]).min() if len(times) > 1 else 0.0
    if not abs(times[nearest] - t0) <= step / 2 + SAME_TIME:
        raise UsageError(
            f"no frame is at {t0:g} s: motion starts from the pixels of a frame; the nearest is at {times[nearest]:g} s"
        )
    return nearest


def _check_within(scene: Scene, t: float) -> None:
    first, last = float(scene.times[0]), float(scene.times[-1])
    if not first - SAME_TIME <= t <= last + SAME_TIME:
        raise UsageError(f"time {t:g} s is outside the clip, which lasts from {first:g} to {last:g} s")


def _around(scene: Scene, t: float) -> tuple[int, int]:
    """The frames before and behind a time of the clip; twice the same at a frame's own time."""
    times = np.asarray(scene.times)
    nearest = int(np.abs(times - t).argmin())
    if abs(times[nearest] - t) <= SAME_TIME:
        return nearest, nearest
    behind = int(np.searchsorted(times, t))
    return behind - 1, behind
