"""What the pairs of a problem say at a glance: a grid of pixels of each, their focals, how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stereo4d.alignment.depth import stride_for
from stereo4d.alignment.problem import AlignmentProblem
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.pointmap import estimate_focal, weighted_median

_PIXELS = 1200


@dataclass(frozen=True)
class Survey:
    """P pixels of each of E pairs of N frames."""

    problem: AlignmentProblem
    pixels: Tensor
    """(P, 2) float64, as (u, v)."""
    points: tuple[Tensor, Tensor]
    """Of view 0 and of view 1, (E, P, 3) float64, in the frame and scale of the pair."""
    confidence: tuple[Tensor, Tensor]
    """Likewise (E, P) float64; zero where masks ignore the pixel."""
    ignored: Tensor
    """(N, P) bool: masks leave nothing of the pixel."""
    votes: Tensor
    """(E,) focal of view 0 in pixels, by its pointmap; NaN where it has none."""

    @property
    def scores(self) -> Tensor:
        """(E,) mean confidence of view 0 times mean confidence of view 1."""
        return self.confidence[0].mean(1) * self.confidence[1].mean(1)

    def weight(self) -> float:
        """What a distance of one everywhere would cost: the means of ln(confidence) over both views, added."""
        # Masked pixels stand at zero confidence here, and have none to give.
        seen = [told[told > 0].clamp(min=1).log() for told in self.confidence]
        return max(sum(float(told.mean()) for told in seen if len(told)), 1e-9)

    def of(self, pairs: Tensor) -> Survey:
        """The survey of some of the pairs, (E',) indices."""
        return replace(
            self,
            problem=self.problem.restricted(pairs),
            points=(self.points[0][pairs], self.points[1][pairs]),
            confidence=(self.confidence[0][pairs], self.confidence[1][pairs]),
            votes=self.votes[pairs],
        )

    def focals(self) -> Tensor:
        """(N,) float64 focals in pixels: confidence-weighted medians of the pairs' votes.

        Each frame hears the pairs that start at it; with a shared focal, or where no usable pair starts at a frame, all
        pairs vote. Where nobody can tell, the focal is the longer side of the image.
        """
        problem, weight = self.problem, self.confidence[0].mean(1)
        usable = torch.isfinite(self.votes) & (weight > 0)
        overall = float(max(problem.image_size))
        if usable.any():
            overall = weighted_median(self.votes[usable], weight[usable])
        focals = self.votes.new_full((problem.num_frames,), overall)
        if not problem.shared_focal:
            for frame in range(problem.num_frames):
                own = usable & (problem.edges[:, 0] == frame)
                if own.any():
                    focals[frame] = weighted_median(self.votes[own], weight[own])
        return focals


def survey(problem: AlignmentProblem) -> Survey:
    """Look at a grid of pixels of all pairs of a problem."""
    height, width = problem.image_size
    stride = stride_for(problem.image_size, _PIXELS)
    region = (slice(stride // 2, None, stride),) * 2
    every = torch.arange(len(problem.edges))
    maps = [problem.points(side, every, region) for side in (0, 1)]
    trust = [problem.confidence(side, every, region) * problem.kept(problem.edges[:, side], region) for side in (0, 1)]
    centre = ((width / 2 - stride // 2) / stride, (height / 2 - stride // 2) / stride)
    votes = stride * estimate_focal(maps[0], trust[0], principal_point=centre)
    pixels = pixel_grid(height, width, device=maps[0].device)[region].flatten(0, 1).double()
    kept = problem.kept(torch.arange(problem.num_frames), region).flatten(1)
    return Survey(
        problem,
        pixels,
        (maps[0].flatten(1, 2).double(), maps[1].flatten(1, 2).double()),
        (trust[0].flatten(1).double(), trust[1].flatten(1).double()),
        (kept == 0).expand(problem.num_frames, len(pixels)),
        votes.double(),
    )


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
