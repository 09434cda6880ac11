"""What terms add to the linear system of an alignment: to cells, whose depths are eliminated, and to cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.problem import Cameras
from stereo4d.alignment.terms import FRAME_UNKNOWNS, Residuals, Term, TermState

_GROUPS_AT_ONCE = 32
_MOST_DEPTH_STEP = 0.2


@dataclass(frozen=True)
class Pull:
    """Where terms want depths to be, as a quadratic."""

    depth: Tensor
    """(N, P)."""
    weight: Tensor
    """(N, P) second derivative by depth; zero where no term says anything."""


@dataclass(frozen=True)
class Further:
    """What terms add to the system of one frame: over its own 9 unknowns and M of other frames; float64."""

    matrix: Tensor
    """(9 + M, 9 + M)."""
    gradient: Tensor
    """(9 + M,)."""
    rows: Tensor
    """(9 + M, P) mixed second derivatives with every cell's log-depth."""
    curvature: Tensor
    """(P,) second derivative by log-depth."""
    pull: Tensor
    """(P,) first derivative by log-depth."""


def others_of(terms: Sequence[Term], num_frames: int) -> list[Tensor]:
    """For every frame, the other frames that terms tie its cells to, (m,) int64, in the order of ``Further``."""
    found: list[list[Tensor]] = [[] for _ in range(num_frames)]
    for term in terms:
        if term.touches_depth:
            for group in term.groups:
                found[int(group[0])].append(group[1:])
    return [torch.cat(others) if others else torch.zeros(0, dtype=torch.int64) for others in found]


def camera_groups(terms: Sequence[Term]) -> list[Tensor]:
    """(F,) frames of every group of residuals that are of cameras only, in the order of ``JoinedTerms.pieces``."""
    return [group for term in terms if not term.touches_depth for group in term.groups]


class JoinedTerms:
    """All terms of a problem, on the cells of one level."""

    def __init__(
        self, terms: Sequence[Term], pixels: Tensor, grid: tuple[int, int], size: float, *, cell: float, frame: float
    ) -> None:
        """Set their scales.

        Args:
            terms: any number.
            pixels: (N, P, 2) float64 positions of the cells.
            grid: rows and columns of cells.
            size: of the scene, in the world's unit.
            cell: what a residual of one, on one cell, costs.
            frame: what a residual of one, of one frame, costs.
        """
        self._of_cells = [term for term in terms if term.touches_depth]
        self._of_cameras = [term for term in terms if not term.touches_depth]
        self._pixels, self._grid, self._size = pixels, grid, size
        self._cost = {True: cell, False: frame}

    @property
    def touch_depth(self) -> bool:
        """Whether any of them says something of depths."""
        return bool(self._of_cells)

    def loss(self, cameras: Cameras, depth: Tensor) -> float:
        """What all of them cost at a state, (N, P) depth."""
        total, state = 0.0, self._state(cameras, depth)
        for term in (*self._of_cells, *self._of_cameras):
            for chosen in _batches(term):
                said = term.norms_at(state, chosen)
                norms = said.norms()
                smooth = torch.where(norms < said.floor, (norms.square() / said.floor + said.floor) / 2, norms)
                total += self._cost[term.touches_depth] * float((said.weight * smooth).sum(dtype=torch.float64))
        return total

    def pull(self, cameras: Cameras, depth: Tensor) -> Pull | None:
        """Where they want depths to be, by a step from (N, P) depth; None where they say nothing of depths."""
        if not self._of_cells:
            return None
        curvature, slope = torch.zeros_like(depth), torch.zeros_like(depth)
        for term, frame, said in self._by_frame(self._state(cameras, depth), only_depth=True):
            assert said.by_depth is not None
            weight = self._reweighted(term, said)
            curvature[frame] += (weight * said.by_depth.square().sum(-1)).sum(0)
            slope[frame] += (weight * (said.by_depth * said.value).sum(-1)).sum(0)
        # A straight line stands for a curve here: steps stay where it is a good one.
        step = (slope / curvature.clamp(min=1e-30)).clamp(-_MOST_DEPTH_STEP, _MOST_DEPTH_STEP)
        return Pull(depth * (1 - step), curvature / depth.square())

    def frames(self, cameras: Cameras, depth: Tensor) -> list[Further | None]:
        """What they add to the system of every frame, (N, P) depth."""
        parts: list[list[Further]] = [[] for _ in depth]
        for term, frame, said in self._by_frame(self._state(cameras, depth)):
            parts[frame].append(_further(said, self._reweighted(term, said)))
        return [_side_by_side(found) if found else None for found in parts]

    def pieces(self, cameras: Cameras, depth: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(9 F, 9 F) matrix and (9 F,) gradient of every group of residuals of cameras."""
        found, state = [], self._state(cameras, depth)
        for term in self._of_cameras:
            for chosen in _batches(term):
                said = term.at(state, chosen)
                flat = said.jacobian.double().flatten(1, 2)
                weight = self._reweighted(term, said).double()[..., None].expand_as(said.value).flatten(1)
                weighted = (weight[..., None] * flat).transpose(1, 2)
                gradient = weighted @ said.value.double().flatten(1)[..., None]
                found += list(zip(weighted @ flat, gradient[..., 0], strict=True))
        return found

    def _state(self, cameras: Cameras, depth: Tensor) -> TermState:
        return TermState(cameras.cam2world, cameras.intrinsics, depth, self._pixels, self._grid, self._size)

    def _by_frame(self, state: TermState, *, only_depth: bool = False) -> Iterator[tuple[Term, int, Residuals]]:
        """The residuals of cells, frame by frame; without their Jacobian where only depths are looked at."""
        for term in self._of_cells:
            sources = term.groups[:, 0]
            for frame in sources.unique().tolist():
                chosen = (sources == frame).nonzero()[:, 0]
                yield term, frame, term.norms_at(state, chosen) if only_depth else term.at(state, chosen)

    def _reweighted(self, term: Term, said: Residuals) -> Tensor:
        """(K, R) weights of the reweighted least squares."""
        return self._cost[term.touches_depth] * said.weight / said.norms().clamp(min=said.floor)


def _further(said: Residuals, weight: Tensor) -> Further:
    """One frame's part from (K, P) weighted residuals of its cells against K groups of others."""
    assert said.by_depth is not None
    groups, own = len(weight), FRAME_UNKNOWNS
    weighted = said.jacobian * weight[..., None, None]  # (K, P, c, 9F)
    flat = said.jacobian.flatten(1, 2)
    by_group = (weighted.flatten(1, 2).transpose(1, 2) @ flat).double()  # (K, 9F, 9F)
    slope = (weighted.flatten(1, 2).transpose(1, 2) @ said.value.flatten(1)[..., None]).double()[..., 0]
    mixed = (weighted * said.by_depth[..., None]).sum(2).transpose(1, 2)  # (K, 9F, P)
    others = by_group.shape[1] - own
    size = own + groups * others
    matrix = by_group.new_zeros(size, size)
    matrix[:own, :own] = by_group[:, :own, :own].sum(0)
    matrix[:own, own:] = by_group[:, :own, own:].transpose(0, 1).flatten(1)
    matrix[own:, :own] = matrix[:own, own:].T
    blocks = matrix[own:, own:].view(groups, others, groups, others)
    each = torch.arange(groups, device=matrix.device)
    blocks[each, :, each, :] = by_group[:, own:, own:]
    return Further(
        matrix,
        torch.cat([slope[:, :own].sum(0), slope[:, own:].flatten()]),
        torch.cat([mixed[:, :own].sum(0), mixed[:, own:].flatten(0, 1)]),
        (weight * said.by_depth.square().sum(-1)).sum(0),
        (weight * (said.by_depth * said.value).sum(-1)).sum(0),
    )


def _side_by_side(parts: list[Further]) -> Further:
    """Several terms' parts of one frame: its own unknowns are shared, those of others stand one after the other."""
    if len(parts) == 1:
        return parts[0]
    own = FRAME_UNKNOWNS
    rest = torch.block_diag(*(part.matrix[own:, own:] for part in parts))
    top = torch.cat([part.matrix[:own, own:] for part in parts], dim=1)
    corner = torch.stack([part.matrix[:own, :own] for part in parts]).sum(0)

    def shared(name: str) -> Tensor:
        """One column of all parts: the shared entries summed, then each part's own."""
        values = [getattr(part, name) for part in parts]
        return torch.cat([torch.stack([value[:own] for value in values]).sum(0), *(value[own:] for value in values)])

    matrix = torch.cat([torch.cat([corner, top], dim=1), torch.cat([top.T, rest], dim=1)])
    curvature, pull = (torch.stack([getattr(part, name) for part in parts]).sum(0) for name in ("curvature", "pull"))
    return Further(matrix, shared("gradient"), shared("rows"), curvature, pull)


def _batches(term: Term) -> tuple[Tensor, ...]:
    return torch.arange(len(term.groups), device=term.groups.device).split(_GROUPS_AT_ONCE)
