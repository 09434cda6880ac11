"""From the stored pairs of a clip to one world: what reconstructing a clip and aligning stored pairs share.

What moves is looked for first, then pairs are aligned, at once or window by window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment.known import Known
from stereo4d.alignment.windows import Window
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.aligning import Aligned, align_pairs
from stereo4d.video.clip import Clip
from stereo4d.video.motion_windows import MOTION_FOLDER, ClipMotion, find_clip_motion
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.windows import WINDOWS_FOLDER, Folder, align_clip
from stereo4d.video.windows_plan import known_in, part_of, plan_windows
from stereo4d.video.windows_reading import PairReader
from stereo4d.video.workspace import Workspace

if TYPE_CHECKING:
    from stereo4d.video.predictor import Predictor


@dataclass(frozen=True)
class Approach:
    """How pairs are brought into one world, whatever they are of."""

    options: AlignmentOptions
    seed: int
    device: torch.device
    stamp: str
    """Fingerprint of all that decides what comes out: what an interrupted run has left must agree with it."""
    predictor: Predictor | None = None
    """What predicted the pairs, where it is at hand."""


@dataclass(frozen=True)
class Task:
    """Stored pairs of a clip that are to become one world."""

    paths: Sequence[Path]
    """Files of pairs."""
    clip: Clip
    """N frames."""
    known: Known
    """What is known of them."""
    approach: Approach
    workspace: Workspace
    """Where what is found waits for the scene to be made, or for the run to be taken up again."""
    chosen: np.ndarray | None = None
    """(E,) bool, which pairs to take; None takes all."""

    def reader(self) -> PairReader:
        """The pairs that are taken."""
        return PairReader(self.paths, self.chosen)

    def find_motion(self, windows: Sequence[Window], progress: Progress) -> ClipMotion | None:
        """What moves, window by window; see ``find_clip_motion``."""
        with self.workspace.stage("motion"):
            return find_clip_motion(
                *(self.paths, self.clip, self.known, self.approach.options, windows),
                *(self.workspace.unfinished / MOTION_FOLDER, self.approach.stamp),
                predictor=self.approach.predictor,
                progress=progress,
            )


@dataclass(frozen=True)
class Solver:
    """Aligns the windows of a clip, or all of it as one window."""

    task: Task
    motion: ClipMotion | None

    def solve(self, window: Window, edges: Tensor, told: PairPrediction, progress: Progress) -> Aligned:
        """Bring some pairs into one world; (E, 2) edges count from the window's first frame."""
        known, approach = known_in(self.task.known, window), self.task.approach
        motion = None if self.motion is None else self.motion.of(window)
        return align_pairs(
            *(edges, told, part_of(self.task.clip, window)),
            known=known if motion is None else motion.known(known),
            options=approach.options,
            seed=approach.seed,
            device=approach.device,
            motion=motion,
            progress=progress,
        )

    def ignored(self, frames: range) -> Tensor | None:
        """(m, H, W) bool: which pixels of some frames the cameras are not judged by; None where none are."""
        given = self.task.known.masks
        if given is None and self.motion is None:
            return None
        size = self.task.clip.rgb.shape[1:3]
        ignored = torch.zeros(len(frames), *size, dtype=torch.bool)
        if self.motion is not None:
            ignored |= self.motion.ignored(frames)
        for position, frame in enumerate([] if given is None else given.frames.tolist()):
            if given is not None and frame in frames:
                ignored[frame - frames.start] |= given.ignored[position].cpu()
        return ignored


def solve_clip(task: Task, *, progress: Progress = SILENT) -> tuple[Aligned, ClipMotion | None]:
    """Find what moves and bring all pairs into one world.

    Args:
        task: the pairs, and how.
        progress: told about every step, or every window.

    Raises:
        GraphError: the pairs, or those of a window, do not hang together.
        UsageError: windows of these sizes cannot be, or a way to make masks cannot work here.
    """
    clip, reader = task.clip, task.reader()
    windows = plan_windows(task.approach.options, len(clip), reader.edges, clip.rgb.shape[1:3])
    solver = Solver(task, task.find_motion(windows, progress))
    folder = Folder(task.workspace.unfinished / WINDOWS_FOLDER, task.approach.stamp)
    with task.workspace.stage("alignment"):
        return align_clip(reader, clip, task.known, windows, solver, folder, progress=progress), solver.motion
