"""Smooth camera paths: what changes a camera's velocity costs, its velocity itself does not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.terms import FRAME_UNKNOWNS, ClipEvidence, Residuals, Term, TermState, consecutive
from stereo4d.geometry.rigid import rotation_vector, skew_matrix

WEIGHT = 0.01


@dataclass(frozen=True)
class Acceleration(Term):
    """Second differences of the path in SE(3) over three consecutive frames: turns in radians, ways as shares of the
    scene's size, both for frames that are evenly spaced in time."""

    times: Tensor
    """(N,) float64 seconds, rising."""
    weight: float = WEIGHT
    floor: float = 0.01
    """Accelerations below it count quadratically, so that a hand's tremor costs next to nothing."""

    @classmethod
    def of(cls, evidence: ClipEvidence, weight: float | None = None) -> Acceleration | None:
        """See ``Term.of``."""
        if evidence.num_frames < 3:
            return None
        return cls(evidence.times.double(), WEIGHT if weight is None else weight)

    @property
    def groups(self) -> Tensor:
        """See ``Term.groups``: three frames that follow one another."""
        return consecutive(len(self.times), 3).to(self.times.device)

    def at(self, state: TermState, chosen: Tensor) -> Residuals:
        """See ``Term.at``: a residual of rotation, and one of translation."""
        frames = self.groups[chosen]
        before, after = self._shares(frames)  # what uneven times make of the steps, (k, 1)
        rotation, centre = state.cam2world[frames, :3, :3], state.cam2world[frames, :3, 3]
        first = rotation_vector(rotation[:, 1] @ rotation[:, 0].transpose(1, 2))
        second = rotation_vector(rotation[:, 2] @ rotation[:, 1].transpose(1, 2))
        turn = after * second - before * first
        way = (after * (centre[:, 2] - centre[:, 1]) - before * (centre[:, 1] - centre[:, 0])) / state.size
        slopes = torch.zeros(len(frames), 2, 3, 3, FRAME_UNKNOWNS, dtype=turn.dtype, device=turn.device)
        left, right = (_log_slope(second), _log_slope(second, -1)), (_log_slope(first), _log_slope(first, -1))
        # log(exp(a) M exp(-b)) changes by left slope a, minus right slope b.
        slopes[:, 0, :, 0, :3] = before[..., None] * right[1]
        slopes[:, 0, :, 1, :3] = -after[..., None] * left[1] - before[..., None] * right[0]
        slopes[:, 0, :, 2, :3] = after[..., None] * left[0]
        eye = torch.eye(3, dtype=turn.dtype, device=turn.device)
        for place, share in enumerate((before, -(before + after), after)):
            slopes[:, 1, :, place, 3:6] = share[..., None] / state.size * eye
        weight = turn.new_full((len(frames), 2), self.weight)
        return Residuals(torch.stack([turn, way], 1), slopes.flatten(3), weight, self.floor)

    def _shares(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(k, 1) factors that turn steps into velocities, in steps of mean length."""
        steps = self.times[frames].diff(dim=1)
        shares = steps.mean(1, keepdim=True) / steps.clamp(min=1e-9)
        return shares[:, :1], shares[:, 1:]


def _log_slope(vector: Tensor, sign: int = 1) -> Tensor:
    """(k, 3, 3) derivative of the logarithm of a rotation by a small turn before (1) or behind (-1) it."""
    angle = vector.norm(dim=-1)[:, None, None]
    half = (angle / 2).clamp(min=1e-4)
    # 1 / a^2 - (1 + cos a) / (2 a sin a), which goes to 1 / 12.
    factor = torch.where(angle < 2e-4, 1 / 12, (1 - half / torch.tan(half)) / (2 * half).square())
    skew = skew_matrix(vector)
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye - sign * skew / 2 + factor * (skew @ skew)
