"""What the pairs of a problem say at a glance: a few pixels of each, their focals, and which joins which best."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.depth import stride_for
from stereo4d.alignment.problem import AlignmentProblem
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.pointmap import estimate_focal, weighted_median

SURVEYED_PIXELS = 1200


class Survey:
    """A grid of pixels of every pair: of both views (E, P, 3) float64 points and (E, P) confidences, zero where masked.

    ``pixels`` (P, 2) says where they are, ``ignored`` (N, P) where masks leave nothing."""

    def __init__(self, problem: AlignmentProblem, most_pixels: int) -> None:
        self.image_size = problem.image_size
        self.edges = problem.edges
        stride = stride_for(problem.image_size, most_pixels)
        rows = slice(stride // 2, None, stride)
        every = torch.arange(len(problem.edges))
        region = (rows, rows)
        points = [problem.points(side, every, region).flatten(1, 2).double() for side in (0, 1)]
        confidence = [
            (problem.confidence(side, every, region) * problem.kept(problem.edges[:, side], region)).flatten(1).double()
            for side in (0, 1)
        ]
        self.points, self.confidence = (points[0], points[1]), (confidence[0], confidence[1])
        self.pixels = pixel_grid(*problem.image_size, device=problem.edges.device)[rows, rows].flatten(0, 1).double()
        kept = problem.kept(torch.arange(problem.num_frames), (rows, rows)).flatten(1)
        self.ignored = (kept == 0).expand(problem.num_frames, len(self.pixels))


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
    stride = stride_for(problem.image_size, SURVEYED_PIXELS)
    rows = slice(stride // 2, None, stride)
    centre = ((width / 2 - stride // 2) / stride, (height / 2 - stride // 2) / stride)
    every = torch.arange(len(problem.edges))
    region = (rows, rows)
    pointmap = problem.points(0, every, region)
    confidence = problem.confidence(0, every, region) * problem.kept(problem.edges[:, 0], region)
    votes = stride * estimate_focal(pointmap, confidence, principal_point=centre)
    return votes, confidence.mean((1, 2))
