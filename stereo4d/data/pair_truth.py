"""What two frames and tracks tell of a pair: motion at query times, what moves, and which pixels match."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.data.posed_frames import PosedFrames
from stereo4d.data.seen import Seen
from stereo4d.data.sparse_maps import of_tracks
from stereo4d.errors import UsageError


@dataclass(frozen=True)
class TruthOptions:
    """What of a data set's truth is believed."""

    farthest: float = math.inf
    """Depth from here on is no measurement, in the scene's unit; MonST3R: 80."""
    static: bool = False
    """Scenes stand still: no pixel moves, and motion is zero wherever there is a point."""
    moving_above: float = 0.05
    """Tracks that move further than this between a pair's frames and query times, in the scene's unit, mark their
    pixels as moving, where the data set has no mask of its own."""
    drop_background: float = 0.0
    """Share of pairs whose background has no truth; 1: all, 0: none."""

    def __post_init__(self) -> None:
        """Refuse what believes nothing."""
        if self.farthest <= 0 or self.moving_above < 0 or not 0 <= self.drop_background <= 1:
            raise UsageError(f"{self}: farthest must be > 0, moving_above >= 0, drop_background within 0 ... 1")


TRUTH = TruthOptions()
"""All of it."""


@dataclass(frozen=True)
class Asked:
    """A query time, and the frame at which motion is known then."""

    time: float
    """0 is the time of the pair's first frame, 1 that of its second."""
    index: int


def draw_time(frames: PosedFrames, scene: str, first: int, second: int, rng: np.random.Generator) -> Asked:
    """Half of the times an end, half of the times any frame between that there is, whether or not it is an image.

    The paper leaves the choice open.
    """
    times = frames.times(scene)
    start, end = float(times[first]), float(times[second])
    between = np.flatnonzero((times > min(start, end)) & (times < max(start, end)))
    if rng.random() < 0.5 and len(between):
        index = int(between[rng.integers(len(between))])
        return Asked((float(times[index]) - start) / (end - start), index)
    return Asked(1.0, second) if rng.random() < 0.5 else Asked(0.0, first)


def motion_at(
    view: Seen, own_time: float, asked: Asked, tracks: Mapping[int, np.ndarray | None], *, static: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far a view's points move to a query time, along world axes.

    Args:
        view: the view.
        own_time: 0 for view 0, 1 for view 1.
        asked: when.
        tracks: (N, 3) world points of each frame that is asked for.
        static: nothing moves.

    Returns:
        (H, W, 3) displacements, zero where not known, and (H, W) bool where they are known: never at the view's own
        time, at which there is nothing to learn.
    """
    then = tracks.get(asked.index)
    if static:
        displacement = np.where(view.valid[..., None], np.zeros((*view.valid.shape, 3)), np.nan)
    elif view.tracks is None or then is None:
        displacement = np.full((*view.valid.shape, 3), np.nan)
    else:
        displacement = of_tracks(then - view.tracks, view.shown)
    known = np.asarray(np.isfinite(displacement).all(-1))
    if asked.time == own_time:
        known = np.zeros_like(known)
    return np.where(known[..., None], displacement, 0), known


def moving_mask(view: Seen, others: Sequence[np.ndarray | None], options: TruthOptions) -> np.ndarray:
    """(H, W) bool: the surface is known to move on its own.

    Args:
        view: the view.
        others: (N, 3) world points of the tracks at other times.
        options: whether anything moves, and from when on it counts.
    """
    if options.static or (view.moving is None and view.tracks is None):
        return np.zeros(view.valid.shape, bool)
    if view.moving is not None:
        return view.moving
    assert view.tracks is not None
    moves = np.zeros(len(view.tracks), bool)
    for then in others:
        if then is not None:
            # a track that is not known then is not known to move
            moves |= np.linalg.norm(then - view.tracks, axis=1) > options.moving_above
    return (view.shown >= 0) & np.append(moves, False)[view.shown]


def matches_between(view: Seen, other: Seen, moving: np.ndarray) -> np.ndarray:
    """(H, W, 2) float64: where a view's points are seen in the other view, in pixels; NaN where they are not.

    Points of tracks are looked for where the track is at the other view's time; others are taken to stand still, and
    left out where they are known to move.
    """
    then = np.where(moving[..., None], np.nan, view.points)
    if view.tracks is not None and other.tracks is not None:
        then = np.where((view.shown >= 0)[..., None], of_tracks(other.tracks, view.shown), then)
    return other.sees(np.where(view.valid[..., None], then, np.nan))
