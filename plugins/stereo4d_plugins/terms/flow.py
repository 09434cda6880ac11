"""The flow term: where cameras and depth carry still pixels, optical flow must have seen them go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stereo4d.alignment.ego_flow import ego_flow_by_depth, ego_flow_slopes
from stereo4d.alignment.terms import FRAME_UNKNOWNS, ClipEvidence, FlowCells, Residuals, Term, TermState

_Seen = tuple[Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
WEIGHT = 4.0
"""Pixels of flow count this many times what they would as errors of pointmaps seen by a camera as wide as it is far:
flow between frames is good to a fraction of a pixel, predicted points to a few."""


@dataclass(frozen=True)
class FlowTerm(Term):
    """Distance in pixels between ego flow and optical flow, on cells that stand still and whose flow is valid."""

    cells: FlowCells
    side: float
    """The longer side of the image in pixels."""
    weight: float = WEIGHT
    floor: float = 0.3
    """Pixels below which distances count quadratically: the error of good optical flow."""
    fades: float = 10.0
    """How many times the floor a distance must be to count half of itself, r / (1 + r / (fades floor)): what is further
    off than flow errs is another surface, or moves, and must not outweigh cells that agree."""
    most: float = 0.1
    """Share of the longer side above which a distance counts as no more."""

    touches_depth: ClassVar[bool] = True

    @classmethod
    def of(cls, evidence: ClipEvidence, weight: float | None = None) -> FlowTerm | None:
        """See ``Term.of``."""
        if evidence.flow is None or not bool((evidence.flow.weight > 0).any()):
            return None
        return cls(evidence.flow, float(max(evidence.image_size)), WEIGHT if weight is None else weight)

    @property
    def groups(self) -> Tensor:
        """See ``Term.groups``: from a frame, to a frame."""
        return self.cells.pairs

    def at(self, state: TermState, chosen: Tensor) -> Residuals:
        """See ``Term.at``."""
        seen, value, by_depth, lost = self._values(state, chosen)
        slopes = torch.where(lost[..., None], 0.0, ego_flow_slopes(*seen)[0])
        fade = Fading(value, self.fades * self.floor)
        weight = self._weights(state, chosen)
        return Residuals(
            fade.value(), fade.slopes(slopes), weight, self.floor, fade.slopes(by_depth[..., None])[..., 0]
        )

    def norms_at(self, state: TermState, chosen: Tensor) -> Residuals:
        """See ``Term.norms_at``."""
        _, value, by_depth, _ = self._values(state, chosen)
        nothing = value.new_zeros(1).expand(*value.shape, 2 * FRAME_UNKNOWNS)
        fade, weight = Fading(value, self.fades * self.floor), self._weights(state, chosen)
        return Residuals(fade.value(), nothing, weight, self.floor, fade.slopes(by_depth[..., None])[..., 0])

    def _weights(self, state: TermState, chosen: Tensor) -> Tensor:
        return self.weight / self.side * self.cells.coarsened(state.grid).weight[chosen].to(state.depth)

    def _values(self, state: TermState, chosen: Tensor) -> tuple[_Seen, Tensor, Tensor, Tensor]:
        """Arguments of ``ego_flow``, (k, P, 2) residuals and slopes by log-depth, (k, P, 1) which of them are lost."""
        cells = self.cells.coarsened(state.grid)
        first, second = cells.pairs[chosen].unbind(1)
        depth = state.depth[first]
        lenses = (state.intrinsics[first].to(depth), state.intrinsics[second].to(depth))
        seen = (state.pixels[first].to(depth), depth, lenses, (state.cam2world[first], state.cam2world[second]))
        told, ahead, by_depth = ego_flow_by_depth(*seen)
        value = told - cells.flow[chosen].to(depth)
        length, most = value.norm(dim=-1, keepdim=True), self.most * self.side
        # Where the loss no longer changes, nothing pulls; a point behind the camera has gone as far as can be.
        lost = (length > most) | (ahead <= 0)[..., None]
        value = torch.where(lost, most / length.clamp(min=1e-12) * value, value)
        value = torch.where(lost & (length < 1e-12), most / 2**0.5, value)
        return seen, value, torch.where(lost, 0.0, by_depth), lost


class Fading:
    """Residuals shortened so that long ones count less and less, and never more than a given length."""

    def __init__(self, value: Tensor, most: float) -> None:
        """Measure them.

        Args:
            value: (..., c) residuals.
            most: what an endless one counts for; one as long as this counts half.
        """
        self._value = value
        length = value.norm(dim=-1, keepdim=True)
        self._share = 1 / (1 + length / most)
        self._along = self._share.square() / (most * length.clamp(min=1e-12))

    def value(self) -> Tensor:
        """(..., c): of the same direction."""
        return self._share * self._value

    def slopes(self, slopes: Tensor) -> Tensor:
        """(..., c, u) derivatives of these, from those of the residuals."""
        towards = (self._value[..., None] * slopes).sum(-2, keepdim=True)
        return self._share[..., None] * slopes - (self._along * self._value)[..., None] * towards
