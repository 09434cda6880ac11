"""Frames of a clip: what a reader must do, which frames are taken, and reading on when one reader fails.

Readers are found by entry point (group ``stereo4d.readers``). Those that ship are asked first, in ``PREFERENCE``.
"""

from __future__ import annotations

import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stereo4d import registry
from stereo4d.errors import InputError, UsageError
from stereo4d.video.sources import Source, find_source

PREFERENCE = ("images", "decord", "av")
DEFAULT_MAX_FRAMES = 48
"""How many frames are taken, spread over the whole clip, when the user does not say."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One decoded frame, as it is meant to be seen (rotation applied)."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    index: int
    """Position in the clip, in presentation order."""
    time: float
    """Presentation time in seconds after the clip's first frame."""


@dataclass(frozen=True)
class FailedFrame:
    """A frame that was asked for and could not be decoded."""

    index: int
    reason: str


@dataclass(frozen=True)
class Listing:
    """What can be said about a clip without decoding it."""

    times: np.ndarray
    """(N,) float64 seconds after the first frame, one for every frame that the file declares."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) as seen, rotation applied; one entry when all frames are of one size, else one a frame."""


class Reader(ABC):
    """Turns files into frames. Stateless: files are opened when asked for and closed again."""

    @abstractmethod
    def opens(self, paths: Sequence[Path]) -> bool:
        """Whether this kind of file is worth trying, judged cheaply (by name, say)."""

    @abstractmethod
    def describe(self, paths: Sequence[Path]) -> Listing:
        """Times and sizes, decoding one frame at most. Any exception sends the caller to the next reader."""

    @abstractmethod
    def read(self, paths: Sequence[Path], indices: Sequence[int]) -> Iterator[Frame | FailedFrame]:
        """Decode the frames with these rising indices, one at a time.

        A frame that cannot be decoded although later ones can comes as a ``FailedFrame``. Any exception, and an early
        end, send the caller to the next reader with the indices that are still missing.
        """


@dataclass(frozen=True)
class Selection:
    """Which frames of a clip are taken."""

    stride: int | None = None
    """Every how manyth frame."""
    fps: float | None = None
    """Frames a second, by the clip's own timestamps."""
    max_frames: int | None = None
    """At most this many: the first ones if stride or fps is given, else spread evenly over the clip."""
    start: float | None = None
    """Seconds after the first frame; frames before it are left out."""
    end: float | None = None
    """Seconds after the first frame; frames after it are left out."""

    def __post_init__(self) -> None:
        if self.stride is not None and self.fps is not None:
            raise UsageError("--stride and --fps exclude each other; give one")
        for name in ("stride", "fps", "max_frames"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{name.replace('_', '-')}: {value} must be above 0")

    def without_cap(self) -> Selection:
        """The same, but all frames rather than ``DEFAULT_MAX_FRAMES`` where the user names no number."""
        unsaid = (self.max_frames, self.stride, self.fps) == (None, None, None)
        return replace(self, stride=1) if unsaid else self

    def choose(self, times: np.ndarray) -> list[int]:
        """Indices of the frames to take, rising.

        Args:
            times: (N,) seconds, rising.
        """
        start = -math.inf if self.start is None else self.start
        end = math.inf if self.end is None else self.end
        inside = np.flatnonzero((times >= start) & (times <= end))
        if self.fps is not None:
            # The frame on screen at each tick; two ticks on one frame take it once.
            ticks = np.arange(times[inside[0]], times[inside[-1]] + 1e-9, 1 / self.fps) if len(inside) else times[:0]
            on_screen = np.searchsorted(times[inside], ticks + 1e-6, side="right") - 1
            return inside[np.unique(on_screen)][: self.max_frames].tolist()
        if self.stride is not None:
            return inside[:: self.stride][: self.max_frames].tolist()
        limit = self.max_frames or DEFAULT_MAX_FRAMES
        return inside[:: max(1, math.ceil(len(inside) / limit))].tolist()


def look_at(entries: Sequence[str]) -> tuple[Source, Listing]:
    """The clip that some entries name, opened: whatever is wrong with it is told at once.

    Raises:
        InputError: there is none, or no reader can open it.
    """
    source = find_source(entries)
    return source, describe(source)


def describe(source: Source) -> Listing:
    """Times and sizes of a clip's frames, from the first reader that can tell.

    Raises:
        InputError: no reader can open it.
    """
    reason = "no reader takes it"
    for _, reader in _readers(source):
        try:
            listing = reader.describe(source.paths)
        except InputError:
            raise
        except Exception as error:  # decord and av have exceptions of many kinds; all mean "try the next"
            reason = _reason(error)
            continue
        if len(listing.times):
            return listing
        reason = "it has no frames"
    raise InputError(f"{source.label}: not a video or image that can be read ({reason})")


def read(source: Source, indices: Sequence[int]) -> Iterator[Frame | FailedFrame]:
    """Decode frames one at a time, going on with the next reader wherever one fails.

    Frames that no reader can decode come last, as ``FailedFrame``.
    """
    missing = list(indices)
    reason = "the file ends early"
    for name, reader in _readers(source):
        try:
            for frame in reader.read(source.paths, tuple(missing)):
                missing.remove(frame.index)
                yield frame
            reason = "the file ends early"
        except Exception as error:
            reason = _reason(error)
            log.debug("%s: %s stopped before frame %s", source.label, name, missing[:1], exc_info=True)
        if not missing:
            return
    yield from (FailedFrame(index, reason) for index in missing)


def _readers(source: Source) -> list[tuple[str, Reader]]:
    """The installed readers that may open a clip, preferred ones first."""
    known = registry.installed("stereo4d.readers")
    names = [name for name in PREFERENCE if name in known] + [name for name in known if name not in PREFERENCE]
    readers = [(name, registry.load_class("stereo4d.readers", name, Reader)()) for name in names]
    return [(name, reader) for name, reader in readers if reader.opens(source.paths)]


def _reason(error: Exception) -> str:
    """The first line of what a reader said, without the C++ file names that decord puts in front."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    text = re.sub(r"^\[[\d:]+\] \S+: ", "", text.splitlines()[0])
    return re.sub(r"^(Check failed: |ERROR |Error: )+", "", text)[:160]
