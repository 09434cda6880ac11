"""What a Rerun recording shows of motion: arrows to the next frame, trails behind points, points between frames."""

from __future__ import annotations

import numpy as np
import rerun as rr

from stereo4d.types import Scene
from stereo4d_plugins.viewers.clouds import trusted
from stereo4d_plugins.viewers.rerun_look import Look

ARROWS = 150  # of a frame, 4 KB: more of them hide what moves
TRAILS = 240  # points that are followed
SEEDS = 4  # frames that these points are taken from, so that what comes later has trails too
TRAIL_FRAMES = 8  # a trail reaches back: 23 KB a frame for all of them, however long the video is
BETWEEN_POINTS = 6_000  # of a moment between frames: 96 KB each
MOMENTS = 3  # between two frames at most
MOVES = 0.003  # a step below this share of the typical depth is a head's noise
ARROW_COLOR = (255, 225, 90)


def log_arrows(recording: rr.RecordingStream, scene: Scene, frame: int, look: Look) -> None:
    """Arrows from what moves in a frame to where it is in the next, as ``world/motion/arrows``; none at the end."""
    moved = step_to(scene, frame, frame + 1)
    rows = _thinned(moving_pixels(scene, frame, moved, look), ARROWS) if moved is not None else np.zeros(0, int)
    vectors = np.zeros((0, 3), np.float32) if moved is None else moved.reshape(-1, 3)[rows]
    arrows = rr.Arrows3D(
        origins=scene.points(frame).reshape(-1, 3)[rows],
        vectors=vectors,
        colors=[ARROW_COLOR],
        radii=rr.Radius.ui_points(0.7),
    )
    recording.log("world/motion/arrows", arrows)


def log_between(recording: rr.RecordingStream, scene: Scene, frame: int, look: Look) -> None:
    """A frame's points at the sampled times on the way to the next; on the timeline ``time`` only.

    They are those of the frame that are shown at its own time, moved: what ``Scene.at`` says of its pixels.
    """
    samples, edge = scene.motion_samples, _edge(scene, frame, frame + 1)
    if samples is None or edge is None:
        return
    shown = trusted(scene.depth[frame], scene.confidence[frame], look.confidence_floor)
    if look.knows_motion:
        shown &= np.asarray(scene.dynamic[frame]) != 0
    start, end = (float(scene.times[at]) for at in (frame, frame + 1))
    own, colors = scene.points(frame).reshape(-1, 3), np.asarray(scene.rgb[frame]).reshape(-1, 3)
    spacing = look.typical_depth / float(scene.intrinsics[frame, 0, 0])
    recording.disable_timeline("frame")
    for at in _evenly(len(samples.times) - 1, MOMENTS):  # the last is the next frame
        moved = np.asarray(samples.displacement[edge, at], np.float32).reshape(-1, 3)
        rows = _thinned(shown & np.isfinite(moved).all(-1).reshape(shown.shape), BETWEEN_POINTS)
        recording.set_time("time", duration=start + float(samples.times[at]) * (end - start))
        points = rr.Points3D((own + moved)[rows], colors=colors[rows], radii=0.65 * spacing)
        recording.log(f"world/points/{look.moving_name}", points)


class Trails:
    """Moving points followed through the whole scene."""

    def __init__(self, scene: Scene, look: Look) -> None:
        """Choose and follow them.

        Args:
            scene: one that knows of motion.
            look: of that scene.
        """
        points, visible, colors = [], [], []
        frames = _evenly(len(scene), SEEDS)
        for frame in frames.tolist():
            rows = _seeds(scene, frame, look, TRAILS // len(frames))
            if not len(rows):
                continue
            width = scene.depth.shape[2]
            tracks = scene.tracks(np.stack([rows % width, rows // width], 1).astype(np.float64), frame=frame)
            points.append(tracks.points)
            visible.append(tracks.visible)
            colors.append(scene.rgb[frame].reshape(-1, 3)[rows])
        self.points = np.concatenate(points) if points else np.zeros((0, len(scene), 3), np.float32)
        """(P, N, 3), world."""
        self.visible = np.concatenate(visible) if points else np.zeros((0, len(scene)), bool)
        """(P, N)"""
        self.colors = np.concatenate(colors) if points else np.zeros((0, 3), np.uint8)
        """(P, 3) uint8 RGB."""

    def log(self, recording: rr.RecordingStream, frame: int) -> None:
        """The last frames of the way of every point that is seen in a frame, as ``world/motion/trails``."""
        start = max(0, frame + 1 - TRAIL_FRAMES)
        strips = self.points[:, start : frame + 1]
        shown = self.visible[:, frame] & np.isfinite(strips).all((1, 2))
        if strips.shape[1] < 2:
            shown[:] = False
        lines = rr.LineStrips3D(list(strips[shown]), colors=self.colors[shown], radii=rr.Radius.ui_points(1.0))
        recording.log("world/motion/trails", lines)


def step_to(scene: Scene, frame: int, towards: int) -> np.ndarray | None:
    """(H, W, 3) float32 from the points of a frame to where they are in a neighbouring one; None where not known."""
    samples, edge = scene.motion_samples, _edge(scene, frame, towards)
    return None if samples is None or edge is None else np.asarray(samples.displacement[edge, -1], np.float32)


def _edge(scene: Scene, frame: int, towards: int) -> int | None:
    """Which of the scene's samples are those of this step; None if there are none."""
    if scene.motion_samples is None:
        return None
    found = np.flatnonzero((scene.motion_samples.edges == (frame, towards)).all(1))
    return int(found[0]) if len(found) else None


def moving_pixels(scene: Scene, frame: int, moved: np.ndarray, look: Look) -> np.ndarray:
    """(H, W) bool: pixels to be trusted that move in this step, (H, W, 3)."""
    seen = trusted(scene.depth[frame], scene.confidence[frame], look.confidence_floor)
    with np.errstate(invalid="ignore"):  # NaN where nothing is known
        return seen & (np.linalg.norm(moved, axis=-1) > MOVES * look.typical_depth)


def _seeds(scene: Scene, frame: int, look: Look, limit: int) -> np.ndarray:
    """(P,) positions in the flattened image of pixels that move from a frame to the next, or at the end to the last."""
    for towards in (frame + 1, frame - 1):
        if (moved := step_to(scene, frame, towards)) is not None:
            return _thinned(moving_pixels(scene, frame, moved, look), limit)
    return np.zeros(0, int)


def _thinned(mask: np.ndarray, limit: int) -> np.ndarray:
    """Positions in the flattened mask where it holds, evenly thinned to at most ``limit``."""
    rows = np.flatnonzero(mask)
    return rows[_evenly(len(rows), limit)]


def _evenly(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` of the numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int)) if count else np.zeros(0, int)
