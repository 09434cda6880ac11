"""The answer for a whole clip from windows that lie in one world, its dense maps put together on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment import AlignmentResult
from stereo4d.video.aligning import Aligned
from stereo4d.video.clip import Clip
from stereo4d.video.windows_files import SolvedWindow, residuals_of
from stereo4d.video.windows_joining import Joined
from stereo4d.video.windows_reading import PairReader

_HALF = float(np.finfo(np.float16).max)


def assemble_windows(
    reader: PairReader, clip: Clip, solved: Sequence[SolvedWindow], joined: Joined, folder: Path
) -> Aligned:
    """The answer for all frames, its dense maps on disk.

    Args:
        reader: the clip's pairs.
        clip: N frames.
        solved: the windows.
        joined: where they lie.
        folder: where to write the maps.
    """
    depth, confidence = write_dense(clip, solved, joined, folder)
    rows, transforms = _pairs(solved, joined)
    pairs = torch.tensor([len(one.rows) for one in solved], dtype=torch.float64)

    def mean(name: str) -> float:
        told = torch.tensor([one.told[name] for one in solved], dtype=torch.float64)
        return float((pairs * told).sum() / pairs.sum())

    report = joined.report(solved, clip.frame_indices)
    believed = sum(entry["believed"] for entry in report["loops"])
    result = AlignmentResult(
        cam2world=joined.cam2world.float(),
        intrinsics=joined.intrinsics.float(),
        depth=torch.from_numpy(depth),
        confidence=torch.from_numpy(confidence),
        pairs=rows,
        pair2world=transforms.float(),
        losses=tuple(tuple(level) for one in solved for level in one.told["losses"]),
        start_loss=mean("start_loss"),
        solved_loss=mean("solved_loss"),
        final_loss=mean("final_loss"),
        misfit=mean("misfit"),
        iterations=sum(one.told["iterations"] for one in solved),
        reason=f"{len(solved)} windows, joined by the frames they share and {believed} loops; the last window: "
        + solved[-1].told["reason"],
        known=residuals_of(solved),
        scale_given=any(one.told["scale_given"] for one in solved),
    )
    inside = [reader.inside(one.window.start, one.window.stop) for one in solved]
    beside = frozenset(range(len(reader.edges))) - frozenset(np.concatenate(inside).tolist())
    return Aligned(torch.from_numpy(reader.edges), result, (), report, beside)


def _pairs(solved: Sequence[SolvedWindow], joined: Joined) -> tuple[Tensor, Tensor]:
    """(E',) the clip's pairs that took part anywhere, and (E', 4, 4) where they lie, by the first window of each."""
    rows = torch.cat([one.rows for one in solved])
    carried = torch.cat([to_world @ one.pair2world for one, to_world in zip(solved, joined.world, strict=True)])
    unique, place = np.unique(rows.numpy(), return_index=True)
    return torch.from_numpy(unique), carried[torch.from_numpy(place)]


def write_dense(
    clip: Clip, solved: Sequence[SolvedWindow], joined: Joined, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Put the depth and confidence of all frames together on disk, a few frames at a time.

    Where windows share a frame its depth is their mean, each counting as much as for the cameras.

    Args:
        clip: N frames.
        solved: the windows.
        joined: where they lie.
        folder: where to write.

    Returns:
        (N, H, W) float16 depth and confidence, memory-mapped; pages that are written to are copied.
    """
    paths = [folder / f"{name}.f16" for name in ("depth", "confidence")]
    scales = joined.world[:, 0, :3].norm(dim=-1)
    shape = clip.rgb.shape[:3]
    with paths[0].open("wb") as depths, paths[1].open("wb") as confidences:
        for frame in range(len(clip)):
            depth, confidence = torch.zeros(shape[1:]), torch.zeros(shape[1:])
            for k in torch.nonzero(joined.shares[:, frame])[:, 0].tolist():
                own, sure = solved[k].dense(range(frame, frame + 1))
                depth += float(joined.shares[k, frame] * scales[k]) * own[0]
                confidence = torch.maximum(confidence, sure[0])
            depths.write(depth.clamp(0, _HALF).half().numpy().tobytes())
            confidences.write(confidence.half().numpy().tobytes())
    depth_map, confidence_map = (np.memmap(path, np.float16, mode="c", shape=shape) for path in paths)
    return depth_map, confidence_map
