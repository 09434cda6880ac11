"""Which row of a file belongs to which frame of a clip."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stereo4d.errors import InputError
from stereo4d.types import PixelMap
from stereo4d.video.outside_files import Npz, NumberRows

if TYPE_CHECKING:
    from stereo4d.video.clip import Clip

log = logging.getLogger(__name__)

_MOST_ASPECT = 0.01  # by how much the aspect of two sizes of one image may differ: rounding to whole pixels
_SAME_MOMENT = 1e-3  # seconds; for a clip of one frame, which has no gap to go by


@dataclass(frozen=True)
class FrameGeometry:
    """Where the N frames of an alignment come from, and how their pixels came about."""

    frame_indices: np.ndarray
    """(N,) int64 positions in the input, rising."""
    times: np.ndarray
    """(N,) float64 seconds after the input's first frame, rising."""
    original_sizes: np.ndarray
    """(N, 2) int64 (height, width) of each frame as seen, before crop and resize."""
    network_size: tuple[int, int]
    """(H, W) of the network's images."""
    pixel_maps: tuple[PixelMap, ...]
    """N maps from network pixels to original pixels."""

    def __len__(self) -> int:
        return len(self.frame_indices)

    @classmethod
    def of(cls, clip: Clip) -> FrameGeometry:
        """That of a clip, just decoded or loaded from ``frames.safetensors``."""
        height, width = clip.rgb.shape[1:3]
        maps = tuple(clip.pixel_map(position) for position in range(len(clip)))
        sizes = np.array(clip.original_sizes)
        return cls(np.array(clip.frame_indices), np.array(clip.times), sizes, (height, width), maps)


@dataclass(frozen=True)
class Rows:
    """What the R rows of a file say about which frame they belong to; nothing but their order by default."""

    path: Path
    names: tuple[str, ...]
    """R names for errors: ``"line 7"``, ``"frame 12"``."""
    frames: np.ndarray | None = None
    """(R,) int64 frame indices in the input."""
    times: np.ndarray | None = None
    """(R,) float64 seconds after the input's first frame."""
    for_all: bool = False
    """The one row holds for every frame."""

    def __post_init__(self) -> None:
        for labels, word in ((self.frames, "frame"), (self.times, "time")):
            if labels is None:
                continue
            if len(labels) != len(self.names):
                raise InputError(
                    f"{self.path}: {len(self.names)} rows, but {len(labels)} {word}s; give one for each row"
                )
            first: dict[float, int] = {}
            for row, label in enumerate(labels.tolist()):
                if label in first:
                    twice = f"{self.names[first[label]]} and {self.names[row]}"
                    raise InputError(f"{self.path}: {word} {label} is given twice ({twice}); keep one of them")
                first[label] = row

    def __len__(self) -> int:
        return len(self.names)

    def refuse(self, wrong: np.ndarray, reason: str) -> None:
        """Make sure that no row is wrong.

        Args:
            wrong: (R,) bool.
            reason: what is wrong with these rows, and the way out.

        Raises:
            InputError: a row is wrong; it is named.
        """
        if wrong.any():
            first, more = self.names[int(wrong.argmax())], int(wrong.sum()) - 1
            raise InputError(f"{self.path}: {first}{f' and {more} more' if more else ''}: {reason}")

    def match(self, clip: FrameGeometry) -> tuple[np.ndarray, np.ndarray]:
        """The frames that have a row.

        Returns:
            (M,) int64 rising positions among the clip's N frames, and the (M,) int64 row of each.

        Raises:
            InputError: not one frame has a row, or the number of rows does not tell which frames they belong to.
        """
        if self.for_all:
            return np.arange(len(clip)), np.zeros(len(clip), np.int64)
        if self.times is not None:
            positions, rows = self._by_time(self.times, clip.times)
        else:
            positions, rows = self._by_index(self._indices(clip), clip.frame_indices)
        found = (len(np.unique(rows)), len(self), len(rows), len(clip))
        log.info("%s: %d of its %d rows belong to %d of %d frames", self.path, *found)
        return positions, rows

    def _indices(self, clip: FrameGeometry) -> np.ndarray:
        """(R,) frame index of each row."""
        if self.frames is not None:
            return self.frames
        last = int(clip.frame_indices[-1])
        if len(self) > last:
            return np.arange(len(self))
        if len(self) == len(clip):
            return clip.frame_indices
        raise InputError(
            f"{self.path}: {len(self)} rows without frame numbers; it takes {len(clip)}, one for each chosen frame, or "
            f"at least {last + 1}, one for each frame of the input (the last one chosen is {last}); or number the rows"
        )

    def _by_index(self, indices: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row_of = {int(index): row for row, index in enumerate(indices)}
        found = [(position, row_of[index]) for position, index in enumerate(chosen.tolist()) if index in row_of]
        if not found:
            raise InputError(
                f"{self.path}: has frames {_span(indices)}, but the clip's chosen frames are {_span(chosen)}; "
                "frames are counted from 0 in the input"
            )
        positions, rows = np.array(found, np.int64).T
        return positions, rows

    def _by_time(self, times: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(times, kind="stable")
        after = np.searchsorted(times[order], chosen).clip(1, max(1, len(order) - 1))
        # Of the two rows around each frame, the nearer one.
        around = order[np.stack([after - 1, after.clip(max=len(order) - 1)])]
        away = np.abs(times[around] - chosen)
        rows, away = around[away.argmin(0), np.arange(len(chosen))], away.min(0)
        near = away < (np.diff(chosen).min() / 2 if len(chosen) > 1 else _SAME_MOMENT)
        if not near.any():
            raise InputError(
                f"{self.path}: has times {times.min():.3f} ... {times.max():.3f} s, the clip's chosen frames are at "
                f"{chosen[0]:.3f} ... {chosen[-1]:.3f} s, none within half a frame; times count from the first frame"
            )
        if not np.array_equal(times, np.round(times)) or np.array_equal(chosen, np.round(chosen)):
            return np.flatnonzero(near), rows[near]
        log.warning("%s: all its times are whole seconds; if they are frame numbers, give them as such", self.path)
        return np.flatnonzero(near), rows[near]


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes are those of one image, resized as a whole."""
    return abs(first[0] * second[1] / (first[1] * second[0]) - 1) <= _MOST_ASPECT


def resized(size: tuple[int, int], to: tuple[int, int]) -> PixelMap:
    """From pixels of an image of one (height, width) to those of the same image at another.

    Resizing keeps the image's *edges*, which lie half a pixel outside the centres of its outer pixels.
    """
    scale_u, scale_v = to[1] / size[1], to[0] / size[0]
    return PixelMap(scale_u, scale_v, 0.5 * scale_u - 0.5, 0.5 * scale_v - 0.5)


def npz_rows(file: Npz, count: int) -> Rows:
    """What ``frames`` or ``times`` of an ``.npz`` file say of its rows.

    Raises:
        InputError: they are damaged, or not as many as rows.
    """
    if "frames" in file and "times" in file:
        raise InputError(f"{file.path}: has both frames and times; keep one of them")
    if "times" in file:
        return Rows(file.path, row_names(count), times=_vector(file, "times"))
    if "frames" in file:
        frames = _vector(file, "frames")
        return Rows(file.path, row_names(count), frames=frame_numbers(frames, Rows(file.path, row_names(len(frames)))))
    return Rows(file.path, row_names(count))


def frame_numbers(values: np.ndarray, rows: Rows) -> np.ndarray:
    """(R,) int64 frame indices from (R,) numbers.

    Raises:
        InputError: one is no whole number from 0.
    """
    rows.refuse((values < 0) | (values != np.floor(values)) | (values > 2**53), "frames are whole numbers from 0")
    return values.astype(np.int64)


def stacked(values: np.ndarray, shape: tuple[int, int], where: str) -> np.ndarray:
    """An array as (R, *shape) float64.

    Raises:
        InputError: it is of another shape, or R is 0.
    """
    if values.ndim != 3 or values.shape[1:] != shape or not len(values):
        raise InputError(f"{where}: is {values.shape}; it must be (frames, {shape[0]}, {shape[1]})")
    return np.array(values, np.float64)


def line_names(text: NumberRows) -> tuple[str, ...]:
    """How errors call the rows of a text file."""
    return tuple(f"line {line}" for line in text.lines)


def row_names(count: int) -> tuple[str, ...]:
    """How errors call the rows of an array."""
    return tuple(f"row {row}" for row in range(count))


def _span(indices: np.ndarray) -> str:
    low, high = int(indices.min()), int(indices.max())
    return f"{low}" if low == high else f"{low} ... {high} ({len(indices)} of them)"


def _vector(file: Npz, name: str) -> np.ndarray:
    """(R,) float64, finite."""
    shape = file.shape(name)
    if len(shape) != 1 or not shape[0]:
        raise InputError(f"{file.path}: {name} is {shape}; it must be one number a row")
    values = np.asarray(file.read(name), np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{file.path}: {name} must be finite numbers; leave out rows that have none")
    return values
