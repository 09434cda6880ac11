"""What global alignment is asked: the pairs, what was predicted for them, and the loss of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stereo4d.alignment.known import Known
from stereo4d.alignment.terms import Term
from stereo4d.errors import AlignmentError, GraphError, ShapeError
from stereo4d.geometry.camera import unproject
from stereo4d.geometry.rigid import transform_points
from stereo4d.types import PairPrediction

PAIR_SCALE = 0.5
"""The geometric mean of all pair scales: fixes the unit of the aligned world, as in DUSt3R."""
Region = tuple[slice, slice]
"""Rows and columns of an image."""
EVERYWHERE: Region = (slice(None), slice(None))
_EDGES_AT_ONCE = 16


@dataclass(frozen=True)
class Cameras:
    """The unknowns of an alignment besides depth."""

    cam2world: Tensor
    """(N, 4, 4) rigid."""
    intrinsics: Tensor
    """(N, 3, 3) pixels, without skew."""
    pair2world: Tensor
    """(E, 4, 4) similarities."""

    def rescaled(self, factor: Tensor) -> Cameras:
        """The same answer in a world larger by a factor."""
        cam2world, pair2world = self.cam2world.clone(), self.pair2world.clone()
        cam2world[:, :3, 3] *= factor
        pair2world[:, :3] *= factor
        return Cameras(cam2world, self.intrinsics, pair2world)

    def moved(self, transform: Tensor) -> Cameras:
        """The same answer in another world: (4, 4), a similarity from this world to that."""
        scale = transform[0, :3].norm()
        cam2world = transform @ self.cam2world
        cam2world[:, :3, :3] /= scale
        return Cameras(cam2world, self.intrinsics, transform @ self.pair2world)


@dataclass(frozen=True)
class AlignmentState:
    """One answer to an alignment problem."""

    cam2world: Tensor
    """(N, 4, 4) rigid."""
    intrinsics: Tensor
    """(N, 3, 3) in pixels."""
    depth: Tensor
    """(N, H, W) > 0, along the optical axis, in the world's unit."""
    pair2world: Tensor
    """(E, 4, 4) similarities: from the frame and scale of a pair's prediction to the world."""


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
    free_principal_point: bool = False
    """Whether the principal point is an unknown too, shared like the focal; else it is (W/2, H/2), or what is known."""
    known: Known = field(default_factory=Known)
    terms: tuple[Term, ...] = ()
    """What cameras are judged by beside the pairs; on the device of the edges."""
    rows: Tensor | None = None
    """(E,) int64: which entry of ``prediction`` each edge is; None where they are one for one."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_graph(self.edges, self.num_frames)
        if self.rows is None:  # a part of a problem was looked at with the whole
            _check_values(self)
            self.known.check(self.num_frames, self.image_size)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.prediction.pointmap0.shape[1], self.prediction.pointmap0.shape[2]

    def incident(self, frame: int) -> tuple[Tensor, Tensor]:
        """Edges that start at a frame, and edges that end at it, as two index tensors."""
        return (self.edges[:, 0] == frame).nonzero()[:, 0], (self.edges[:, 1] == frame).nonzero()[:, 0]

    def points(self, side: int, pairs: Tensor, region: Region = EVERYWHERE) -> Tensor:
        """(K, h, w, 3) float32 points that (K,) pairs predict for the pixels of view 0 or 1 in a region."""
        told = self.prediction.pointmap0 if side == 0 else self.prediction.pointmap1
        return told[:, *region][self.rows_of(pairs)].float()

    def confidence(self, side: int, pairs: Tensor, region: Region = EVERYWHERE) -> Tensor:
        """(K, h, w) float32 confidence of the same."""
        told = self.prediction.confidence0 if side == 0 else self.prediction.confidence1
        return told[:, *region][self.rows_of(pairs)].float()

    def rows_of(self, pairs: Tensor) -> Tensor:
        """(K,) entries of ``prediction`` that (K,) edges are."""
        return pairs if self.rows is None else self.rows[pairs]

    def observations(self, frame: int, region: Region = EVERYWHERE) -> tuple[Tensor, Tensor]:
        """All that the pairs say about the pixels of one frame.

        Args:
            frame: which.
            region: rows and columns.

        Returns:
            (K, h, w, 3) points, each in the frame and scale of its pair, and (K, h, w) weights ln(confidence): first
            the pairs that start at the frame, then those that end at it (``incident``).
        """
        told, rows = self.prediction, [self.rows_of(pairs).tolist() for pairs in self.incident(frame)]
        points, confidence = (
            torch.stack([values[row][region] for values, chosen in zip(both, rows, strict=True) for row in chosen])
            for both in ((told.pointmap0, told.pointmap1), (told.confidence0, told.confidence1))
        )
        # The weight of DUSt3R's code is ln C, not C as in its paper.
        return points.float(), confidence.float().log()

    def kept(self, frames: Tensor, region: Region = EVERYWHERE) -> Tensor:
        """What pixels of (K,) frames keep of their weight where masks are: (K, h, w), or (1, 1, 1) without any masks.

        Cameras are judged by the pixels so weighed; every pixel gets a depth all the same.
        """
        masks = self.known.masks
        if masks is None:
            return torch.ones(1, 1, 1, device=self.edges.device)
        place = torch.full((self.num_frames,), -1, device=masks.frames.device)
        place[masks.frames] = torch.arange(len(masks.frames), device=place.device)
        place = place[frames.to(place.device)]
        share = torch.where(masks.ignored[:, *region][place], masks.keeps, 1.0)
        return torch.where((place >= 0)[:, None, None], share, 1.0).to(self.edges.device)

    def restricted(self, pairs: Tensor) -> AlignmentProblem:
        """The problem of some of the pairs, (E',) indices; the predictions are shared, not copied."""
        return replace(self, edges=self.edges[pairs], rows=self.rows_of(pairs))

    def batches(self) -> tuple[Tensor, ...]:
        """All edges as index tensors of a few each, so that what is computed for each pixel of a pair stays small."""
        return torch.arange(len(self.edges), device=self.edges.device).split(_EDGES_AT_ONCE)


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
    total = 0.0
    for chosen in problem.batches():
        for side in (0, 1):
            frames = problem.edges[chosen, side]
            points, confidence = problem.points(side, chosen), problem.confidence(side, chosen)
            camera = unproject(state.depth[frames], state.intrinsics[frames])
            world = transform_points(state.cam2world[frames], camera)
            distance = (world - transform_points(state.pair2world[chosen], points.to(world.dtype))).norm(dim=-1)
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
    if edges.device != told.pointmap0.device:
        raise ShapeError(f"edges are on {edges.device}, predictions on {told.pointmap0.device}; move them together")
    pairs = len(edges) if problem.rows is None else len(told.confidence0)
    expected = (pairs, *told.confidence0.shape[1:])
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
    for side, (points, confidence) in enumerate(
        ((told.pointmap0, told.confidence0), (told.pointmap1, told.confidence1))
    ):
        # The extremes of a row are NaN if anything in it is; reading them is many times faster than looking at each.
        low, high = points.flatten(1).aminmax(dim=1)
        _name_the_edge(problem, (low.isfinite() & high.isfinite()), f"pointmap{side} holds NaN or infinity")
        low, high = confidence.flatten(1).aminmax(dim=1)
        _name_the_edge(problem, (low >= 1) & high.isfinite(), f"confidence{side} must be finite and at least 1")


def _name_the_edge(problem: AlignmentProblem, good: Tensor, complaint: str) -> None:
    bad = (~good).nonzero()[:, 0]
    if len(bad) == 0:
        return
    pairs = ", ".join(f"{i}→{j}" for i, j in problem.edges[bad[:8]].tolist())
    more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
    raise AlignmentError(
        f"{complaint} for pairs {pairs}{more}: drop these pairs from the graph, or check weights and precision"
    )
