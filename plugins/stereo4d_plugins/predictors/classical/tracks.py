"""Points followed through a clip with sub-pixel accuracy: pyramidal Lucas-Kanade, checked, re-matched, re-seeded.

Following from frame to frame adds up small errors, so every step is corrected against the patch that a track began with
for as long as that patch can still be recognised (Lucas and Kanade 1981; Bouguet 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from stereo4d.progress import SILENT, Progress
from stereo4d_plugins.predictors.classical.patches import Patches, cut_out, find_again

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
_PATIENCE = 3  # a black or blurred frame loses its points; they are looked for again this many frames later
_RECOGNISED = 0.85  # correlation from which a patch is the one that the track began with
_UNSURE = 0.14  # pixels that noise moves a point that is followed gladly
_NOISE_ALONE = 0.24  # what a patch of nothing but noise comes near to
_FAINTEST = 0.6  # grey levels of 256: noise that rounding alone makes, and a margin


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

    def longest(self, frames: np.ndarray, *, at_least: int, at_most: int) -> np.ndarray:
        """The tracks that say most about some frames.

        Args:
            frames: (K,) rising frame numbers.
            at_least: observations in these frames that a track must have.
            at_most: how many tracks are wanted; ties by position in the list.

        Returns:
            Track indices, rising.
        """
        here = np.isin(self.frame, frames)
        counts = np.bincount(self.track[here], minlength=self.count)
        chosen = np.flatnonzero(counts >= at_least)
        return np.sort(chosen[np.argsort(-counts[chosen], kind="stable")[:at_most]])

    def table(self, frames: np.ndarray, tracks: np.ndarray) -> np.ndarray:
        """(T', K, 2) float64 pixels of some tracks (T',) in some frames (K,), NaN where a track was not seen."""
        column, row = np.full(self.frames, -1), np.full(self.count, -1)
        column[frames], row[tracks] = np.arange(len(frames)), np.arange(len(tracks))
        here = (column[self.frame] >= 0) & (row[self.track] >= 0)
        table = np.full((len(tracks), len(frames), 2), np.nan)
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
    shape: np.ndarray
    """(P, 2, 2) float32: how its patch has been deformed since."""
    patches: Patches
    """What it looked like."""

    def take(self, keep: np.ndarray) -> _Living:
        """Those that a (P,) bool mask keeps."""
        return _Living(self.name[keep], self.pixel[keep], self.last[keep], self.shape[keep], self.patches.take(keep))

    def joined(self, other: _Living) -> _Living:
        """These and others."""
        return _Living(
            np.concatenate([self.name, other.name]),
            np.concatenate([self.pixel, other.pixel]),
            np.concatenate([self.last, other.last]),
            np.concatenate([self.shape, other.shape]),
            self.patches.joined(other.patches),
        )


@dataclass
class _Log:
    """Observations as they come."""

    track: list[np.ndarray] = field(default_factory=list)
    frame: list[np.ndarray] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    names: int = 0

    def note(self, names: np.ndarray, frame: int, pixels: np.ndarray) -> None:
        """Points by name were seen in a frame, at (P, 2) pixels."""
        self.track.append(names)
        self.frame.append(np.full(len(names), frame))
        self.pixels.append(pixels.astype(np.float32))

    def finish(self, frames: int) -> Tracks:
        """All that was seen at least twice, as tracks sorted by name and frame; names without gaps."""
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
    height, width = rgb.shape[1:3]
    spacing = max(4.0, 0.75 * (height * width / budget) ** 0.5)
    window = _window(max(height, width))
    log = _Log()
    living: _Living | None = None
    recent: dict[int, np.ndarray] = {}
    with progress.stage("tracks", len(rgb), "frame") as stage:
        for index, frame in enumerate(rgb):
            grey = recent[index] = _prepared(frame)
            if living is not None and len(living.name):
                living = _follow(living, index, recent, window, log)
            noise = _noise(frame)
            seen = living.pixel[living.last == index] if living is not None else np.zeros((0, 2), np.float32)
            if len(seen) < 0.75 * budget:
                fresh = _seed(grey, seen, noise, spacing, window, budget - len(seen), log, index)
                living = fresh if living is None else living.joined(fresh)
            needed = {index, *(living.last.tolist() if living is not None else ())}
            recent = {key: value for key, value in recent.items() if key in needed}
            stage.advance()
    return log.finish(len(rgb))


def _prepared(frame: np.ndarray) -> np.ndarray:
    """(H, W) uint8 grey image, a little smoothed: single noisy pixels pull on the sub-pixel position."""
    return cv2.GaussianBlur(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), (0, 0), 0.7)


def _window(long_side: int) -> int:
    """Side of the compared patches in pixels, odd: large enough to tell points apart, small enough to be flat."""
    return int(np.clip(2 * round(long_side / 60) + 1, 13, 21))


def _noise(frame: np.ndarray) -> float:
    """Standard deviation of the noise of an (H, W, 3) image's grey levels (after Immerkaer 1996, by the median)."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    rough = cv2.filter2D(grey, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return max(_FAINTEST, float(np.median(np.abs(rough))) / (0.6745 * 6))


def _seed(
    grey: np.ndarray, taken: np.ndarray, noise: float, spacing: float, window: int, wanted: int, log: _Log, index: int
) -> _Living:
    """New tracks at corners away from points that are followed already."""
    mask = np.full(grey.shape, 255, np.uint8)
    for u, v in taken:
        cv2.circle(mask, (round(float(u)), round(float(v))), round(spacing), 0, -1)
    found = cv2.goodFeaturesToTrack(grey, wanted, 0.001, spacing, mask=mask, blockSize=5)
    pixels = np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)
    pixels = pixels[_inside(pixels, grey.shape, 0.3 * window)]
    patches = cut_out(grey.astype(np.float32), pixels, window)
    blur = patches.spread * noise
    # A grainy clip has no points as good as one would like: then the better ones of those that it has.
    enough = np.sort(blur)[: max(1, wanted // 4)][-1] if len(blur) else _UNSURE
    sharp = blur < np.clip(enough, _UNSURE, _NOISE_ALONE)
    pixels, patches = pixels[sharp], patches.take(sharp)
    names = log.names + np.arange(len(pixels))
    log.names += len(pixels)
    log.note(names, index, pixels)
    same = np.repeat(np.eye(2, dtype=np.float32)[None], len(pixels), 0)
    return _Living(names, pixels, np.full(len(pixels), index), same, patches)


def _follow(living: _Living, index: int, recent: dict[int, np.ndarray], window: int, log: _Log) -> _Living:
    """One frame on: chained from where each track was last, then matched again with its own first patch."""
    grey = recent[index]
    smooth = grey.astype(np.float32)
    levels = int(np.clip(np.log2(min(grey.shape) / (2 * window)) + 1, 1, 4))
    place, alive = living.pixel.copy(), np.zeros(len(living.name), bool)
    for last in np.unique(living.last):
        group = np.flatnonzero(living.last == last)
        place[group], alive[group] = _there_and_back(recent[int(last)], grey, living.pixel[group], window, levels)
    rows = np.flatnonzero(alive)
    exact, shape, likeness = find_again(living.patches.take(rows), smooth, place[rows], living.shape[rows])
    sure = (likeness > _RECOGNISED) & (np.linalg.norm(exact - place[rows], axis=1) < 1.0 + 0.1 * window)
    place[rows[sure]], living.shape[rows[sure]] = exact[sure], shape[sure]
    alive &= _inside(place, grey.shape, 0.3 * window)
    log.note(living.name[alive], index, place[alive])
    living.pixel[alive], living.last[alive] = place[alive], index
    # A patch that is not recognised any more has changed too much: go on with how it looks now.
    changed = rows[~sure & alive[rows]]
    living.patches = living.patches.replaced(changed, cut_out(smooth, place[changed], window))
    living.shape[changed] = np.eye(2, dtype=np.float32)
    wait = _PATIENCE if alive.mean() < 0.5 else 0
    return living.take(living.last >= index - wait)


def _inside(pixels: np.ndarray, shape: tuple[int, ...], margin: float) -> np.ndarray:
    u, v = pixels.T
    return (u >= margin) & (v >= margin) & (u <= shape[1] - 1 - margin) & (v <= shape[0] - 1 - margin)


def _there_and_back(
    source: np.ndarray, target: np.ndarray, pixels: np.ndarray, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Match patches from frame to frame and back again.

    Args:
        source: (H, W) uint8.
        target: (H, W) uint8.
        pixels: (P, 2) float32 in ``source``.
        window: side of the patches.
        levels: of the pyramid above the image itself.

    Returns:
        (P, 2) pixels in ``target``, and (P,) whether the way back ends where it began.
    """
    there, found = _matched(source, target, pixels, window, levels)
    back, found_back = _matched(target, source, there, window, levels)
    closed = np.linalg.norm(back - pixels, axis=1) < 0.5
    return there, found & found_back & closed & np.isfinite(there).all(1)


def _matched(
    source: np.ndarray, target: np.ndarray, pixels: np.ndarray, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) pixels in ``target`` and (P,) whether there was texture to match."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        source,
        target,
        pixels,
        None,
        winSize=(window, window),
        maxLevel=levels,
        criteria=_CRITERIA,
        minEigThreshold=1e-4,
    )
    return there, found[:, 0] > 0
