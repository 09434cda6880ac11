"""A start for the alignment: a tree of confident pairs carries poses from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.alignment.survey import SURVEYED_PIXELS, Survey, edge_scores, initial_focals, spanning_tree
from stereo4d.geometry.camera import pinhole, project
from stereo4d.geometry.pnp import inlier_threshold, solve_pnp
from stereo4d.geometry.rigid import invert, similarity, transform_points


def initialise(problem: AlignmentProblem, *, seed: int = 0) -> Cameras:
    """Focals by votes, world points by a spanning tree, poses and pair similarities by registration to them.

    Args:
        problem: E pairs of N frames, connected.
        seed: for RANSAC.

    Returns:
        Float64 cameras in the world and unit of the answer (``Anchors.placed``).
    """
    anchors = Anchors(problem)
    tree = spanning_tree(problem.edges, edge_scores(problem), problem.num_frames)
    survey = Survey(problem, SURVEYED_PIXELS)
    world = _grow(problem, survey, tree)
    intrinsics = anchors.given_lenses(pinhole(initial_focals(problem), *problem.image_size))
    cam2world = torch.stack([_pose(survey, world[n], intrinsics[n], n, seed) for n in range(problem.num_frames)])
    pair2world = _register_pairs(problem, survey, world)
    return anchors.placed(Cameras(cam2world, intrinsics, pair2world))


def _grow(problem: AlignmentProblem, survey: Survey, tree: list[int]) -> Tensor:
    """(N, P, 3) points of every frame's pixels in the frame of the tree's first pair."""
    points, confidence = survey.points, survey.confidence
    world = points[0].new_zeros(problem.num_frames, *points[0].shape[1:])
    placed: set[int] = set()
    for position, edge in enumerate(tree):
        frames = problem.edges[edge].tolist()
        if position == 0:
            moved = torch.stack([points[0][edge], points[1][edge]])
        else:
            # Whichever view has its place already carries the pair there.
            side = 0 if frames[0] in placed else 1
            to_world = similarity(points[side][edge][None], world[frames[side]][None], confidence[side][edge][None])
            moved = transform_points(to_world.expand(2, -1, -1), torch.stack([points[0][edge], points[1][edge]]))
        for side, frame in enumerate(frames):
            if frame not in placed:
                world[frame] = moved[side]
                placed.add(frame)
    return world


def _register_pairs(problem: AlignmentProblem, survey: Survey, world: Tensor) -> Tensor:
    """(E, 4, 4) similarities from each pair to the world, by both of its pointmaps."""
    source = torch.cat(survey.points, dim=1)
    target = torch.cat([world[problem.edges[:, 0]], world[problem.edges[:, 1]]], dim=1)
    return _proper(similarity(source, target, torch.cat(survey.confidence, dim=1)))


def _pose(survey: Survey, world: Tensor, intrinsics: Tensor, frame: int, seed: int) -> Tensor:
    """(4, 4) cam2world of one frame: the registration of its own pointmap where that reprojects well, else PnP."""
    threshold = inlier_threshold(*survey.image_size)
    seen = torch.where(survey.ignored[frame][:, None], torch.nan, world)
    candidates = []
    starts = (survey.edges[:, 0] == frame).nonzero()[:, 0]
    if len(starts):
        best = starts[survey.confidence[0][starts].mean(1).argmax()]
        own = _proper(similarity(survey.points[0][best][None], world[None], survey.confidence[0][best][None]))[0]
        own[:3, :3] /= own[0, :3].norm()
        if _reprojection_error(own, seen, intrinsics, survey.pixels) < threshold:
            return own
        candidates.append(own)
    found = solve_pnp(
        seen.cpu().numpy(), survey.pixels.cpu().numpy(), intrinsics.cpu().numpy(), threshold=threshold, seed=seed
    )
    if found.inliers or not candidates:
        candidates.append(torch.from_numpy(found.cam2world).to(world))
    return min(candidates, key=lambda pose: _reprojection_error(pose, seen, intrinsics, survey.pixels))


def _reprojection_error(cam2world: Tensor, points: Tensor, intrinsics: Tensor, pixels: Tensor) -> float:
    """Median distance in pixels between where points appear and where they should; points behind count as infinite.

    Points that are NaN do not count; where all are, the error is infinite."""
    seen, depth = project(transform_points(invert(cam2world[None]), points[None]), intrinsics[None])
    error = (seen[0] - pixels.to(seen)).norm(dim=-1)
    error = torch.where(depth[0] <= 0, torch.inf, error).nanmedian()
    return float(error) if not bool(error.isnan()) else float("inf")


def _proper(transform: Tensor) -> Tensor:
    """Similarities with a usable scale: where registration found none (all points in one place), the scale is one."""
    scale = transform[:, 0, :3].norm(dim=-1)
    broken = ~(torch.isfinite(transform).flatten(1).all(1) & (scale > 1e-9))
    identity = torch.eye(4, dtype=transform.dtype, device=transform.device)
    return torch.where(broken[:, None, None], identity, transform)
