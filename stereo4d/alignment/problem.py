"""What global alignment is asked: the pairs, what was predicted for them, and the loss of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stereo4d.errors import AlignmentError, GraphError, ShapeError
from stereo4d.geometry.camera import pinhole, pixel_grid
from stereo4d.geometry.rigid import transform_points
from stereo4d.types import PairPrediction

PAIR_SCALE = 0.5
"""The geometric mean of all pair scales: fixes the unit of the aligned world, as in DUSt3R."""
_EDGES_AT_ONCE = 16


@dataclass(frozen=True)
class Cameras:
    """The unknowns of an alignment besides depth."""

    cam2world: Tensor
    """(N, 4, 4) rigid."""
    focal: Tensor
    """(N,) pixels."""
    pair2world: Tensor
    """(E, 4, 4) similarities."""

    def rescaled(self, factor: Tensor) -> Cameras:
        """The same answer in a world larger by a factor."""
        cam2world, pair2world = self.cam2world.clone(), self.pair2world.clone()
        cam2world[:, :3, 3] *= factor
        pair2world[:, :3] *= factor
        return Cameras(cam2world, self.focal, pair2world)


@dataclass(frozen=True)
class AlignmentState:
    """One answer to an alignment problem."""

    cam2world: Tensor
    """(N, 4, 4) rigid."""
    focal: Tensor
    """(N,) pixels; the principal point is (W/2, H/2)."""
    depth: Tensor
    """(N, H, W) > 0, along the optical axis, in the world's unit."""
    pair2world: Tensor
    """(E, 4, 4) similarities: from the frame and scale of a pair's prediction to the world."""

    def intrinsics(self) -> Tensor:
        """(N, 3, 3) in pixels."""
        return pinhole(self.focal, *self.depth.shape[1:])


@dataclass(frozen=True)
class AlignmentProblem:
    """E directed pairs of N frames of one size, and what a network said about them."""

    edges: Tensor
    """(E, 2) int64: frame of view 0, frame of view 1."""
    prediction: PairPrediction
    """E pairs; any floating dtype, any scale per pair."""
    num_frames: int
    shared_focal: bool = True
    """One focal for all frames (a video); False gives every frame its own."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_graph(self.edges, self.num_frames)
        _check_values(self)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.prediction.pointmap0.shape[1], self.prediction.pointmap0.shape[2]

    def incident(self, frame: int) -> tuple[Tensor, Tensor]:
        """Edges that start at a frame, and edges that end at it, as two index tensors."""
        return (self.edges[:, 0] == frame).nonzero()[:, 0], (self.edges[:, 1] == frame).nonzero()[:, 0]

    def observations(self, frame: int, stride: int = 1) -> tuple[Tensor, Tensor]:
        """All that the pairs say about the pixels of one frame.

        Args:
            frame: which.
            stride: take the pixels ``(stride // 2)::stride`` of each row and column.

        Returns:
            (K, P, 3) points, each row in the frame and scale of its pair, and (K, P) weights ln(confidence): first the
            pairs that start at the frame, then those that end at it (``incident``). P runs over pixels, row by row.
        """
        starts, ends = self.incident(frame)
        grid = (slice(None), *(slice(stride // 2, None, stride),) * 2)
        told = self.prediction
        points = torch.cat([told.pointmap0[grid][starts].float(), told.pointmap1[grid][ends].float()])
        weight = torch.cat([told.confidence0[grid][starts].float(), told.confidence1[grid][ends].float()])
        # The weight of DUSt3R's code is ln C, not C as in its paper.
        return points.flatten(1, 2), weight.flatten(1).log()

    def restricted(self, pairs: Tensor) -> AlignmentProblem:
        """The problem of some of the pairs, (E',) indices; views, no copies, where all pairs are meant."""
        if len(pairs) == len(self.edges):
            return self
        told = self.prediction
        chosen = PairPrediction(
            told.pointmap0[pairs], told.confidence0[pairs], told.pointmap1[pairs], told.confidence1[pairs]
        )
        return replace(self, edges=self.edges[pairs], prediction=chosen)

    def mean_confidence(self) -> tuple[Tensor, Tensor]:
        """(E,) mean confidence of view 0 and of view 1 of every pair."""
        told = self.prediction
        return told.confidence0.float().mean((1, 2)), told.confidence1.float().mean((1, 2))


def alignment_loss(problem: AlignmentProblem, state: AlignmentState) -> float:
    """The objective of DUSt3R's global alignment (Wang et al. 2024, section 3.4), as its implementation computes it.

    ``mean_{e,p} ln C0 |chi_i - T_e X0| + mean_{e,p} ln C1 |chi_j - T_e X1|`` over all pairs e = (i, j) and pixels p,
    where chi are the world points of depth, focal and pose, and T_e is the pair's similarity.

    Args:
        problem: E pairs.
        state: the answer, in any dtype.

    Returns:
        The loss, in the unit of the state's world.
    """
    height, width = problem.image_size
    rays = pixel_grid(height, width, device=state.depth.device).to(state.depth.dtype)
    centre = torch.tensor([width / 2, height / 2], dtype=rays.dtype, device=rays.device)
    total = 0.0
    for chosen in torch.arange(len(problem.edges), device=problem.edges.device).split(_EDGES_AT_ONCE):
        told, to_world = problem.prediction, state.pair2world[chosen]
        for side, pointmap, confidence in (
            (0, told.pointmap0[chosen], told.confidence0[chosen]),
            (1, told.pointmap1[chosen], told.confidence1[chosen]),
        ):
            frames = problem.edges[chosen, side]
            depth, focal = state.depth[frames][..., None], state.focal[frames].reshape(-1, 1, 1, 1)
            camera = torch.cat([(rays - centre) * depth / focal, depth], dim=-1)
            world = transform_points(state.cam2world[frames], camera)
            distance = (world - transform_points(to_world, pointmap.to(world.dtype))).norm(dim=-1)
            total += float((confidence.to(world.dtype).log() * distance).double().sum())
    return total / (len(problem.edges) * height * width)


def normalise_scale(pair2world: Tensor) -> Tensor:
    """The factor on the world that brings the geometric mean of the pair scales to ``PAIR_SCALE``.

    Args:
        pair2world: (E, 4, 4) similarities.

    Returns:
        A scalar tensor.
    """
    log_scale = pair2world[:, 0, :3].norm(dim=-1).log()
    return torch.exp(math.log(PAIR_SCALE) - log_scale.mean())


def _check_shapes(problem: AlignmentProblem) -> None:
    told, edges = problem.prediction, problem.edges
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype != torch.int64:
        raise ShapeError(f"edges must be (E, 2) int64, got {tuple(edges.shape)} {edges.dtype}")
    expected = (len(edges), *told.confidence0.shape[1:])
    shapes = {
        "pointmap0": told.pointmap0.shape == (*expected, 3),
        "pointmap1": told.pointmap1.shape == (*expected, 3),
        "confidence0": told.confidence0.shape == expected and len(expected) == 3,
        "confidence1": told.confidence1.shape == expected,
    }
    for name, fits in shapes.items():
        if not fits:
            raise ShapeError(
                f"{name} {tuple(getattr(told, name).shape)} does not fit {len(edges)} edges of images {expected[1:]}"
            )


def _check_graph(edges: Tensor, num_frames: int) -> None:
    if num_frames < 1:
        raise GraphError(f"num_frames is {num_frames}; at least one frame is needed")
    if len(edges) == 0:
        raise GraphError("the pair graph has no edges; a single frame is paired with itself, as edge (0, 0)")
    low, high = int(edges.min()), int(edges.max())
    if low < 0 or high >= num_frames:
        raise GraphError(f"edges name frames {low} ... {high}, but the frames are 0 ... {num_frames - 1}")
    parts = components(edges, num_frames)
    if len(parts) > 1:
        largest = max(parts, key=len)
        lonely = sorted(frame for part in parts if part is not largest for frame in part)
        shown = ", ".join(map(str, lonely[:12])) + (" ..." if len(lonely) > 12 else "")
        raise GraphError(
            f"the pair graph falls into {len(parts)} parts; no chain of pairs leads from frame {largest[0]} to frames "
            f"{shown}: widen the window of the graph, or reconstruct the parts one by one"
        )


def components(edges: Tensor, num_frames: int) -> list[list[int]]:
    """Groups of frames that chains of pairs connect, each sorted; (E, 2) edges between frames 0 ... num_frames - 1."""
    group = list(range(num_frames))
    for first, second in edges.tolist():
        a, b = group[first], group[second]
        if a != b:
            group = [min(a, b) if label in (a, b) else label for label in group]
    members: dict[int, list[int]] = {}
    for frame, label in enumerate(group):
        members.setdefault(label, []).append(frame)
    return list(members.values())


def _check_values(problem: AlignmentProblem) -> None:
    told = problem.prediction
    for name, values in (("pointmap0", told.pointmap0), ("pointmap1", told.pointmap1)):
        _name_the_edge(problem, torch.isfinite(values).flatten(1).all(1), f"{name} holds NaN or infinity")
    for name, values in (("confidence0", told.confidence0), ("confidence1", told.confidence1)):
        good = (torch.isfinite(values) & (values >= 1)).flatten(1).all(1)
        _name_the_edge(problem, good, f"{name} must be finite and at least 1")


def _name_the_edge(problem: AlignmentProblem, good: Tensor, complaint: str) -> None:
    bad = (~good).nonzero()[:, 0]
    if len(bad) == 0:
        return
    pairs = ", ".join(f"{i}→{j}" for i, j in problem.edges[bad[:8]].tolist())
    more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
    raise AlignmentError(
        f"{complaint} for pairs {pairs}{more}: drop these pairs from the graph, or check weights and precision"
    )
