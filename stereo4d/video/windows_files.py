"""What a finished window leaves on disk: an interrupted run goes on after it, and no more than one is in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment import AlignmentResult
from stereo4d.alignment.known import KnownResidual
from stereo4d.alignment.windows import SeenFrames, Window, see_frames
from stereo4d.errors import SceneError
from stereo4d.storage import map_arrays, read_metadata, save_arrays

_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class SolvedWindow:
    """One window's alignment, in a world and unit of its own; its dense maps stay on disk until they are asked for."""

    window: Window
    path: Path
    rows: Tensor
    """(E',) int64: the clip's pairs that took part."""
    cam2world: Tensor
    """(n, 4, 4) float64."""
    intrinsics: Tensor
    """(n, 3, 3) float64."""
    pair2world: Tensor
    """(E', 4, 4) float64 similarities to this world."""
    size: float
    """How far the scene is: the median depth, in this world's unit."""
    told: dict[str, Any]
    """What else the alignment said, as plain values."""

    def dense(self, frames: range) -> tuple[Tensor, Tensor]:
        """(m, H, W) float32 depth in this world's unit, and confidence, of some frames of the clip."""
        part = slice(frames.start - self.window.start, frames.stop - self.window.start)
        arrays = map_arrays(self.path)
        depth, confidence = (torch.from_numpy(np.array(arrays[name][part])) for name in ("depth", "confidence"))
        return depth.float() * self.size, confidence.float()

    def see(self, frames: range, moving: Tensor | None = None) -> SeenFrames:
        """What this window says of some frames of the clip, on a sample of their pixels.

        Args:
            frames: of the clip.
            moving: (m, H, W) bool, pixels that tell nothing of the cameras.
        """
        part = slice(frames.start - self.window.start, frames.stop - self.window.start)
        return see_frames(self.cam2world[part], self.intrinsics[part], *self.dense(frames), moving)


def save_window(
    path: Path, window: Window, rows: Sequence[int] | np.ndarray, result: AlignmentResult, stamp: str
) -> None:
    """Write what came out of one window, whole or not at all.

    Args:
        path: the file.
        window: which frames.
        rows: (E,) the clip's pairs that it was given.
        result: how its alignment went.
        stamp: fingerprint of all that decides how; a window with another one is not taken up again.
    """
    size = max(float(result.depth.flatten()[:: max(1, result.depth.numel() // 100_000)].median()), 1e-12)
    told = {
        "losses": result.losses,
        "start_loss": result.start_loss,
        "solved_loss": result.solved_loss,
        "final_loss": result.final_loss,
        "misfit": result.misfit,
        "iterations": result.iterations,
        "reason": result.reason,
        "scale_given": result.scale_given,
        "known": [asdict(residual) for residual in result.known],
    }
    arrays = {
        "rows": torch.as_tensor(np.asarray(rows, np.int64))[result.pairs],
        "cam2world": result.cam2world.double(),
        "intrinsics": result.intrinsics.double(),
        "pair2world": result.pair2world.double(),
        "size": torch.tensor([size], dtype=torch.float64),
        # In units of the scene's size: a world measured in millimetres fits as well.
        "depth": (result.depth / size).clamp(1e-7, _HALF).half(),
        "confidence": result.confidence.clamp(1, _HALF).half(),
    }
    frames = f"{window.start}-{window.stop}"
    save_arrays(path, arrays, {"stamp": stamp, "frames": frames, "told": json.dumps(told)})


def load_window(path: Path, window: Window, stamp: str) -> SolvedWindow | None:
    """A window that an earlier run has finished; None where there is none, or one of other settings."""
    try:
        said = read_metadata(path)
    except SceneError:
        return None
    if (said.get("stamp"), said.get("frames")) != (stamp, f"{window.start}-{window.stop}"):
        return None
    stored = map_arrays(path)
    rows, poses, lenses, pairs = (
        torch.from_numpy(np.array(stored[name])) for name in ("rows", "cam2world", "intrinsics", "pair2world")
    )
    return SolvedWindow(window, path, rows, poses, lenses, pairs, float(stored["size"][0]), json.loads(said["told"]))


def residuals_of(solved: Sequence[SolvedWindow]) -> tuple[KnownResidual, ...]:
    """How what was known agrees with all windows, each frame once, by the window that has it first."""
    merged: dict[str, dict[str, Any]] = {}
    for one in solved:
        for told in one.told["known"]:
            into = merged.setdefault(told["quantity"], {"unit": told["unit"], "frames": {}})
            for frame, answer, pairs in zip(told["frames"], told["answer"], told["pairs"], strict=True):
                into["frames"].setdefault(frame + one.window.start, (answer, pairs))
    return tuple(
        KnownResidual(
            quantity,
            entry["unit"],
            tuple(sorted(entry["frames"])),
            tuple(entry["frames"][frame][0] for frame in sorted(entry["frames"])),
            tuple(entry["frames"][frame][1] for frame in sorted(entry["frames"])),
        )
        for quantity, entry in merged.items()
    )
