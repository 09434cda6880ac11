"""MonST3R's smoothness: a prior for cameras that stand still. For comparison; ``acceleration`` does not slow a path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.terms import FRAME_UNKNOWNS, ClipEvidence, Residuals, Term, TermState, consecutive
from stereo4d.geometry.rigid import skew_matrix

WEIGHT = 0.01


@dataclass(frozen=True)
class Still(Term):
    """For consecutive frames, how far the second camera is turned and moved as seen from the first (MonST3R, Zhang et
    al. 2024, section 4.2): ``|R - I|`` in the Frobenius norm plus a weight times ``|t|``, in the world's unit."""

    num_frames: int
    weight: float = WEIGHT
    translation_weight: float = 1.0
    floor: float = 1e-4

    @classmethod
    def of(cls, evidence: ClipEvidence, weight: float | None = None) -> Still | None:
        """See ``Term.of``."""
        return cls(evidence.num_frames, WEIGHT if weight is None else weight) if evidence.num_frames > 1 else None

    @property
    def groups(self) -> Tensor:
        """See ``Term.groups``: two frames that follow one another."""
        return consecutive(self.num_frames, 2)

    def at(self, state: TermState, chosen: Tensor) -> Residuals:
        """See ``Term.at``: a residual of rotation, and one of translation."""
        frames = self.groups.to(chosen.device)[chosen]
        rotation, centre = state.cam2world[frames, :3, :3], state.cam2world[frames, :3, 3]
        to_first = rotation[:, 0].transpose(1, 2)
        way = centre[:, 1] - centre[:, 0]
        real, vector = _quaternion(to_first @ rotation[:, 1])
        moved = (to_first @ way[..., None])[..., 0]
        # |R - I| is 2 sqrt(2) |sin(angle / 2)|, and sin(angle / 2) about the axis is the quaternion's vector.
        value = torch.stack([8**0.5 * vector, self.translation_weight * moved], dim=1)
        slopes = torch.zeros(len(frames), 2, 3, 2, FRAME_UNKNOWNS, dtype=way.dtype, device=way.device)
        eye = torch.eye(3, dtype=way.dtype, device=way.device)
        turned = 2**0.5 * (real[:, None, None] * eye - skew_matrix(vector)) @ to_first
        slopes[:, 0, :, 1, :3], slopes[:, 0, :, 0, :3] = turned, -turned
        slopes[:, 1, :, 0, :3] = self.translation_weight * to_first @ skew_matrix(way)
        slopes[:, 1, :, 1, 3:6] = self.translation_weight * to_first
        slopes[:, 1, :, 0, 3:6] = -self.translation_weight * to_first
        return Residuals(value, slopes.flatten(3), way.new_full((len(frames), 2), self.weight), self.floor)


def _quaternion(rotation: Tensor) -> tuple[Tensor, Tensor]:
    """(k,) cosine of half the angle, >= 0, and (k, 3) axis times its sine, of (k, 3, 3) rotations."""
    trace = rotation.diagonal(dim1=1, dim2=2).sum(1)
    real = ((1 + trace) / 4).clamp(min=1e-12).sqrt()
    sine = torch.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        dim=1,
    )
    return real, sine / (4 * real[:, None])
