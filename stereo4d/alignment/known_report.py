"""How an answer, and the pairs alone, agree with what was known."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stereo4d.alignment.depth import dense_depth
from stereo4d.alignment.grid import scene_size
from stereo4d.alignment.known import KnownDepths, KnownIntrinsics, KnownPoses, KnownResidual
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.alignment.survey import Survey
from stereo4d.geometry.rigid import rotation_angle


def known_residuals(seen: Survey, cameras: Cameras, depth: Tensor, *, floor: float) -> tuple[KnownResidual, ...]:
    """One entry for every quantity that was given.

    Args:
        seen: the pairs that took part.
        cameras: the answer.
        depth: (N, H, W), likewise.
        floor: see ``best_depth``.
    """
    problem, known = seen.problem, seen.problem.known
    found: list[KnownResidual] = []
    if known.intrinsics is not None:
        found += _lenses(seen, cameras, known.intrinsics)
    if known.poses is not None:
        found += _poses(problem, cameras, known.poses)
    if known.depths is not None:
        found.append(_depths(problem, cameras, depth, known.depths, floor))
    return tuple(found)


def _lenses(seen: Survey, cameras: Cameras, known: KnownIntrinsics) -> list[KnownResidual]:
    frames = known.frames.tolist()
    given, answer = known.intrinsics.double().cpu(), cameras.intrinsics[known.frames].double().cpu()
    votes = seen.votes.cpu()
    starts = seen.problem.edges[:, 0].cpu()
    told = [votes[starts == frame].nanmedian() for frame in frames]
    focal, aside = given[:, 0, 0], (answer - given)[:, :2, 2].norm(dim=-1)
    return [
        _entry("focal", "ratio", frames, (answer[:, 0, 0] / focal - 1).abs(), (torch.stack(told) / focal - 1).abs()),
        _entry("principal point", "pixels", frames, aside, [torch.nan] * len(frames)),
    ]


def _poses(problem: AlignmentProblem, cameras: Cameras, known: KnownPoses) -> list[KnownResidual]:
    frames, size = known.frames.tolist(), scene_size(problem, cameras)
    given = known.cam2world.double().to(cameras.cam2world.device)
    turned, away = _apart(cameras.cam2world[known.frames], given, size)
    told_turned, told_away = [], []
    for position, frame in enumerate(frames):
        starts = problem.incident(frame)[0]
        told = cameras.pair2world[starts].clone()
        told[:, :3, :3] /= told[:, :1, :3].norm(dim=-1, keepdim=True)
        angles, distances = _apart(told, given[position : position + 1].expand_as(told), size)
        told_turned.append(float(angles.nanmedian()) if len(starts) else torch.nan)
        told_away.append(float(distances.nanmedian()) if len(starts) else torch.nan)
    return [
        _entry("rotation", "degrees", frames, turned, told_turned),
        _entry("position", "share of the scene's size", frames, away, told_away),
    ]


def _apart(first: Tensor, second: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """(M,) degrees and (M,) shares of a size between (M, 4, 4) rigid motions."""
    first, second = first.double(), second.double()  # some solvers answer in single precision
    angle = rotation_angle(first[:, :3, :3] @ second[:, :3, :3].transpose(1, 2))
    return angle.rad2deg(), (first[:, :3, 3] - second[:, :3, 3]).norm(dim=-1) / size


def _depths(
    problem: AlignmentProblem, cameras: Cameras, depth: Tensor, known: KnownDepths, floor: float
) -> KnownResidual:
    frames = known.frames.tolist()
    told, _ = dense_depth(problem, cameras, floor=floor, frames=frames, use_known=False)
    given = known.depth.to(depth)
    measured = (given > 0) & torch.isfinite(given)
    answers, pairs = (
        [(d[where] / g[where] - 1).abs().median() for d, g, where in zip(maps, given, measured, strict=True)]
        for maps in (depth[frames], told)
    )
    return _entry("depth", "ratio", frames, answers, pairs)


def _entry(
    quantity: str, unit: str, frames: Iterable[int], answer: Iterable[float], pairs: Iterable[float]
) -> KnownResidual:
    return KnownResidual(quantity, unit, tuple(frames), tuple(map(float, answer)), tuple(map(float, pairs)))
