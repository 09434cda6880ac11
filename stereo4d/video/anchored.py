"""From pairs to one world without solving anything, as fast as the network predicts: the family's "real-time" mode.

Every frame is paired with one anchor frame, whose camera is the frame of all these predictions (MonST3R, Zhang et al.
2024). The anchor's focal is told by its own pointmaps, every other camera by PnP from its pointmap. Pairs have a unit
each; all of them see the anchor, whose depths say how their units go together.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment import AlignmentResult
from stereo4d.alignment.known import Known
from stereo4d.alignment.problem import PAIR_SCALE
from stereo4d.errors import AlignmentError, GraphError
from stereo4d.geometry.camera import pinhole
from stereo4d.geometry.pnp import PnpPose, pnp_of_pointmap
from stereo4d.geometry.pointmap import estimate_focal, weighted_median
from stereo4d.geometry.rigid import invert
from stereo4d.progress import SILENT, Progress
from stereo4d.video.aligning import Aligned
from stereo4d.video.anchored_maps import write_maps
from stereo4d.video.clip import Clip
from stereo4d.video.motion_windows import ClipMotion
from stereo4d.video.solving import Task
from stereo4d.video.windows_reading import PairReader

GRAPH = "anchor"
"""The pairs that are needed and no others; see ``pair_graph``."""

log = logging.getLogger(__name__)


def find_anchor(edges: Sequence[Sequence[int]], num_frames: int) -> int:
    """The frame nearest to the middle of N frames that is view 0 of pairs with all others.

    Raises:
        GraphError: there is none.
    """
    partners: dict[int, set[int]] = {}
    for first, second in edges:
        partners.setdefault(first, {first}).add(second)
    anchor = min(partners, key=lambda frame: (-len(partners[frame]), abs(frame - num_frames // 2), frame))
    if lacking := num_frames - len(partners[anchor]):
        raise GraphError(
            f"--align anchored needs a frame that is paired with all others; frame {anchor} comes nearest and lacks "
            f"{lacking} of {num_frames - 1}: take --graph {GRAPH}, or leave --align out"
        )
    return anchor


@dataclass(frozen=True)
class Star:
    """The pairs of one frame, the anchor, with every other one."""

    reader: PairReader
    anchor: int
    rows: np.ndarray
    """(N,) which pair says where the pixels of a frame lie; for the anchor, that with its nearest neighbour."""
    beside: frozenset[int]
    """Pairs that are not needed."""

    @classmethod
    def of(cls, reader: PairReader, num_frames: int) -> Star:
        """The star whose middle is as near as can be to the middle of the clip.

        Raises:
            GraphError: no frame is view 0 of pairs with all others.
        """
        edges = reader.edges.tolist()
        anchor = find_anchor(edges, num_frames)
        row_of = {second: row for row, (first, second) in enumerate(edges) if first == anchor}
        nearest = min(row_of, key=lambda frame: (frame == anchor, abs(frame - anchor), frame))
        rows = np.array([row_of[nearest if frame == anchor else frame] for frame in range(num_frames)])
        return cls(reader, anchor, rows, frozenset(range(len(reader.edges))) - frozenset(rows.tolist()))

    def from_near_to_far(self) -> list[int]:
        """The frames, the anchor first, then those nearest to it in time."""
        return sorted(range(len(self.rows)), key=lambda frame: (abs(frame - self.anchor), frame))

    def pairs(self) -> list[int]:
        """The frames whose pairs there are: all but the anchor, or the only one."""
        return [frame for frame in range(len(self.rows)) if frame != self.anchor] or [self.anchor]

    def read(self, frame: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a frame's pair, float32: points (H, W, 3) and confidence (H, W) of the anchor's pixels, and of its own."""
        _, told = self.reader.read(self.rows[frame : frame + 1])
        return tuple(v[0].float() for v in (told.pointmap0, told.confidence0, told.pointmap1, told.confidence1))  # type: ignore[return-value]


@dataclass(frozen=True)
class AnchorView:
    """What all pairs of the anchor say of it."""

    focal: float | None
    """In pixels; None where no pointmap tells one."""
    depth: Tensor
    """(H, W) float32 in the unit of the answer; 0 where nothing is told."""
    confidence: Tensor
    """(H, W) float32: the highest that any pair gives."""
    scales: np.ndarray
    """(N,) float64: from the unit of each frame's pair to that of the answer."""


def anchor_clip(task: Task, *, progress: Progress = SILENT) -> tuple[Aligned, ClipMotion | None]:
    """Bring all frames into one world by their pairs with the anchor; see ``ways.FromPairs``.

    Raises:
        GraphError: no frame is paired with all others.
        AlignmentError: the anchor's points lie nowhere.
    """
    clip, known = task.clip, task.known
    star = Star.of(task.reader(), len(clip))
    with task.workspace.stage("alignment"), progress.stage("alignment", len(clip), "frame") as stage:
        seen = look_at_anchor(star, clip.rgb.shape[1:3])
        intrinsics = cameras_of(seen, known, star, clip)
        cam2world = torch.eye(4, dtype=torch.float64).repeat(len(clip), 1, 1)
        lost = []
        for frame in star.from_near_to_far()[1:]:
            found = locate(star, frame, intrinsics[frame], known, task.approach.seed)
            if found.inliers:
                cam2world[frame] = torch.from_numpy(found.cam2world)
                cam2world[frame, :3, 3] *= seen.scales[frame]
            else:  # where its neighbour stands, which is nearer to the anchor
                cam2world[frame] = cam2world[frame + (1 if frame < star.anchor else -1)]
                lost.append(frame)
            stage.advance()
        aligned = _assembled(star, seen, clip, cam2world, intrinsics, lost, task.workspace.unfinished)
        stage.advance()
    return aligned, None


def look_at_anchor(star: Star, size: tuple[int, ...]) -> AnchorView:
    """Put together what all pairs say of the anchor: its focal, its depth, and how long their units are.

    Raises:
        AlignmentError: some pair has no point before the anchor's camera.
    """
    scales, votes, weights = np.ones(len(star.rows)), [], []
    total, weight, best = torch.zeros(size), torch.zeros(size), torch.zeros(size)
    reference: Tensor | None = None
    paired = set(star.pairs())
    frames = [frame for frame in star.from_near_to_far() if frame in paired]
    for frame in frames:
        points, confidence, _, _ = star.read(frame)
        votes.append(estimate_focal(points[None], confidence[None])[0])
        weights.append(confidence.mean())
        depth = points[..., 2]
        reference = depth if reference is None else reference
        usable = (depth > 0) & (reference > 0) & depth.isfinite() & reference.isfinite() & confidence.isfinite()
        if not bool(usable.any()):
            raise AlignmentError(
                f"the pair of frames {star.anchor} and {frame} says nothing of what lies before the camera of frame "
                f"{star.anchor}; check weights and precision, or take another --graph anchor-R"
            )
        scales[frame] = weighted_median(reference[usable] / depth[usable], confidence[usable])
        total[usable] += confidence[usable] * scales[frame] * depth[usable]
        weight[usable] += confidence[usable]
        best = torch.maximum(best, confidence.nan_to_num(1.0))
    scales[star.anchor] = scales[frames[0]]
    unit = np.exp(np.log(PAIR_SCALE) - np.log(scales[frames]).mean())
    told = torch.stack(votes)
    good = told.isfinite()
    focal = weighted_median(told[good], torch.stack(weights)[good]) if bool(good.any()) else None
    depth = torch.where(weight > 0, unit * total / weight, 0.0)
    return AnchorView(focal, depth, best, scales * unit)


def cameras_of(seen: AnchorView, known: Known, star: Star, clip: Clip) -> Tensor:
    """(N, 3, 3) float64: what is known of each frame, else the anchor's, which is known or told by its points.

    Raises:
        AlignmentError: neither known nor told.
    """
    height, width = clip.rgb.shape[1:3]
    told = known.intrinsics
    given = {} if told is None else dict(zip(told.frames.tolist(), told.intrinsics, strict=True))
    common = given.get(star.anchor, next(iter(given.values()), None))
    if common is None:
        if seen.focal is None:
            raise AlignmentError(
                f"the points of frame {star.anchor}, the anchor, tell no focal length; give --intrinsics, or take "
                "another --graph anchor-R"
            )
        common = pinhole(torch.tensor(seen.focal, dtype=torch.float64), height, width)
    return torch.stack([given.get(frame, common).double() for frame in range(len(clip))])


def locate(star: Star, frame: int, intrinsics: Tensor, known: Known, seed: int) -> PnpPose:
    """Where the camera of a frame stands, in the anchor's camera and the unit of their pair."""
    _, _, points, confidence = star.read(frame)
    if known.masks is not None and frame in (masked := known.masks.frames.tolist()):
        points[known.masks.ignored[masked.index(frame)].cpu()] = torch.nan
    return pnp_of_pointmap(points, intrinsics, confidence, seed=seed)


def _assembled(
    star: Star, seen: AnchorView, clip: Clip, cam2world: Tensor, intrinsics: Tensor, lost: list[int], folder: Path
) -> Aligned:
    """The answer, seen from the first frame's camera."""
    if lost:
        names = ", ".join(str(int(clip.frame_indices[frame])) for frame in sorted(lost)[:8])
        log.warning(
            "frames %s%s: their points say nothing of where their cameras stand (%d of %d); the neighbours' are taken",
            *(names, " ..." if len(lost) > 8 else "", len(lost), len(clip)),
        )
    depth, confidence, misfit = write_maps(star, seen, cam2world, intrinsics, folder)
    first = invert(cam2world[:1])
    frames = star.pairs()
    pair2world = first.repeat(len(frames), 1, 1)
    pair2world[:, :3, :3] *= torch.from_numpy(seen.scales[frames])[:, None, None]
    world = first @ cam2world
    world[0] = torch.eye(4, dtype=torch.float64)
    result = AlignmentResult(
        cam2world=world.float(),
        intrinsics=intrinsics.float(),
        depth=torch.from_numpy(depth),
        confidence=torch.from_numpy(confidence),
        pairs=torch.from_numpy(star.rows[frames]),
        pair2world=pair2world.float(),
        losses=(),
        start_loss=misfit.loss,
        solved_loss=misfit.loss,
        final_loss=misfit.loss,
        misfit=misfit.share,
        iterations=0,
        reason=f"anchored in frame {int(clip.frame_indices[star.anchor])}, nothing is solved",
    )
    told: dict[str, Any] = {
        "anchor": int(clip.frame_indices[star.anchor]),
        "frames_without_pose": [int(clip.frame_indices[frame]) for frame in sorted(lost)],
    }
    return Aligned(torch.from_numpy(star.reader.edges), result, (), told, star.beside)
