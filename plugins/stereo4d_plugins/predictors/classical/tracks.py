"""Points followed through a clip with sub-pixel accuracy: pyramidal Lucas-Kanade, checked, re-matched, re-seeded.

Following from frame to frame adds up small errors, so every step is corrected against the patch that a track began with
for as long as that patch can still be recognised (Lucas and Kanade 1981; Bouguet 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from stereo4d.progress import SILENT, Progress

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003)
_PATIENCE = 3  # a black or blurred frame loses its points; they are looked for again this many frames later
_WEAKEST_CORNER = 2e-5  # least eigenvalue of the structure tensor; what sensor noise reaches on a blank wall


@dataclass(frozen=True)
class Tracks:
    """Where T points were seen in N frames: O observations, sorted by track, then frame."""

    track: np.ndarray
    """(O,) int64 index of the track, 0 ... T-1; every track has at least two observations."""
    frame: np.ndarray
    """(O,) int64."""
    pixels: np.ndarray
    """(O, 2) float32 (u, v), pixel centres at integers."""
    frames: int
    """N."""

    @property
    def count(self) -> int:
        """T."""
        return int(self.track[-1]) + 1 if len(self.track) else 0

    def lengths(self) -> np.ndarray:
        """(T,) number of observations of each track."""
        return np.bincount(self.track, minlength=self.count)

    def table(self, frames: np.ndarray, *, at_least: int, at_most: int) -> np.ndarray:
        """The tracks that say most about some frames.

        Args:
            frames: (K,) rising frame numbers.
            at_least: observations in these frames that a track must have.
            at_most: how many tracks are wanted; the longest are taken, ties by position in the list.

        Returns:
            (T', K, 2) float64 pixels, NaN where a track was not seen.
        """
        column = np.full(self.frames, -1)
        column[frames] = np.arange(len(frames))
        here = column[self.frame] >= 0
        counts = np.bincount(self.track[here], minlength=self.count)
        chosen = np.flatnonzero(counts >= at_least)
        if len(chosen) > at_most:
            chosen = np.sort(chosen[np.argsort(-counts[chosen], kind="stable")[:at_most]])
        row = np.full(self.count, -1)
        row[chosen] = np.arange(len(chosen))
        here &= row[self.track] >= 0
        table = np.full((len(chosen), len(frames), 2), np.nan)
        table[row[self.track[here]], column[self.frame[here]]] = self.pixels[here]
        return table


@dataclass
class _Living:
    """Tracks that may go on, P of them."""

    name: np.ndarray
    """(P,) int64 track index."""
    pixel: np.ndarray
    """(P, 2) float32 where it was seen last."""
    last: np.ndarray
    """(P,) int64 frame where it was seen last."""
    anchor: np.ndarray
    """(P,) int64 frame whose patch it is compared with."""
    anchor_pixel: np.ndarray
    """(P, 2) float32 in that frame."""

    def take(self, keep: np.ndarray) -> _Living:
        return _Living(*(getattr(self, name)[keep] for name in ("name", "pixel", "last", "anchor", "anchor_pixel")))


@dataclass
class _Log:
    """Observations as they come."""

    track: list[np.ndarray] = field(default_factory=list)
    frame: list[np.ndarray] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    names: int = 0

    def note(self, names: np.ndarray, frame: int, pixels: np.ndarray) -> None:
        self.track.append(names)
        self.frame.append(np.full(len(names), frame))
        self.pixels.append(pixels.astype(np.float32))

    def finish(self, frames: int) -> Tracks:
        track, frame, pixels = np.concatenate(self.track), np.concatenate(self.frame), np.concatenate(self.pixels)
        often = np.bincount(track, minlength=self.names) >= 2
        renamed = np.cumsum(often) - 1
        keep = often[track]
        track, frame, pixels = renamed[track[keep]], frame[keep], pixels[keep]
        order = np.lexsort((frame, track))
        return Tracks(track[order], frame[order], pixels[order], frames)


def track_clip(rgb: np.ndarray, *, budget: int = 900, progress: Progress = SILENT) -> Tracks:
    """Follow textured points through a clip.

    Args:
        rgb: (N, H, W, 3) uint8.
        budget: how many points are followed at a time.
        progress: told about every frame.

    Returns:
        Tracks; none where nothing has texture.
    """
    greys = [_prepared(frame) for frame in rgb[:1]]
    height, width = greys[0].shape
    spacing = max(4.0, 0.75 * (height * width / budget) ** 0.5)
    window = _window(max(height, width))
    log, living = _Log(), _empty()
    recent: dict[int, np.ndarray] = {}
    with progress.stage("tracks", len(rgb), "frame") as stage:
        for index, frame in enumerate(rgb):
            grey = recent[index] = _prepared(frame)
            if len(living.name):
                living = _follow(living, index, recent, window, log)
            seen = living.last == index
            if seen.sum() < 0.75 * budget:
                fresh = _seed(grey, living.pixel[seen], spacing, budget - int(seen.sum()))
                living = _begin(living, fresh, index, log)
            needed = set(living.anchor.tolist()) | set(living.last.tolist())
            recent = {key: value for key, value in recent.items() if key in needed}
            stage.advance()
    return log.finish(len(rgb))


def _prepared(frame: np.ndarray) -> np.ndarray:
    """(H, W) uint8 grey image, a little smoothed: single noisy pixels pull on the sub-pixel position."""
    return cv2.GaussianBlur(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), (0, 0), 0.7)


def _window(long_side: int) -> int:
    """Side of the compared patches in pixels, odd: large enough to tell points apart, small enough to stay flat."""
    return int(np.clip(2 * round(long_side / 60) + 1, 11, 21))


def _empty() -> _Living:
    whole, pair = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    return _Living(whole, pair, whole, whole, pair)


def _begin(living: _Living, fresh: np.ndarray, index: int, log: _Log) -> _Living:
    """Add new tracks."""
    names = log.names + np.arange(len(fresh))
    log.names += len(fresh)
    log.note(names, index, fresh)
    now = np.full(len(fresh), index)
    new = _Living(names, fresh, now, now, fresh)
    fields = ("name", "pixel", "last", "anchor", "anchor_pixel")
    return _Living(*(np.concatenate([getattr(living, name), getattr(new, name)]) for name in fields))


def _seed(grey: np.ndarray, taken: np.ndarray, spacing: float, wanted: int) -> np.ndarray:
    """(P, 2) corners away from points that are followed already."""
    mask = np.full(grey.shape, 255, np.uint8)
    for u, v in taken:
        cv2.circle(mask, (round(float(u)), round(float(v))), round(spacing), 0, -1)
    strength = cv2.cornerMinEigenVal(grey, 5)
    best = float(strength.max())
    if best < _WEAKEST_CORNER:
        return np.zeros((0, 2), np.float32)
    quality = max(0.002, _WEAKEST_CORNER / best)
    found = cv2.goodFeaturesToTrack(grey, wanted, quality, spacing, mask=mask, blockSize=5)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _follow(living: _Living, index: int, recent: dict[int, np.ndarray], window: int, log: _Log) -> _Living:
    """One frame on: chained from where each track was last, then matched again with its own first patch."""
    grey = recent[index]
    levels = int(np.clip(np.log2(min(grey.shape) / (2 * window)) + 1, 1, 4))
    place, alive = np.empty_like(living.pixel), np.zeros(len(living.name), bool)
    for last in np.unique(living.last):
        group = np.flatnonzero(living.last == last)
        place[group], alive[group] = _there_and_back(recent[int(last)], grey, living.pixel[group], None, window, levels)
    corrected, sure = place.copy(), np.zeros(len(place), bool)
    for anchor in np.unique(living.anchor[alive]):
        group = np.flatnonzero(alive & (living.anchor == anchor))
        if anchor == index - 1:
            sure[group] = True  # chained from it just now
            continue
        corrected[group], sure[group] = _there_and_back(
            recent[int(anchor)], grey, living.anchor_pixel[group], place[group], window, 0
        )
    near = np.linalg.norm(corrected - place, axis=1) < 1.0 + 0.1 * window
    sure &= near
    place[sure] = corrected[sure]
    inside = _inside(place, grey.shape, 0.3 * window)
    alive &= inside
    log.note(living.name[alive], index, place[alive])
    living.pixel[alive], living.last[alive] = place[alive], index
    # A patch that is not recognised any more has turned or come closer: go on with how it looks now.
    turned = alive & ~sure
    living.anchor[turned], living.anchor_pixel[turned] = index, place[turned]
    wait = _PATIENCE if alive.mean() < 0.5 else 0
    return living.take(living.last >= index - wait)


def _inside(pixels: np.ndarray, shape: tuple[int, ...], margin: float) -> np.ndarray:
    u, v = pixels.T
    return (u >= margin) & (v >= margin) & (u <= shape[1] - 1 - margin) & (v <= shape[0] - 1 - margin)


def _there_and_back(
    source: np.ndarray, target: np.ndarray, pixels: np.ndarray, guess: np.ndarray | None, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Match patches and match them back.

    Args:
        source: (H, W) uint8.
        target: (H, W) uint8.
        pixels: (P, 2) float32 in ``source``.
        guess: (P, 2) where they may be in ``target``; None: where they were.
        window: side of the patches.
        levels: of the pyramid above the image itself.

    Returns:
        (P, 2) pixels in ``target``, and (P,) whether the way back ends where it began.
    """
    there, found = _matched(source, target, pixels, pixels if guess is None else guess, window, levels)
    # The way back must find its end itself: it begins where the chain knows nothing, or a little off the answer.
    begin = there if guess is None else pixels + np.float32(0.7)
    back, found_back = _matched(target, source, there, begin, window, levels)
    closed = np.linalg.norm(back - pixels, axis=1) < 0.25
    return there, found & found_back & closed & np.isfinite(there).all(1)


def _matched(
    source: np.ndarray, target: np.ndarray, pixels: np.ndarray, guess: np.ndarray, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """One way of ``_there_and_back``: (P, 2) pixels in ``target`` and (P,) whether there was texture to match."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        source,
        target,
        pixels,
        guess.copy(),
        winSize=(window, window),
        maxLevel=levels,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-4,
    )
    return there, found[:, 0] > 0
