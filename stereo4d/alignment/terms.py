"""Further terms that an alignment is judged by, beside what the pairs say: optical flow, smooth camera paths.

A term is a class found by entry point (group ``stereo4d.terms``). It says residuals and their Jacobian at a state; the
solver makes of them what it makes of the pairs: norms, reweighted least squares, depths eliminated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stereo4d import registry
from stereo4d.errors import AlignmentError, UsageError

GROUP = "stereo4d.terms"
FRAME_UNKNOWNS = 9
"""Of a frame: rotation (3, left-multiplied, radians), translation (3), log-focal, principal point (2, pixels)."""


@dataclass(frozen=True)
class FlowCells:
    """Optical flow between frames, put together in the squares of pixels that the solver's cells are."""

    pairs: Tensor
    """(K, 2) int64: from a frame, to a frame; sorted by the first."""
    flow: Tensor
    """(K, P, 2) float32 pixels: mean over the square's pixels that count."""
    weight: Tensor
    """(K, P) float32, 0 ... 1: share of the square's pixels whose flow is valid and that stand still."""
    grid: tuple[int, int]
    """Rows and columns of squares; P of them, row by row."""

    def on(self, device: torch.device) -> FlowCells:
        """The same on a device, in single precision."""
        pairs, flow, weight = self.pairs.to(device), self.flow.float().to(device), self.weight.float().to(device)
        return FlowCells(pairs, flow, weight, self.grid)

    def coarsened(self, grid: tuple[int, int]) -> FlowCells:
        """The flow of larger squares, each put together from a square of these.

        Raises:
            AlignmentError: a grid of these rows and columns is none of squares of squares.
        """
        if grid == self.grid:
            return self
        rows, columns = self.grid
        sides = [side for side in range(2, rows + 1) if (rows // side, columns // side) == tuple(grid)]
        if not sides:
            raise AlignmentError(
                f"flow was put together on {rows}x{columns} cells, which do not make {grid[0]}x{grid[1]}: give it on "
                "the finest cells of the solver"
            )
        side = sides[0]

        def total(values: Tensor) -> Tensor:
            """(K, P', c) sums over the squares that each larger square is made of."""
            image = values.unflatten(1, self.grid)[:, : grid[0] * side, : grid[1] * side]
            return image.unflatten(2, (grid[1], side)).unflatten(1, (grid[0], side)).sum((2, 4)).flatten(1, 2)

        share = self.weight[..., None]
        below = total(share)
        flow = total(share * self.flow) / below.clamp(min=1e-12)
        return FlowCells(self.pairs, flow, below[..., 0] / side**2, (grid[0], grid[1]))


@dataclass(frozen=True)
class ClipEvidence:
    """What terms can be made from."""

    num_frames: int
    times: Tensor
    """(N,) float64 seconds, rising."""
    image_size: tuple[int, int]
    """(H, W) in pixels."""
    flow: FlowCells | None = None


@dataclass(frozen=True)
class TermState:
    """A state of the solver as terms see it: N frames, P cells of each."""

    cam2world: Tensor
    """(N, 4, 4) float64."""
    intrinsics: Tensor
    """(N, 3, 3) float64, pixels, without skew."""
    depth: Tensor
    """(N, P) of the cells; its dtype is what work on cells is done in."""
    pixels: Tensor
    """(N, P, 2) float64 positions of the cells, as (u, v)."""
    grid: tuple[int, int]
    """Rows and columns of cells."""
    size: float
    """How far the scene is, in the world's unit."""


@dataclass(frozen=True)
class Residuals:
    """K groups of R residuals of c numbers, each group of F frames."""

    value: Tensor
    """(K, R, c)."""
    jacobian: Tensor
    """(K, R, c, 9 F): by the ``FRAME_UNKNOWNS`` of the group's frames, one frame after the other."""
    weight: Tensor
    """(K, R): what a norm of one counts for. One, on every cell, is as much as a pair whose points are all off by the
    distance of the scene; for residuals of cameras, as much as all pairs of a frame being so."""
    floor: float
    """Norms below it count quadratically."""
    by_depth: Tensor | None = None
    """(K, R, c) derivative by the log-depth of cell r of the group's first frame; R is P then."""

    def norms(self) -> Tensor:
        """(K, R)."""
        return self.value.norm(dim=-1)


class Term(ABC):
    """One thing that an answer is judged by."""

    touches_depth: ClassVar[bool] = False
    """Whether its residuals are of the cells of the first frame of each group."""

    @classmethod
    @abstractmethod
    def of(cls, evidence: ClipEvidence, weight: float | None = None) -> Term | None:
        """The term for a clip.

        Args:
            evidence: of the clip.
            weight: what it counts for beside the pairs; None takes the term's own.

        Returns:
            None where there is nothing that it could judge by.
        """

    @property
    @abstractmethod
    def groups(self) -> Tensor:
        """(K, F) int64: the frames of each group, sorted by the first where the term touches depth."""

    @abstractmethod
    def at(self, state: TermState, chosen: Tensor) -> Residuals:
        """Residuals and Jacobian of some groups.

        Args:
            state: where.
            chosen: (k,) indices of groups.
        """

    def norms_at(self, state: TermState, chosen: Tensor) -> Residuals:
        """The same where nobody looks at ``jacobian``; a term that can save work may leave it zero."""
        return self.at(state, chosen)


def load_terms(names: Sequence[str], evidence: ClipEvidence) -> tuple[Term, ...]:
    """Terms by name, each with its weight behind ``=`` where it is not the term's own: ``flow=2``.

    Raises:
        UsageError: there is no such term, or a weight is no number above 0.
        PluginError: a term cannot be loaded.
    """
    found = [registry.load_class(GROUP, name, Term).of(evidence, weight) for name, weight in check_terms(names)]
    return tuple(term for term in found if term is not None)


def check_terms(names: Sequence[str]) -> list[tuple[str, float | None]]:
    """Names and weights of terms; None is a term's own weight. Nothing is loaded.

    Raises:
        UsageError: there is no such term, or a weight is no number above 0.
    """
    found: list[tuple[str, float | None]] = []
    for entry in names:
        name, _, number = entry.partition("=")
        registry.check_installed(f"--terms {entry}:", GROUP, name)
        found.append((name, _weight(entry, number) if number else None))
    return found


def _weight(entry: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise UsageError(f"--terms {entry}: the weight must be a number above 0, such as flow=2")
    return weight


def consecutive(num_frames: int, length: int) -> Tensor:
    """(N - length + 1, length) int64: frames t, t + 1 ... that follow one another."""
    first = torch.arange(max(0, num_frames - length + 1))
    return first[:, None] + torch.arange(length)
