"""A clip window by window as MonST3R does it (Zhang et al. 2024): each window holds what the one before has found.

For comparison. Cameras, focals and depths of the frames that a window shares with those before it do not move any more;
errors add up, and no seam or loop mends them. Ours are solved apart and joined (``windows``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment import AlignmentResult
from stereo4d.alignment.known import HARD, Known, KnownDepths, KnownIntrinsics, KnownPoses
from stereo4d.alignment.windows import Window
from stereo4d.errors import UsageError
from stereo4d.progress import SILENT, Progress
from stereo4d.video.aligning import Aligned
from stereo4d.video.clip import Clip
from stereo4d.video.motion_windows import ClipMotion
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.solving import Solver, Task
from stereo4d.video.windows_reading import PairReader

DEFAULT_WINDOW = 100
_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Found:
    """What is known of the clip's first frames after some windows."""

    cam2world: Tensor
    """(n, 4, 4) float32."""
    intrinsics: Tensor
    """(n, 3, 3) float32."""
    recent: Tensor
    """(m, H, W) float32 depth of the last m of them."""

    def held(self, window: Window, known: Known) -> Known:
        """What is known of the clip, with what of a window is already found."""
        shared = torch.arange(window.start, len(self.cam2world))
        given = known.intrinsics
        lenses = KnownIntrinsics(shared, self.intrinsics[shared])
        if given is not None and given.weight == HARD:
            later = given.frames >= len(self.cam2world)
            lenses = KnownIntrinsics(
                torch.cat([shared, given.frames[later]]),
                torch.cat([lenses.intrinsics, given.intrinsics[later].to(lenses.intrinsics)]),
            )
        poses = KnownPoses(shared, self.cam2world[shared].double())
        depths = KnownDepths(shared, self.recent[len(self.recent) - len(shared) :])
        return replace(known, intrinsics=lenses, poses=poses, depths=depths)


def solve_window_wise(task: Task, *, progress: Progress = SILENT) -> tuple[Aligned, ClipMotion | None]:
    """Bring all frames into one world, one window after the other; see ``ways.FromPairs``.

    Raises:
        UsageError: windows of these sizes cannot be.
    """
    clip, reader, workspace = task.clip, task.reader(), task.workspace
    windows = overlapping(len(clip), task.approach.options)
    motion = task.find_motion(windows, progress)
    files = [workspace.unfinished / f"window-wise-{name}.f16" for name in ("depth", "confidence")]
    with workspace.stage("alignment"), progress.stage("alignment", len(windows), "window") as stage:
        for file in files:
            file.unlink(missing_ok=True)
        found: Found | None = None
        results: list[AlignmentResult] = []
        rows: list[np.ndarray] = []
        for window in windows:
            inside = reader.inside(window.start, window.stop)
            edges, told = reader.read(inside)
            held = task if found is None else replace(task, known=found.held(window, task.known))
            aligned = Solver(held, motion).solve(window, edges - window.start, told, SILENT)
            results.append(replace(aligned.result, depth=torch.empty(0), confidence=torch.empty(0)))
            rows.append(inside[aligned.result.pairs.numpy()])
            found = _taken_up(found, window, aligned.result, files)
            stage.advance()
    assert found is not None
    maps = [torch.from_numpy(np.memmap(file, np.float16, mode="c", shape=clip.rgb.shape[:3])) for file in files]
    return _assembled(reader, clip, windows, found, results, rows, maps), motion


def overlapping(num_frames: int, options: AlignmentOptions) -> list[Window]:
    """Windows of equal length, half of each shared with the next unless the options say otherwise; the last one ends
    with the clip.

    Raises:
        UsageError: they cannot be.
    """
    size = options.window or DEFAULT_WINDOW
    shared = size // 2 if options.overlap is None else options.overlap
    if not 2 <= shared < size:
        raise UsageError(f"--window {size} --overlap {shared}: a window must share 2 frames or more, and not all")
    if num_frames <= size:
        return [Window(0, num_frames)]
    starts = [*range(0, num_frames - size, size - shared), num_frames - size]
    return [Window(start, start + size) for start in starts]


def _taken_up(found: Found | None, window: Window, result: AlignmentResult, files: Sequence[Path]) -> Found:
    """What is found after one more window; the maps of its new frames are written at the end of the files."""
    old = 0 if found is None else len(found.cam2world) - window.start
    for file, values in zip(files, (result.depth, result.confidence), strict=True):
        with file.open("ab") as stream:
            stream.write(values[old:].clamp(0, _HALF).half().numpy().tobytes())
    if found is None:
        return Found(result.cam2world, result.intrinsics, result.depth)
    return Found(
        torch.cat([found.cam2world, result.cam2world[old:]]),
        torch.cat([found.intrinsics, result.intrinsics[old:]]),
        result.depth,
    )


def _assembled(
    reader: PairReader,
    clip: Clip,
    windows: Sequence[Window],
    found: Found,
    results: Sequence[AlignmentResult],
    rows: Sequence[np.ndarray],
    maps: Sequence[Tensor],
) -> Aligned:
    """The answer for all frames."""
    taken, first = np.unique(np.concatenate(rows), return_index=True)
    pairs = torch.tensor([len(of_window) for of_window in rows], dtype=torch.float64)

    def mean(name: str) -> float:
        told = torch.tensor([getattr(result, name) for result in results], dtype=torch.float64)
        return float((pairs * told).sum() / pairs.sum())

    result = replace(
        results[0],
        cam2world=found.cam2world,
        intrinsics=found.intrinsics,
        depth=maps[0],
        confidence=maps[1],
        pairs=torch.from_numpy(taken),
        pair2world=torch.cat([result.pair2world for result in results])[torch.from_numpy(first)],
        losses=tuple(level for result in results for level in result.losses),
        **{name: mean(name) for name in ("start_loss", "solved_loss", "final_loss", "misfit")},  # type: ignore[arg-type]
        iterations=sum(result.iterations for result in results),
        reason=f"{len(windows)} windows, each holding what the one before has found; the last: {results[-1].reason}",
    )
    within = [reader.inside(window.start, window.stop) for window in windows]
    beside = frozenset(range(len(reader.edges))) - frozenset(np.concatenate(within).tolist())
    frames = [[int(clip.frame_indices[window.start]), int(clip.frame_indices[window.stop - 1])] for window in windows]
    told: dict[str, Any] = {"window_wise": frames}
    return Aligned(torch.from_numpy(reader.edges), result, (), told, beside)
