"""Whether a clip is solved at once or in windows, in which, and what of the clip is of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from torch import Tensor

from stereo4d.alignment.known import Known
from stereo4d.alignment.windows import Window, cut_into_windows
from stereo4d.video.clip import Clip
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.pair_graph import Edge

MOST_AT_ONCE = 96
"""Frames that are solved at once unless the user says otherwise; windows then cost little accuracy, and save memory."""
MEMORY_AT_ONCE = 3 << 30
"""Bytes that predictions and alignment may take together where all is solved at once."""
WINDOW_MEMORY = 3 << 29
"""Bytes that one window may take."""
DEFAULT_WINDOW = 64
SMALLEST_WINDOW = 8
BYTES_PER_POINT = 16
"""Of a predicted point of a pair in memory: as stored in half precision, and what the alignment needs beside it."""


def plan_windows(
    options: AlignmentOptions, num_frames: int, edges: Sequence[Edge] | np.ndarray, size: tuple[int, ...]
) -> list[Window]:
    """The windows of a clip; one where it is solved at once.

    Args:
        options: ``window`` and ``overlap``; the rest does not matter.
        num_frames: N.
        edges: all pairs.
        size: (H, W) at network size.

    Raises:
        UsageError: windows of these sizes cannot be.
    """
    frame_bytes = 2 * len(edges) * size[0] * size[1] * BYTES_PER_POINT / max(num_frames, 1)
    window = options.window
    if window is None:
        if num_frames <= MOST_AT_ONCE and frame_bytes * num_frames <= MEMORY_AT_ONCE:
            return [Window(0, num_frames)]
        if not options.overlap and _falls_apart(edges, num_frames):
            return [Window(0, num_frames)]
        window = int(min(max(WINDOW_MEMORY // max(frame_bytes, 1), SMALLEST_WINDOW), DEFAULT_WINDOW))
    overlap = default_overlap(window, edges) if options.overlap is None else options.overlap
    return cut_into_windows(num_frames, window, overlap)


def default_overlap(window: int, edges: Sequence[Edge] | np.ndarray) -> int:
    """A quarter of the window, or as far as most pairs reach if that is more; half of the window at most."""
    reach = np.abs(np.subtract(*np.asarray(edges).T)) if len(edges) else np.zeros(1)
    return max(2, min(window // 2, max(window // 4, int(np.quantile(reach, 0.9)))))


def part_of(clip: Clip, window: Window) -> Clip:
    """The frames of a window as a clip; nothing is copied."""
    part = slice(window.start, window.stop)
    names = ("rgb", "times", "frame_indices", "original_sizes", "pixel_maps")
    return replace(clip, failed=(), **{name: getattr(clip, name)[part] for name in names})


def known_in(known: Known, window: Window) -> Known:
    """What is known of the frames of a window, counted from its first."""
    inside: dict[str, Any] = {}
    for entry in fields(known):
        given = getattr(known, entry.name)
        if given is None:
            continue
        kept = (given.frames >= window.start) & (given.frames < window.stop)
        if bool(kept.any()):
            tensors = {f.name: getattr(given, f.name)[kept] for f in fields(given) if _is_tensor(given, f.name)}
            inside[entry.name] = replace(given, **{**tensors, "frames": given.frames[kept] - window.start})
    return Known(**inside)


def _is_tensor(record: Any, name: str) -> bool:
    return isinstance(getattr(record, name), Tensor)


def _falls_apart(edges: Sequence[Edge] | np.ndarray, num_frames: int) -> bool:
    """Whether some neighbours are in no pair, so that only pairs that reach far hold the clip together."""
    table = np.asarray(edges)
    near = table[np.abs(table[:, 0] - table[:, 1]) == 1].min(1)
    return len(np.unique(near)) < num_frames - 1
