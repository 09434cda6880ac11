"""A long clip, window by window: solved one after the other, each left on disk, then joined.

Memory is set by a window: its pairs are read when its turn comes, its depth is finished and written before the next
begins, and the clip's depth is put together on disk. A run that is taken up again goes on after the last window that
was finished.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
from stereo4d.video.windows_assembly import assemble_windows
from stereo4d.video.windows_files import SolvedWindow, load_window, save_window
from stereo4d.video.windows_joining import Joined, join_windows
from stereo4d.video.windows_reading import PairReader

WINDOWS_FOLDER = "windows"
"""In the hidden folder of an unfinished run."""
_LARGE_SEAM = 0.1

log = logging.getLogger(__name__)


class WindowSolver(Protocol):
    """What windows are solved by."""

    def solve(self, window: Window, edges: Tensor, told: PairPrediction, progress: Progress) -> Aligned:
        """Bring some pairs of a window into one world; (E, 2) edges count from the window's first frame."""

    def ignored(self, frames: range) -> Tensor | None:
        """(m, H, W) bool: which pixels of some frames the cameras are not judged by; None where none are."""


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
    reader: PairReader,
    clip: Clip,
    known: Known,
    windows: Sequence[Window],
    solver: WindowSolver,
    folder: Folder,
    progress: Progress = SILENT,
) -> Aligned:
    """Bring all pairs of a clip into one world: at once where there is one window, else window by window.

    Args:
        reader: the pairs.
        clip: N frames.
        known: what is known of them.
        windows: which frames are solved together, neighbours sharing frames.
        solver: aligns the pairs of one window.
        folder: where windows are left.
        progress: told about every step, or every window.

    Raises:
        GraphError: the pairs of a window do not hang together.
    """
    if len(windows) == 1:
        return solver.solve(windows[0], *reader.read_all(), progress)
    solved = solve_windows(reader, clip, windows, solver, folder, progress)
    joined = join_windows(solved, reader, known, solver.ignored)
    _warn(joined, solved, clip)
    return assemble_windows(reader, clip, solved, joined, folder.path)


def solve_windows(
    reader: PairReader,
    clip: Clip,
    windows: Sequence[Window],
    solver: WindowSolver,
    folder: Folder,
    progress: Progress = SILENT,
) -> list[SolvedWindow]:
    """Solve all windows that an earlier run has not left; see ``align_clip``."""
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
                aligned = solver.solve(window, edges - window.start, prediction, SILENT)
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
