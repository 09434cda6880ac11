"""A long clip, window by window: solved one after the other, each left on disk, then joined.

Memory is set by a window: its pairs are read when its turn comes, its depth is finished and written before the next
begins, and the clip's depth is put together on disk. A run that is taken up again goes on after the last window that
was finished.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment.known import Known
from stereo4d.alignment.problem import components
from stereo4d.alignment.windows import Window, find_seam
from stereo4d.errors import GraphError
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.aligning import Aligned
from stereo4d.video.clip import Clip
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.prediction_files import join_predictions
from stereo4d.video.windows_assembly import assemble_windows
from stereo4d.video.windows_files import SolvedWindow, load_window, save_window
from stereo4d.video.windows_joining import Joined, join_windows
from stereo4d.video.windows_plan import plan_windows
from stereo4d.video.windows_reading import PairReader

WINDOWS_FOLDER = "windows"
"""In the hidden folder of an unfinished run."""
_LARGE_SEAM = 0.1

log = logging.getLogger(__name__)

Solve = Callable[[Tensor, PairPrediction, Clip, Known, Progress], Aligned]
"""Aligns (E, 2) pairs of a clip, given what is known of it."""


@dataclass(frozen=True)
class Folder:
    """Where windows are left, and what they must agree in to be taken up again."""

    path: Path
    stamp: str
    """Fingerprint of all that decides how windows are solved."""

    def of(self, window: Window) -> Path:
        """The file of a window."""
        return self.path / f"window-{window.start:06d}-{window.stop:06d}.safetensors"


def align_clip(
    paths: Sequence[Path],
    clip: Clip,
    known: Known,
    options: AlignmentOptions,
    solve: Solve,
    folder: Folder,
    *,
    chosen: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> Aligned:
    """Bring all pairs of a clip into one world: at once where that fits, else window by window.

    Args:
        paths: files of pairs.
        clip: N frames.
        known: what is known of them.
        options: how long windows are, and how much they share.
        solve: aligns some pairs at once.
        folder: where windows are left.
        chosen: (E,) bool, which pairs to take; None takes all.
        progress: told about every step, or every window.

    Raises:
        GraphError: the pairs of a window do not hang together.
        UsageError: windows of these sizes cannot be.
    """
    reader = PairReader(paths, chosen)
    windows = plan_windows(options, len(clip), reader.edges, clip.rgb.shape[1:3])
    if len(windows) == 1:
        return solve(*join_predictions(paths, extras=False, chosen=chosen), clip, known, progress)
    return align_in_windows(reader, clip, known, windows, solve, folder, progress)


def align_in_windows(
    reader: PairReader,
    clip: Clip,
    known: Known,
    windows: Sequence[Window],
    solve: Solve,
    folder: Folder,
    progress: Progress = SILENT,
) -> Aligned:
    """Bring all pairs of a clip into one world, window by window.

    Args:
        reader: the pairs.
        clip: N frames.
        known: what is known of them.
        windows: which frames are solved together, neighbours sharing frames.
        solve: aligns the pairs of one window.
        folder: where they are left.
        progress: told about every window.

    Raises:
        GraphError: the pairs of a window do not hang together.
    """
    solved = solve_windows(reader, clip, known, windows, solve, folder, progress)

    def moving(frames: range) -> Tensor | None:
        return _masked(known, frames, clip.rgb.shape[1:3])

    joined = join_windows(solved, reader, known, moving)
    _warn(joined, solved, clip)
    return assemble_windows(reader, clip, solved, joined, folder.path)


def solve_windows(
    reader: PairReader,
    clip: Clip,
    known: Known,
    windows: Sequence[Window],
    solve: Solve,
    folder: Folder,
    progress: Progress = SILENT,
) -> list[SolvedWindow]:
    """Solve all windows that an earlier run has not left; see ``align_in_windows``."""
    for window in windows:
        _check_hangs_together(reader, window, clip)
    solved: list[SolvedWindow] = []
    with progress.stage("alignment", len(windows), "window") as stage:
        for window in windows:
            path = folder.of(window)
            found = load_window(path, window, folder.stamp)
            if found is None:
                rows = reader.inside(window.start, window.stop)
                edges, prediction = reader.read(rows)
                aligned = solve(
                    edges - window.start, prediction, part_of(clip, window), known_in(known, window), SILENT
                )
                save_window(path, window, rows, aligned.result, folder.stamp)
                found = load_window(path, window, folder.stamp)
                assert found is not None
            solved.append(found)
            if len(solved) > 1:
                shared = solved[-2].window.shared_with(window)
                seam = find_seam(solved[-2].see(shared), found.see(shared))
                stage.note(f"seam {100 * seam.points_error:.2g} % of depth, {seam.rotation_error:.2g} degrees")
            stage.advance()
    return solved


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


def _masked(known: Known, frames: range, size: tuple[int, ...]) -> Tensor | None:
    """(m, H, W) bool: pixels of some frames that the user's masks leave out."""
    if known.masks is None:
        return None
    ignored = torch.zeros(len(frames), *size, dtype=torch.bool)
    for position, frame in enumerate(known.masks.frames.tolist()):
        if frame in frames:
            ignored[frame - frames.start] = known.masks.ignored[position].cpu()
    return ignored


def _check_hangs_together(reader: PairReader, window: Window, clip: Clip) -> None:
    """Make sure that a window can be solved on its own.

    Raises:
        GraphError: it cannot.
    """
    edges = torch.from_numpy(reader.edges[reader.inside(window.start, window.stop)]) - window.start
    parts = components(edges, len(window))
    if len(parts) > 1:
        first, last = (int(clip.frame_indices[frame]) for frame in (window.start, window.stop - 1))
        raise GraphError(
            f"the pairs of the window of frames {first} to {last} fall into {len(parts)} parts; take a graph of "
            f"neighbours (swin-3-noncyclic), a longer --window, or one solve of all frames (--window {len(clip)})"
        )


def _warn(joined: Joined, solved: Sequence[SolvedWindow], clip: Clip) -> None:
    """Say where windows do not fit."""
    for seam, one in zip(joined.seams, solved[1:], strict=True):
        if seam.points_error > _LARGE_SEAM:
            log.warning(
                "windows before and after frame %d disagree by %.0f %% of the depth: what lies beyond may be out of "
                "place; a longer --overlap may help",
                *(int(clip.frame_indices[one.window.start]), 100 * seam.points_error),
            )
