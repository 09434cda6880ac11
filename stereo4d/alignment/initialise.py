"""A start for the alignment: a tree of confident pairs carries poses from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.problem import Cameras
from stereo4d.alignment.survey import Survey, spanning_tree
from stereo4d.geometry.camera import pinhole, project
from stereo4d.geometry.pnp import inlier_threshold, solve_pnp
from stereo4d.geometry.rigid import invert, similarity, transform_points


def initialise(seen: Survey, *, seed: int = 0) -> Cameras:
    """Focals by votes, world points by a spanning tree, poses and pair similarities by registration to them.

    Args:
        seen: E pairs of N frames, connected.
        seed: for RANSAC.

    Returns:
        Float64 cameras in the world and unit of the answer (``Anchors.placed``).
    """
    problem = seen.problem
    anchors = Anchors(problem)
    tree = spanning_tree(problem.edges, seen.scores, problem.num_frames)
    world = _grow(seen, tree)
    intrinsics = anchors.given_lenses(pinhole(seen.focals(), *problem.image_size))
    cam2world = torch.stack([_pose(seen, world[n], intrinsics[n], n, seed) for n in range(problem.num_frames)])
    return anchors.placed(Cameras(cam2world, intrinsics, _register_pairs(seen, world)))


def _grow(seen: Survey, tree: list[int]) -> Tensor:
    """(N, P, 3) points of every frame's pixels in the frame of the tree's first pair."""
    points, confidence, edges = seen.points, seen.confidence, seen.problem.edges
    world = points[0].new_zeros(seen.problem.num_frames, *points[0].shape[1:])
    placed: set[int] = set()
    for position, edge in enumerate(tree):
        frames = edges[edge].tolist()
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


def _register_pairs(seen: Survey, world: Tensor) -> Tensor:
    """(E, 4, 4) similarities from each pair to the world, by both of its pointmaps."""
    edges = seen.problem.edges
    source = torch.cat(seen.points, dim=1)
    target = torch.cat([world[edges[:, 0]], world[edges[:, 1]]], dim=1)
    return _proper(similarity(source, target, torch.cat(seen.confidence, dim=1)))


def _pose(seen: Survey, world: Tensor, intrinsics: Tensor, frame: int, seed: int) -> Tensor:
    """(4, 4) cam2world of one frame: the registration of its own pointmap where that reprojects well, else PnP."""
    threshold = inlier_threshold(*seen.problem.image_size)
    visible = torch.where(seen.ignored[frame][:, None], torch.nan, world)
    candidates = []
    starts = (seen.problem.edges[:, 0] == frame).nonzero()[:, 0]
    if len(starts):
        best = starts[seen.confidence[0][starts].mean(1).argmax()]
        own = _proper(similarity(seen.points[0][best][None], world[None], seen.confidence[0][best][None]))[0]
        own[:3, :3] /= own[0, :3].norm()
        if _reprojection_error(own, visible, intrinsics, seen.pixels) < threshold:
            return own
        candidates.append(own)
    found = solve_pnp(
        visible.cpu().numpy(), seen.pixels.cpu().numpy(), intrinsics.cpu().numpy(), threshold=threshold, seed=seed
    )
    if found.inliers or not candidates:
        candidates.append(torch.from_numpy(found.cam2world).to(world))
    return min(candidates, key=lambda pose: _reprojection_error(pose, visible, intrinsics, seen.pixels))


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
