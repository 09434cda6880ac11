"""A start for the alignment: a tree of confident pairs carries poses from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.agreement import contradicting, stands_out, without_extent
from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.depth import stride_for
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.errors import AlignmentError
from stereo4d.geometry.camera import pinhole, pixel_grid, project
from stereo4d.geometry.pnp import inlier_threshold, solve_pnp
from stereo4d.geometry.pointmap import estimate_focal, weighted_median
from stereo4d.geometry.rigid import invert, similarity, transform_points

_PIXELS = 1200
_TOLERATED_FOCAL = 0.05


def trusted_pairs(problem: AlignmentProblem, *, seed: int = 0) -> Tensor:
    """Pairs to align with: those that agree with the others, and those without which a frame would be alone.

    Args:
        problem: E pairs of N frames, connected.
        seed: see ``contradicting``.

    Returns:
        (E',) indices in ascending order.

    Raises:
        AlignmentError: a frame hangs on pairs whose points all lie in one place.
    """
    grid = _Grid(problem, _PIXELS // 8)
    empty = without_extent(grid.points)
    doubted = contradicting(problem.edges, grid.points, grid.confidence, problem.num_frames, seed=seed)
    votes, _ = focal_votes(problem)
    deviation = (votes / initial_focals(problem)[problem.edges[:, 0]]).log().abs()
    doubted |= stands_out(deviation, tolerated=_TOLERATED_FOCAL)
    # Confidences of doubted pairs still rank them among themselves.
    scores = edge_scores(problem) * torch.where(doubted, 1e-6, 1.0) * torch.where(empty, 1e-12, 1.0)
    tree = torch.tensor(spanning_tree(problem.edges, scores, problem.num_frames), device=problem.edges.device)
    if bool(empty[tree].any()):
        frames = ", ".join(map(str, sorted(set(problem.edges[tree[empty[tree]]].flatten().tolist()))[:12]))
        raise AlignmentError(
            f"the predictions that tie frames {frames} to the others put all points in one place: "
            "leave these frames out, or check the weights"
        )
    kept = ~(doubted | empty)
    kept[tree] = True
    return kept.nonzero()[:, 0]


def initialise(problem: AlignmentProblem, *, seed: int = 0) -> Cameras:
    """Focals by votes, world points by a spanning tree, poses and pair similarities by registration to them.

    Args:
        problem: E pairs of N frames, connected.
        seed: for RANSAC.

    Returns:
        Float64 cameras in the world and unit of the answer (``Anchors.placed``).
    """
    focal = initial_focals(problem)
    tree = spanning_tree(problem.edges, edge_scores(problem), problem.num_frames)
    grid = _Grid(problem, _PIXELS)
    world = _grow(problem, grid, tree)
    cam2world = torch.stack([_pose(grid, world, focal, frame, seed) for frame in range(problem.num_frames)])
    pair2world = _register_pairs(problem, grid, world)
    return Anchors(problem).placed(Cameras(cam2world, pinhole(focal, *problem.image_size), pair2world))


def edge_scores(problem: AlignmentProblem) -> Tensor:
    """(E,) mean confidence of view 0 times mean confidence of view 1."""
    first, second = problem.mean_confidence()
    return first * second


def spanning_tree(edges: Tensor, scores: Tensor, num_frames: int) -> list[int]:
    """The tree of highest score that joins all frames, grown from its best pair.

    Args:
        edges: (E, 2) of a connected graph.
        scores: (E,).
        num_frames: N.

    Returns:
        N - 1 edge indices, each sharing a frame with those before it; for a single frame the best of its self pairs.
    """
    ranked = sorted(zip(scores.tolist(), range(len(edges)), edges.tolist(), strict=True), key=lambda e: (-e[0], e[1]))
    if num_frames == 1:
        return [ranked[0][1]]
    joining = [entry for entry in ranked if entry[2][0] != entry[2][1]]
    placed, tree = set(joining[0][2]), [joining[0][1]]
    while len(placed) < num_frames:
        _, index, pair = next(entry for entry in joining if len(placed.intersection(entry[2])) == 1)
        placed.update(pair)
        tree.append(index)
    return tree


def initial_focals(problem: AlignmentProblem) -> Tensor:
    """(N,) focals in pixels: confidence-weighted medians of what the first view of every pair says.

    Each frame hears the pairs that start at it; with a shared focal, or where no usable pair starts at a frame, all
    pairs vote. Where nobody can tell, the focal is the longer side of the image.
    """
    votes, weight = focal_votes(problem)
    usable = torch.isfinite(votes)
    overall = weighted_median(votes[usable], weight[usable]) if usable.any() else float(max(problem.image_size))
    focals = votes.new_full((problem.num_frames,), overall, dtype=torch.float64)
    if not problem.shared_focal:
        for frame in range(problem.num_frames):
            own = usable & (problem.edges[:, 0] == frame)
            if own.any():
                focals[frame] = weighted_median(votes[own], weight[own])
    return focals


def focal_votes(problem: AlignmentProblem) -> tuple[Tensor, Tensor]:
    """(E,) focal of view 0 of every pair in pixels, NaN where it has none, and (E,) weight of the vote."""
    height, width = problem.image_size
    stride = stride_for(problem.image_size, _PIXELS)
    rows = slice(stride // 2, None, stride)
    centre = ((width / 2 - stride // 2) / stride, (height / 2 - stride // 2) / stride)
    every = torch.arange(len(problem.edges))
    pointmap, confidence = problem.points(0, every, (rows, rows)), problem.confidence(0, every, (rows, rows))
    votes = stride * estimate_focal(pointmap, confidence, principal_point=centre)
    return votes, confidence.mean((1, 2))


class _Grid:
    """The pixels that the start looks at: float64 points (E, P, 3) and confidences (E, P) of both views."""

    def __init__(self, problem: AlignmentProblem, most_pixels: int) -> None:
        self.image_size = problem.image_size
        self.edges = problem.edges
        stride = stride_for(problem.image_size, most_pixels)
        rows = slice(stride // 2, None, stride)
        every = torch.arange(len(problem.edges))
        points = [problem.points(side, every, (rows, rows)).flatten(1, 2).double() for side in (0, 1)]
        confidence = [problem.confidence(side, every, (rows, rows)).flatten(1).double() for side in (0, 1)]
        self.points, self.confidence = (points[0], points[1]), (confidence[0], confidence[1])
        self.pixels = pixel_grid(*problem.image_size)[rows, rows].flatten(0, 1).double()


def _grow(problem: AlignmentProblem, grid: _Grid, tree: list[int]) -> Tensor:
    """(N, P, 3) points of every frame's pixels in the frame of the tree's first pair."""
    points, confidence = grid.points, grid.confidence
    world = points[0].new_full((problem.num_frames, *points[0].shape[1:]), torch.nan)
    for position, edge in enumerate(tree):
        frames = problem.edges[edge].tolist()
        if position == 0:
            moved = torch.stack([points[0][edge], points[1][edge]])
        else:
            # Whichever view has its place already carries the pair there.
            side = 0 if bool(torch.isfinite(world[frames[0]]).all()) else 1
            to_world = similarity(points[side][edge][None], world[frames[side]][None], confidence[side][edge][None])
            moved = transform_points(to_world.expand(2, -1, -1), torch.stack([points[0][edge], points[1][edge]]))
        for side, frame in enumerate(frames):
            if not bool(torch.isfinite(world[frame]).all()):
                world[frame] = moved[side]
    return world


def _register_pairs(problem: AlignmentProblem, grid: _Grid, world: Tensor) -> Tensor:
    """(E, 4, 4) similarities from each pair to the world, by both of its pointmaps."""
    source = torch.cat(grid.points, dim=1)
    target = torch.cat([world[problem.edges[:, 0]], world[problem.edges[:, 1]]], dim=1)
    return _proper(similarity(source, target, torch.cat(grid.confidence, dim=1)))


def _pose(grid: _Grid, world: Tensor, focal: Tensor, frame: int, seed: int) -> Tensor:
    """(4, 4) cam2world of one frame: the registration of its own pointmap where that reprojects well, else PnP."""
    intrinsics, threshold = pinhole(focal[frame], *grid.image_size), inlier_threshold(*grid.image_size)
    candidates = []
    starts = (grid.edges[:, 0] == frame).nonzero()[:, 0]
    if len(starts):
        best = starts[grid.confidence[0][starts].mean(1).argmax()]
        own = _proper(similarity(grid.points[0][best][None], world[frame][None], grid.confidence[0][best][None]))[0]
        own[:3, :3] /= own[0, :3].norm()
        if _reprojection_error(own, world[frame], intrinsics, grid.pixels) < threshold:
            return own
        candidates.append(own)
    found = solve_pnp(
        world[frame].cpu().numpy(),
        grid.pixels.cpu().numpy(),
        intrinsics.cpu().numpy(),
        threshold=threshold,
        seed=seed,
    )
    if found.inliers or not candidates:
        candidates.append(torch.from_numpy(found.cam2world).to(world))
    return min(candidates, key=lambda pose: _reprojection_error(pose, world[frame], intrinsics, grid.pixels))


def _reprojection_error(cam2world: Tensor, points: Tensor, intrinsics: Tensor, pixels: Tensor) -> float:
    """Median distance in pixels between where points appear and where they should; points behind count as infinite."""
    seen, depth = project(transform_points(invert(cam2world[None]), points[None]), intrinsics[None])
    error = (seen[0] - pixels.to(seen)).norm(dim=-1)
    return float(torch.where(depth[0] > 0, error, torch.inf).median())


def _proper(transform: Tensor) -> Tensor:
    """Similarities with a usable scale: where registration found none (all points in one place), the scale is one."""
    scale = transform[:, 0, :3].norm(dim=-1)
    broken = ~(torch.isfinite(transform).flatten(1).all(1) & (scale > 1e-9))
    identity = torch.eye(4, dtype=transform.dtype, device=transform.device)
    return torch.where(broken[:, None, None], identity, transform)
