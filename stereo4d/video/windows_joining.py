"""From windows, each in a world of its own, to one: links between them, a last pass over all, one camera path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.alignment.known import Known
from stereo4d.alignment.loops import Loop, PairInTwoWindows, measure_loop
from stereo4d.alignment.pose_graph import Links, PoseGraphResult, solve_pose_graph
from stereo4d.alignment.problem import normalise_scale
from stereo4d.alignment.windows import Seam, find_seam, frame_shares, homes, sample_stride
from stereo4d.geometry.rigid import invert
from stereo4d.video.windows_files import SolvedWindow
from stereo4d.video.windows_reading import PairReader

_LOOP_WEIGHT = 4.0
"""Of a link by a pair that sees both windows, beside that of a seam, which carries the drift of a whole window."""
_MOST_LOOPS = 4
"""Pairs of frames that tie the same two windows."""

Moving = Callable[[range], Tensor | None]
"""Which pixels of some frames tell nothing of the cameras, (m, H, W) bool; None where nothing is known of it."""


@dataclass(frozen=True)
class LoopLink:
    """A pair of frames that ties two windows."""

    frames: tuple[int, int]
    windows: tuple[int, int]
    loop: Loop


@dataclass(frozen=True)
class Joined:
    """All windows in one world."""

    world: Tensor
    """(K, 4, 4) float64 similarities from each window's world to the common one."""
    cam2world: Tensor
    """(N, 4, 4) float64."""
    intrinsics: Tensor
    """(N, 3, 3) float64."""
    shares: Tensor
    """(K, N) float64: what each window has to say of each frame; columns add up to one."""
    seams: tuple[Seam, ...]
    """Between neighbours, as they were found."""
    loops: tuple[LoopLink, ...] = ()
    graph: PoseGraphResult | None = field(default=None)
    """None where there is a single window."""

    def report(self, solved: Sequence[SolvedWindow], frame_indices: np.ndarray) -> dict[str, Any]:
        """What the manifest says of the windows and loops; frames are named by their indices in the input."""
        entries = []
        for k, one in enumerate(solved):
            first, last = (int(frame_indices[frame]) for frame in (one.window.start, one.window.stop - 1))
            seam = None if k == 0 else _seam_report(self.seams[k - 1])
            went = {name: one.told[name] for name in ("misfit", "iterations", "reason")}
            entries.append({"frames": [first, last], "seam_to_the_one_before": seam, **went})
        believed = [] if self.graph is None else self.graph.believed[len(self.seams) :].tolist()
        kept = iter(believed)
        loops = [
            {
                "frames": [int(frame_indices[frame]) for frame in link.frames],
                "windows": list(link.windows),
                "misfit": link.loop.misfit,
                "disagreement": link.loop.disagreement,
                "believed": link.loop.holds and next(kept),
            }
            for link in self.loops
        ]
        return {"windows": entries, "loops": loops}


def join_windows(solved: Sequence[SolvedWindow], reader: PairReader, known: Known, moving: Moving) -> Joined:
    """Bring all windows into one world.

    Args:
        solved: K windows in order, neighbours sharing frames.
        reader: the clip's pairs; those that no window holds tie windows that are far apart.
        known: what is known of the clip; windows with known poses stay where these put them.
        moving: which pixels tell nothing.
    """
    windows = [one.window for one in solved]
    seams = [find_seam(*(side.see(a.window.shared_with(b.window), moving(a.window.shared_with(b.window)))
                         for side in (a, b))) for a, b in pairwise(solved)]  # fmt: skip
    loops = find_loops(solved, reader, moving)
    sizes = torch.tensor([one.size for one in solved], dtype=torch.float64)
    root, held = _held(solved, known)
    start = _along_the_chain(seams, root)
    start[held.all(1)] = torch.eye(4, dtype=torch.float64)
    graph = None
    if len(solved) > 1:
        links = _links(seams, [link for link in loops if link.loop.holds])
        graph = solve_pose_graph(start, sizes, links, held)
    world = start if graph is None else graph.world
    shares = frame_shares(windows)
    cam2world, intrinsics = _cameras(solved, world, shares)
    settle = _settled(solved, world, cam2world, known)
    world, cam2world = settle @ world, settle @ cam2world
    cam2world[:, :3, :3] /= settle[0, :3].norm()
    return Joined(world, cam2world, intrinsics, shares, tuple(seams), tuple(loops), graph)


def find_loops(solved: Sequence[SolvedWindow], reader: PairReader, moving: Moving) -> list[LoopLink]:
    """What the pairs that lie in no window say of how the windows lie to one another."""
    windows = [one.window for one in solved]
    outside = np.ones(len(reader.edges), bool)
    for window in windows:
        outside[reader.inside(window.start, window.stop)] = False
    rows: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(outside).tolist():
        low, high = sorted(reader.edges[row].tolist())
        rows.setdefault((low, high), []).append(row)
    home = homes(windows)
    by_windows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for frames in rows:
        by_windows.setdefault((home[frames[0]], home[frames[1]]), []).append(frames)
    links = []
    for ends, pairs in sorted(by_windows.items()):
        # Where there are many, some of them, spread evenly.
        spread = np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_LOOPS)).round().astype(int)
        for frames in sorted(pairs[position] for position in spread):
            links.append(_loop(solved, ends, frames, rows[frames], reader, moving))
    return links


def _loop(
    solved: Sequence[SolvedWindow],
    ends: tuple[int, int],
    frames: tuple[int, int],
    rows: list[int],
    reader: PairReader,
    moving: Moving,
) -> LoopLink:
    """One pair of frames, in all directions in which it was predicted."""
    seen = [solved[end].see(range(frame, frame + 1), moving(range(frame, frame + 1)))
            for end, frame in zip(ends, frames, strict=True)]  # fmt: skip
    shape = solved[ends[0]].dense(range(frames[0], frames[0] + 1))[0].shape[1:]
    edges, told = reader.read(rows[:2], stride=sample_stride(*shape))
    pairs = []
    for k, (first, _) in enumerate(edges.tolist()):
        points = [told.pointmap0[k].double().reshape(-1, 3), told.pointmap1[k].double().reshape(-1, 3)]
        sure = [told.confidence0[k].double().flatten(), told.confidence1[k].double().flatten()]
        way = 1 if first == frames[0] else -1
        (points0, points1), (sure0, sure1) = points[::way], sure[::way]
        pairs.append(PairInTwoWindows((points0, points1), (sure0, sure1)))
    return LoopLink(frames, ends, measure_loop(seen[0], seen[1], tuple(pairs)))


def _held(solved: Sequence[SolvedWindow], known: Known) -> tuple[int, Tensor]:
    """The window whose world is the common one, and (K, 7) bool what of each window must not move."""
    held = torch.zeros(len(solved), 7, dtype=torch.bool)
    root = 0
    if known.poses is not None:
        frames = known.poses.frames
        counts = [int(((frames >= one.window.start) & (frames < one.window.stop)).sum()) for one in solved]
        root = next((k for k, count in enumerate(counts) if count), 0)
        held[[k for k, one in enumerate(solved) if counts[k] and one.told["scale_given"]]] = True
    held[[k for k, one in enumerate(solved) if one.told["scale_given"]], 6] = True
    held[root] = True
    return root, held


def _along_the_chain(seams: Sequence[Seam], root: int) -> Tensor:
    """(K, 4, 4) windows laid onto one another from the root outwards."""
    world = torch.eye(4, dtype=torch.float64).repeat(len(seams) + 1, 1, 1)
    for k in range(root, len(seams)):
        world[k + 1] = world[k] @ seams[k].transform
    for k in reversed(range(root)):
        world[k] = world[k + 1] @ invert(seams[k].transform)
    return world


def _links(seams: Sequence[Seam], loops: Sequence[LoopLink]) -> Links:
    ends = [(k, k + 1) for k in range(len(seams))] + [link.windows for link in loops]
    transforms = [seam.transform for seam in seams] + [link.loop.transform for link in loops]
    doubtful = torch.arange(len(ends)) >= len(seams)
    weight = torch.where(doubtful, _LOOP_WEIGHT, 1.0).double()
    return Links(torch.tensor(ends), torch.stack(transforms), weight, doubtful)


def _cameras(solved: Sequence[SolvedWindow], world: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4, 4) and (N, 3, 3): the mean of what the windows say of each frame."""
    poses = torch.zeros(shares.shape[1], 4, 4, dtype=torch.float64)
    lenses = torch.zeros(shares.shape[1], 3, 3, dtype=torch.float64)
    for one, to_world, share in zip(solved, world, shares, strict=True):
        part = slice(one.window.start, one.window.stop)
        placed = to_world @ one.cam2world
        placed[:, :3, :3] /= to_world[0, :3].norm()
        poses[part] += share[part, None, None] * placed
        lenses[part] += share[part, None, None] * one.intrinsics
    left, _, right = torch.linalg.svd(poses[:, :3, :3])
    poses[:, :3, :3] = left @ right
    return poses, lenses


def _settled(solved: Sequence[SolvedWindow], world: Tensor, cam2world: Tensor, known: Known) -> Tensor:
    """(4, 4) the similarity that brings the common world into the gauge of an answer; see ``AlignmentResult``."""
    settle = torch.eye(4, dtype=torch.float64)
    if known.poses is None:
        settle = invert(cam2world[0])
    if not any(one.told["scale_given"] for one in solved):
        pairs = torch.cat([to_world @ one.pair2world for one, to_world in zip(solved, world, strict=True)])
        factor = normalise_scale(pairs)
        enlarge = torch.eye(4, dtype=torch.float64)
        enlarge[:3, :3] *= factor
        if known.poses is not None:  # about the first known camera, which stays where it is
            centre = known.poses.cam2world[0, :3, 3].double()
            enlarge[:3, 3] = (1 - factor) * centre
        settle = enlarge @ settle
    return settle


def _seam_report(seam: Seam) -> dict[str, float]:
    return {
        "points": seam.points_error,
        "centres": seam.centre_error,
        "degrees": seam.rotation_error,
    }
