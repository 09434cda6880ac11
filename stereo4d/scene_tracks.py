"""Points followed through a scene, from what every frame knows of its own pixels' motion.

A point moves with the pixels that show it. In the next frame it is seen where the depth there agrees with its own, and
the pixels there came from where it came from; then it goes on with that frame's motion. Elsewhere it is hidden, and
goes on as it last did, until it is seen again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stereo4d.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from stereo4d.types import MotionSamples, Scene

ONE_SURFACE = 0.1
"""Neighbouring pixels belong to a point's surface if their depth differs from its own by less than this share of it."""
SEEN = 0.03
"""A point is seen where the surface's depth at its very place differs from its own by less than this share of it."""
MOVED_ALIKE = 0.01
"""Pixels belong to a point's surface if they came from where it did, to within this share of depth, or half the way."""
ENOUGH = 0.3
"""The least weight of the pixels of its surface, among the four around it, with which a point is seen."""
STILL = 0.003
"""A step shorter than this share of the distance to the camera is noise: what is hidden then stands still."""
FADE = 0.5
"""What is left of confidence (beyond 1) after a step that was not seen."""


@dataclass(frozen=True)
class Tracks:
    """P points at the times of a scene's N frames."""

    points: np.ndarray
    """(P, N, 3) float32, world, scene's unit; NaN throughout where the pixel has no measurement."""
    confidence: np.ndarray
    """(P, N) float32, >= 1: no more than that of the pixel's point and of every motion since, and halved towards 1 with
    every step that was not seen."""
    visible: np.ndarray
    """(P, N) bool: seen in that frame; not hidden, nor outside the image."""
    times: np.ndarray
    """(N,) float64, seconds."""


@dataclass(frozen=True)
class Place:
    """Where P points are seen in a frame: up to four pixels around each, of the point's own surface."""

    pixels: np.ndarray
    """(P, 4) int64, positions in the flattened image."""
    weights: np.ndarray
    """(P, 4), adding up to 1 where a point is seen, 0 elsewhere."""

    @property
    def seen(self) -> np.ndarray:
        """(P,) bool."""
        return self.weights.sum(1) > 0

    def of(self, image: np.ndarray) -> np.ndarray:
        """(P, ...) values of an image (H, W, ...) at the points; of those not seen 0."""
        weights = self.weights.reshape(*self.weights.shape, *[1] * (image.ndim - 2))
        values = image.reshape(-1, *image.shape[2:])[self.pixels]
        return np.where(weights > 0, weights * values, 0).sum(1)


@dataclass(frozen=True)
class Walk:
    """P points on their way, at one moment."""

    points: np.ndarray
    """(P, 3) float64, world."""
    velocity: np.ndarray
    """(P, 3), per second, as it last was; 0 of what stands still."""
    confidence: np.ndarray
    """(P,), >= 1."""
    place: Place
    """In the frame where they were last looked for."""


def follow(scene: Scene, pixels: np.ndarray, *, frame: int) -> Tracks:
    """See ``Scene.tracks``."""
    samples_of(scene)
    pixels = np.asarray(pixels, np.float64)
    count, (height, width) = len(scene), scene.depth.shape[1:]
    if pixels.ndim != 2 or pixels.shape[1] != 2:
        raise ShapeError(f"pixels {pixels.shape} must be (points, 2): u, v")
    if not 0 <= frame < count:
        raise UsageError(f"frame {frame}: the scene has frames 0 to {count - 1}")
    inside = (np.abs(pixels + 0.5 - np.array([width, height]) / 2) <= np.array([width, height]) / 2).all(1)
    if not inside.all():
        u, v = pixels[~inside][0]
        raise UsageError(
            f"pixel ({u:g}, {v:g}) is outside the image of {width} x {height} pixels at network resolution"
        )
    begin = set_out(scene, pixels, frame)
    points = np.empty((len(pixels), count, 3), np.float32)
    confidence, visible = np.empty((len(pixels), count), np.float32), np.zeros((len(pixels), count), bool)
    for goal in (0, count - 1):
        for index, walk in visits(scene, begin, frame, goal):
            points[:, index], confidence[:, index], visible[:, index] = walk.points, walk.confidence, walk.place.seen
    return Tracks(points, confidence, visible, np.array(scene.times))


def samples_of(scene: Scene) -> MotionSamples:
    """What the scene knows of motion.

    Raises:
        UsageError: nothing.
    """
    if scene.motion_samples is None:
        raise UsageError(
            "this scene has no motion: reconstruct it with weights that have a motion head, "
            "or give it motion_samples (stereo4d.types.MotionSamples)"
        )
    return scene.motion_samples


def set_out(scene: Scene, pixels: np.ndarray, frame: int) -> Walk:
    """The points of pixels (P, 2) u, v of a frame, at rest in its own time; between pixels on the nearest's surface."""
    depth = np.asarray(scene.depth[frame], np.float64)
    u, v = pixels.T
    nearest = depth[
        np.clip(np.rint(v), 0, len(depth) - 1).astype(int), np.clip(np.rint(u), 0, depth.shape[1] - 1).astype(int)
    ]
    place = _place(depth, u, v, np.where(nearest > 0, nearest, np.nan), enough=0.0)
    with np.errstate(divide="ignore"):
        inverse = place.of(np.where(depth > 0, 1 / depth, 0))  # affine in the image, of planes
        found = np.where(place.seen, 1 / inverse, np.nan)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(np.asarray(scene.intrinsics[frame], np.float64)).T
    cam2world = np.asarray(scene.cam2world[frame], np.float64)
    points = (found[:, None] * rays) @ cam2world[:3, :3].T + cam2world[:3, 3]
    confidence = np.where(place.seen, place.of(np.asarray(scene.confidence[frame], np.float64)), 1)
    return Walk(points, np.zeros_like(points), _at_least_one(confidence), place)


def visits(scene: Scene, walk: Walk, frame: int, goal: int) -> Iterator[tuple[int, Walk]]:
    """The points at the time of every frame from ``frame`` to ``goal``, both among them, one after the other."""
    yield frame, walk
    step = 1 if goal > frame else -1
    for arrived in range(frame + step, goal + step, step) if goal != frame else ():
        moved = go_on(scene, walk, arrived - step, float(scene.times[arrived]))
        place = look(scene, arrived, moved.points, arrived - step, moved.points - walk.points)
        walk = replace(moved, place=place)
        yield arrived, walk


def go_on(scene: Scene, walk: Walk, frame: int, time: float) -> Walk:
    """Points looked for in a frame, moved to a time that is no further than the next frame's."""
    elapsed = time - float(scene.times[frame])
    hidden = replace(
        walk,
        points=walk.points + walk.velocity * elapsed,
        confidence=1 + FADE * (walk.confidence - 1),
    )
    found = motion_of_frame(scene, frame, time)
    if found is None:
        return hidden
    step = walk.place.of(found[0].astype(np.float64))
    known = (walk.place.seen & np.isfinite(step).all(1))[:, None]
    distance = np.linalg.norm(walk.points - scene.cam2world[frame, :3, 3], axis=1)
    moving = np.linalg.norm(step, axis=1) > STILL * distance
    velocity = np.where(moving[:, None], step / elapsed, 0)
    confidence = np.minimum(walk.confidence, _at_least_one(walk.place.of(found[1].astype(np.float64))))
    return replace(
        walk,
        points=np.where(known, walk.points + step, hidden.points),
        velocity=np.where(known, velocity, walk.velocity),
        confidence=np.where(known[:, 0], confidence, hidden.confidence),
    )


def motion_of_frame(scene: Scene, frame: int, time: float) -> tuple[np.ndarray, np.ndarray] | None:
    """How far a frame's own pixels move until a time, by its samples; linear between these, and from rest.

    Returns:
        (H, W, 3) and (H, W) float32 displacement, world, and its confidence; None where no samples reach that far.
    """
    samples, elapsed = samples_of(scene), time - float(scene.times[frame])
    spans = scene.times[samples.edges[:, 1]] - scene.times[frame]
    share = elapsed / np.where(spans == 0, np.nan, spans)
    reach = (samples.edges[:, 0] == frame) & (share >= 0) & (share <= 1 + 1e-9)
    if not reach.any():
        return None
    edge = int(np.flatnonzero(reach)[np.abs(spans[reach]).argmin()])
    fraction = min(float(share[edge]), 1.0)
    after = int(np.searchsorted(samples.times, fraction - 1e-9))
    before = samples.times[after - 1] if after else 0.0
    along = np.float32((fraction - before) / (samples.times[after] - before))
    displacement = np.asarray(samples.displacement[edge, after], np.float32)
    confidence = np.asarray(samples.confidence[edge, after], np.float32)
    if along == 1:
        return displacement, confidence
    if not after:
        return along * displacement, confidence
    start = np.asarray(samples.displacement[edge, after - 1], np.float32)
    surely = np.asarray(samples.confidence[edge, after - 1], np.float32)
    return start + along * (displacement - start), surely + along * (confidence - surely)


def look(scene: Scene, frame: int, points: np.ndarray, origin: int, came: np.ndarray) -> Place:
    """Where points are seen in a frame.

    Args:
        scene: with motion.
        frame: where to look.
        points: (P, 3) world, at the frame's time.
        origin: the frame that they come from.
        came: (P, 3) how far they moved since.
    """
    depth = np.asarray(scene.depth[frame], np.float64)
    cam2world = np.asarray(scene.cam2world[frame], np.float64)
    camera = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    z = np.where(camera[:, 2] > 0, camera[:, 2], np.nan)
    u, v = ((camera / z[:, None]) @ np.asarray(scene.intrinsics[frame], np.float64).T)[:, :2].T
    back = motion_of_frame(scene, frame, float(scene.times[origin]))
    return _place(depth, u, v, z, came=came, back=None if back is None else back[0])


def _place(
    depth: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    z: np.ndarray,
    *,
    came: np.ndarray | None = None,
    back: np.ndarray | None = None,
    enough: float = ENOUGH,
) -> Place:
    """The pixels around (P,) places u, v that belong to the surfaces of points of depth z; NaN is seen nowhere."""
    height, width = depth.shape
    inside = (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    u, v = np.where(inside, u, 0).clip(0, width - 1), np.where(inside, v, 0).clip(0, height - 1)
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    right, below = u - column, v - row
    columns, rows = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    pixels = np.stack([row, row, rows, rows], 1) * width + np.stack([column, columns, column, columns], 1)
    weights = np.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right], 1)
    around = depth.reshape(-1)[pixels]
    one = inside[:, None] & (around > 0) & (np.abs(around - z[:, None]) <= ONE_SURFACE * z[:, None])
    if came is not None and back is not None:
        apart = np.linalg.norm(back.reshape(-1, 3)[pixels] + came[:, None], axis=-1)
        allowed = np.maximum(MOVED_ALIKE * z, 0.5 * np.linalg.norm(came, axis=1))
        one &= ~(apart > allowed[:, None])  # NaN, where nothing is known of the pixel's motion, speaks against nothing
    weights = np.where(one, weights, 0)
    total = weights.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = weights / total[:, None]
        off = np.abs(z * np.where(one, weights / around, 0).sum(1) - 1)
    # with pixels of its surface on one side only, there is no telling the depth at the very place
    seen = (total > 0) & (total >= enough) & (off <= SEEN + (ONE_SURFACE - SEEN) * (1 - total))
    return Place(pixels, np.where(seen[:, None], weights, 0))


def _at_least_one(confidence: np.ndarray) -> np.ndarray:
    return np.maximum(np.nan_to_num(confidence, nan=1.0), 1)
