"""Where a clip was cut: frames after which another shot begins.

Neither motion nor exposure is a cut: both change all frames of a stretch alike, while a cut stands out from the changes
before and after it. Frames are compared by their colours and by what is where in a small picture of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

_LEVELS = 16
_ROWS, _COLUMNS = 6, 8
_LEAST_CHANGE = 0.35
_LEAST_RATIO = 3.0
_NEIGHBOURS = 4
_LEAST_FRAMES = 6


def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Positions of frames that begin a new shot; never 0.

    Args:
        frames: (H, W, 3) uint8, in order, at least 16 pixels on every side.

    Returns:
        Rising; empty for clips of fewer than six frames, in which nothing can stand out.
    """
    change = _changes(frames)
    return [place + 1 for place in range(len(change)) if _stands_out(change, place)]


def is_cut_everywhere(frames: Iterable[np.ndarray]) -> bool:
    """Whether most frames look like another shot than the one before, so that no cut stands out.

    Args:
        frames: as for ``find_cuts``.
    """
    change = _changes(frames)
    return len(change) > 0 and float(np.median(change)) > _LEAST_CHANGE


def shots_between(cuts: list[int], num_frames: int) -> list[range]:
    """The frames of each shot, from the positions where new ones begin."""
    ends = [0, *cuts, num_frames]
    return [range(first, last) for first, last in pairwise(ends)]


def cuts_in_words(cuts: list[int], frame_indices: np.ndarray, times: np.ndarray) -> str:
    """For people: where a clip is cut.

    Args:
        cuts: positions of frames that begin a new shot.
        frame_indices: (N,) their indices in the input.
        times: (N,) seconds.
    """
    named = ", ".join(f"{frame_indices[cut]} ({times[cut]:.2f} s)" for cut in cuts[:8]) + (" ..." if cuts[8:] else "")
    return f"it looks cut at frame {named}"


def _changes(frames: Iterable[np.ndarray]) -> np.ndarray:
    """(N - 1,) 0 ... 1: how much every frame differs from the one before; empty for very short clips."""
    seen = [_signature(frame) for frame in frames]
    if len(seen) < _LEAST_FRAMES:
        return np.zeros(0)
    colours, layouts = (np.stack(part) for part in zip(*seen, strict=True))
    # Both must change: light alone changes colours, a fast camera alone changes what is where.
    return np.sqrt(_histogram_change(colours) * _layout_change(layouts))


def _stands_out(change: np.ndarray, place: int) -> bool:
    """Whether a change is large, and far larger than those around it."""
    around = np.delete(change[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1], min(place, _NEIGHBOURS))
    return bool(change[place] > _LEAST_CHANGE and change[place] > _LEAST_RATIO * np.median(around))


def _signature(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3 * levels,) shares of colours, and (P,) mean greys of a grid of blocks."""
    colours = np.concatenate([np.bincount(rgb[..., c].ravel() // _LEVELS, minlength=_LEVELS) for c in range(3)])
    height, width = rgb.shape[0] // _ROWS * _ROWS, rgb.shape[1] // _COLUMNS * _COLUMNS
    grey = rgb[:height, :width].mean(-1)
    blocks = grey.reshape(_ROWS, height // _ROWS, _COLUMNS, width // _COLUMNS).mean((1, 3)).ravel()
    return colours / colours.sum(), blocks


def _histogram_change(colours: np.ndarray) -> np.ndarray:
    """(N - 1,) 0 ... 1: what share of the pixels has other colours than in the frame before."""
    # Next to one another counts as the same: exposure shifts colours a little.
    smooth = (colours + np.roll(colours, 1, axis=1) + np.roll(colours, -1, axis=1)) / 3
    return np.abs(np.diff(smooth, axis=0)).sum(1) / 2


def _layout_change(layouts: np.ndarray) -> np.ndarray:
    """(N - 1,) 0 ... 1: one less the correlation of what is where."""
    centred = layouts - layouts.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1).clip(min=1e-6)
    alike = (centred[1:] * centred[:-1]).sum(1) / (length[1:] * length[:-1])
    # Frames without any contrast are like one another, and like nothing else.
    flat = (length < layouts.shape[1] ** 0.5).astype(float)
    alike = np.where(flat[1:] * flat[:-1] > 0, 1.0, alike)
    return np.clip(1 - alike, 0, 1)
