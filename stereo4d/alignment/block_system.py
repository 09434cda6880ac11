"""Linear systems of a pair graph: block-tridiagonal with a border, so that their cost follows the number of edges.

A frame's pixels tie its own unknowns to those of all pairs that see it, and nothing else. With the frames in an order
in which pairs reach no further than a *span*, and cut into stretches of that length, the unknowns of a stretch meet
those of the stretches before and after it only. What all frames share (one focal) meets everything: the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

POSE_UNKNOWNS = 6
"""Rotation (left-multiplied, radians) and translation of a camera."""
LENS_UNKNOWNS = 3
"""Log-focal, and the principal point in pixels."""
PAIR_UNKNOWNS = 7
"""Rotation (left-multiplied, radians), translation and log-scale of a pair."""


@dataclass(frozen=True)
class Layout:
    """Where every unknown stands. Indices count through the blocks one after the other, and end with the border."""

    pose: Tensor
    """(N, 6) int64."""
    lens: Tensor
    """(N, 3) int64; the same for all frames where they share a lens."""
    pair: Tensor
    """(E, 7) int64."""
    block_sizes: tuple[int, ...]
    border: int
    """Unknowns that meet all others."""

    @property
    def inner(self) -> int:
        """Number of unknowns in blocks."""
        return sum(self.block_sizes)

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.inner + self.border


def make_layout(edges: Tensor, num_frames: int, *, shared_lens: bool, together: Sequence[Tensor] = ()) -> Layout:
    """Order frames and pairs so that the blocks are small.

    Args:
        edges: (E, 2).
        num_frames: N.
        shared_lens: all frames have one lens.
        together: frames, (m,) each, that meet in one dense piece beyond what pairs bring together.
    """
    rank = frame_ranks(edges.cpu().numpy(), num_frames)
    ends = rank[edges.cpu().numpy()]
    span = max(1, int(np.abs(ends[:, 0] - ends[:, 1]).max()))
    for frames in together:
        span = max(span, int(np.ptp(rank[frames.cpu().numpy()])))
    of_frame, of_pair = rank // span, ends.min(1) // span
    blocks = int(of_frame.max()) + 1
    sizes = []
    pose = np.zeros((num_frames, POSE_UNKNOWNS), np.int64)
    lens = np.zeros((num_frames, LENS_UNKNOWNS), np.int64)
    pair = np.zeros((len(edges), PAIR_UNKNOWNS), np.int64)
    place = 0
    for block in range(blocks):
        start = place
        kinds = [(pose, of_frame), (pair, of_pair)] + ([] if shared_lens else [(lens, of_frame)])
        for table, home in kinds:
            here = np.flatnonzero(home == block)
            count = len(here) * table.shape[1]
            table[here] = place + np.arange(count).reshape(len(here), table.shape[1])
            place += count
        sizes.append(place - start)
    if shared_lens:
        lens[:] = place + np.arange(LENS_UNKNOWNS)
    pose_at, lens_at, pair_at = (torch.from_numpy(table).to(edges.device) for table in (pose, lens, pair))
    return Layout(pose_at, lens_at, pair_at, tuple(sizes), LENS_UNKNOWNS if shared_lens else 0)


def frame_ranks(edges: np.ndarray, num_frames: int) -> np.ndarray:
    """(N,) place of every frame in an order in which pairs do not reach far: as they come, or Cuthill and McKee's."""
    natural = np.arange(num_frames)
    ones = np.ones(len(edges))
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(num_frames, num_frames)).tocsr()
    ranks = np.empty_like(natural)
    ranks[reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)] = natural

    def span(rank: np.ndarray) -> int:
        """How many places apart the frames of an edge lie at most."""
        return int(np.abs(rank[edges[:, 0]] - rank[edges[:, 1]]).max())

    return natural if span(natural) <= span(ranks) else ranks


class BlockPattern:
    """Where the entries of dense pieces go in a system of a layout; worked out once, used in every step."""

    def __init__(self, layout: Layout, pieces: list[Tensor], held: Tensor) -> None:
        """Work out the places.

        Args:
            layout: of the unknowns.
            pieces: for every dense piece the (M,) unknowns that its rows and columns are; repetitions add up.
            held: (size,) bool: unknowns that must not move.
        """
        self.layout, self.held = layout, held
        device = held.device
        sizes = torch.tensor(layout.block_sizes, device=device)
        self._starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        diagonal = torch.cat([sizes.new_zeros(1), (sizes * sizes).cumsum(0)])
        below = diagonal[-1] + torch.cat([sizes.new_zeros(1), (sizes[1:] * sizes[:-1]).cumsum(0)])
        self._diagonal, self._below = diagonal.tolist(), below.tolist()
        self._border_start = int(below[-1])
        self._corner_start = self._border_start + layout.inner * layout.border
        self._length = self._corner_start + layout.border**2
        places = [self._places(rows, diagonal, below, sizes) for rows in pieces]
        self._index = torch.cat(places) if places else torch.zeros(0, dtype=torch.int64, device=device)

    def _places(self, unknowns: Tensor, diagonal: Tensor, below: Tensor, sizes: Tensor) -> Tensor:
        """(M * M,) places of a dense piece; what is stored by its mirror image, or held, goes past the end."""
        layout, blocks = self.layout, len(self.layout.block_sizes)
        block = torch.searchsorted(self._starts, unknowns, right=True) - 1
        row, column = torch.meshgrid(unknowns, unknowns, indexing="ij")
        of_row, of_column = torch.meshgrid(block, block, indexing="ij")
        safe = of_column.clamp(max=blocks - 1)
        width = sizes[safe]
        local = (row - self._starts[of_row]) * width + column - self._starts[safe]
        place = torch.full_like(row, self._length)
        inner = of_row < blocks
        same, next_ = inner & (of_row == of_column), inner & (of_row == of_column + 1)
        place = torch.where(same, diagonal[safe] + local, place)
        place = torch.where(next_, below[safe.clamp(max=max(blocks - 2, 0))] + local, place)
        of_border = (of_row == blocks) & (of_column < blocks)
        lens = row - layout.inner
        place = torch.where(of_border, self._border_start + column * layout.border + lens, place)
        corner = (of_row == blocks) & (of_column == blocks)
        at_corner = self._corner_start + lens * layout.border + column - layout.inner
        place = torch.where(corner, at_corner, place)
        held = self.held[unknowns]
        return torch.where(held[:, None] | held[None, :], self._length, place).flatten()

    def add_up(self, pieces: list[Tensor]) -> BlockSystem:
        """The system whose dense pieces these are, (M, M) each, in the order given before."""
        flat = torch.cat([piece.flatten() for piece in pieces])
        values = flat.new_zeros(self._length + 1)
        # Accumulating: a frame that is paired with itself meets the same pair twice.
        values.index_put_((self._index,), flat, accumulate=True)
        layout, sizes = self.layout, self.layout.block_sizes
        on = [values[a : a + n * n].view(n, n) for a, n in zip(self._diagonal, sizes, strict=False)]
        off = [values[a : a + n * m].view(n, m) for a, n, m in zip(self._below, sizes[1:], sizes, strict=False)]
        border = values[self._border_start : self._corner_start].view(layout.inner, layout.border)
        corner = values[self._corner_start : self._length].view(layout.border, layout.border)
        return BlockSystem(on, off, border, corner, self.held)


@dataclass(frozen=True)
class BlockSystem:
    """A symmetric matrix ``[[A, B], [B^T, C]]`` with A block-tridiagonal; held unknowns have empty rows and columns."""

    diagonal: list[Tensor]
    """Blocks on the diagonal of A."""
    below: list[Tensor]
    """Blocks below it: of the rows of the next stretch and the columns of this one."""
    border: Tensor
    """(n, m) B."""
    corner: Tensor
    """(m, m) C."""
    held: Tensor
    """(n + m,) bool."""

    def with_diagonal(self, added: Tensor) -> BlockSystem:
        """The system with (n + m,) added to its diagonal; nothing is copied."""
        sizes = [len(block) for block in self.diagonal]
        for block, part in zip(self.diagonal, added[: sum(sizes)].split(sizes), strict=True):
            block.diagonal().add_(part)
        self.corner.diagonal().add_(added[sum(sizes) :])
        return self

    def solve(self, right: Tensor, added: Tensor) -> Tensor | None:
        """Solve with something added to the diagonal; held unknowns stay zero.

        Args:
            right: (n + m,).
            added: (n + m,) > 0.

        Returns:
            (n + m,), or None where the matrix is not positive definite to working precision.
        """
        inner = len(self.border)
        lift = torch.where(self.held, 1.0, added)
        right = torch.where(self.held, 0.0, right)
        columns = torch.cat([right[:inner, None], self.border], dim=1)
        sizes = [len(block) for block in self.diagonal]
        parts, lifts = list(columns.split(sizes)), lift[:inner].split(sizes)
        factors: list[Tensor] = []
        couplings: list[Tensor] = []
        for index, block in enumerate(self.diagonal):
            matrix = block + lifts[index].diag()
            if index:
                matrix = matrix - couplings[-1] @ couplings[-1].T
                parts[index] = parts[index] - couplings[-1] @ parts[index - 1]
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if int(failed):
                return None
            factors.append(factor)
            parts[index] = torch.linalg.solve_triangular(factor, parts[index], upper=False)
            if index < len(self.below):
                # X with X factor^T = below.
                couplings.append(torch.linalg.solve_triangular(factor, self.below[index].T, upper=False).T)
        for index in reversed(range(len(factors))):
            if index + 1 < len(factors):
                parts[index] = parts[index] - couplings[index].T @ parts[index + 1]
            parts[index] = torch.linalg.solve_triangular(factors[index].T, parts[index], upper=True)
        solved = torch.cat(parts)
        return self._with_border(solved[:, 0], solved[:, 1:], right[inner:], lift[inner:])

    def _with_border(self, alone: Tensor, per_border: Tensor, right: Tensor, lift: Tensor) -> Tensor | None:
        """The whole solution from ``A^-1 right`` and ``A^-1 B``."""
        factor, failed = torch.linalg.cholesky_ex(self.corner + lift.diag() - self.border.T @ per_border)
        if int(failed):
            return None
        outer = torch.cholesky_solve((right - self.border.T @ alone)[:, None], factor)[:, 0]
        solution = torch.cat([alone - per_border @ outer, outer])
        return solution if bool(torch.isfinite(solution).all()) else None
