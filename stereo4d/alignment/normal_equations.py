"""The reduced normal equations of an alignment: depths eliminated, cameras and pair similarities left.

The residual of pixel p of frame n against pair e is ``r = y + t_n - (q + tau_e)`` with ``y = R_n D ray`` and
``q = s_e R_e X``. Every column of its Jacobian is a fixed linear function of the numbers ``m = (1, y, g, q, z)``; g is
the derivative of y by the log-focal, and -z that of r by the pair's log-scale. So the normal matrix of one frame and
pair follows from the 13 x 13 moments of m, and no Jacobian is ever written out. The depth of a pixel moves r along y;
its row is divided out (Schur complement), which couples all pairs that see the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from stereo4d.geometry.rigid import dot

FRAME_UNKNOWNS = 6
"""Rotation (left-multiplied, radians) and translation of a camera; the focal has a column of its own."""
PAIR_UNKNOWNS = 7
"""Rotation (left-multiplied, radians), translation and log-scale of a pair."""
_MOMENTS = 13


def _levi_civita() -> Tensor:
    symbol = torch.zeros(3, 3, 3, dtype=torch.float64)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        symbol[a, b, c], symbol[a, c, b] = 1, -1
    return symbol


@cache
def jacobian_pattern() -> Tensor:
    """(14, 3, 13): column a of the Jacobian is ``pattern[a] @ m``.

    Columns: frame rotation (3), frame translation (3), log-focal, pair rotation (3), pair translation (3), log-scale.
    """
    pattern = torch.zeros(14, 3, _MOMENTS, dtype=torch.float64)
    one, y, g, q, z = 0, slice(1, 4), slice(4, 7), slice(7, 10), slice(10, 13)
    cross = _levi_civita().permute(1, 0, 2)  # cross[a, i, c] v_c = (e_a x v)_i
    eye = torch.eye(3, dtype=torch.float64)
    pattern[0:3, :, y] = cross
    pattern[3:6, :, one] = eye
    pattern[6, :, g] = eye
    pattern[7:10, :, q] = -cross
    pattern[10:13, :, one] = -eye
    pattern[13, :, z] = -eye
    return pattern


@dataclass(frozen=True)
class Unknowns:
    """Where each unknown stands in the reduced system."""

    num_frames: int
    num_pairs: int
    shared_focal: bool

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.pair_start + PAIR_UNKNOWNS * self.num_pairs

    @property
    def focal_start(self) -> int:
        """First focal; the pose of frame 0 is no unknown: it is the world."""
        return FRAME_UNKNOWNS * (self.num_frames - 1)

    @property
    def pair_start(self) -> int:
        """First unknown of the pairs."""
        return self.focal_start + (1 if self.shared_focal else self.num_frames)

    def columns(self, frame: int, pairs: Tensor) -> Tensor:
        """(7 + 7K,) indices of one frame's and K pairs' unknowns; the pose of frame 0 points past the end."""
        pose = torch.arange(FRAME_UNKNOWNS) + (FRAME_UNKNOWNS * (frame - 1) if frame else self.size)
        focal = torch.tensor([self.focal_start + (0 if self.shared_focal else frame)])
        pair = self.pair_start + PAIR_UNKNOWNS * pairs.cpu()[:, None] + torch.arange(PAIR_UNKNOWNS)
        return torch.cat([pose, focal, pair.flatten()])

    def log_scales(self) -> Tensor:
        """(E,) indices of the pairs' log-scales."""
        return self.pair_start + PAIR_UNKNOWNS * torch.arange(self.num_pairs) + PAIR_UNKNOWNS - 1


@dataclass(frozen=True)
class FrameSystem:
    """What the pixels of one frame contribute, over its own 7 unknowns and 7 of each of its K pairs."""

    matrix: Tensor
    """(7 + 7K, 7 + 7K)."""
    gradient: Tensor
    """(7 + 7K,)."""
    curvature: Tensor
    """(7 + 7K,) diagonal before the depths were eliminated; for damping."""


def frame_system(
    y: Tensor, along_axis: Tensor, q: Tensor, z: Tensor, residual: Tensor, weight: Tensor, free: Tensor
) -> FrameSystem:
    """Moments of one frame, contracted to its share of the reduced normal equations.

    Args:
        y: (P, 3), points from the camera centre, in world axes.
        along_axis: (P, 3), the share of y along the optical axis, which the focal does not move.
        q: (K, P, 3), the pairs' points turned and scaled, without their translation.
        z: (K, P, 3), what the residual loses as the pair's log-scale grows: q itself for distances in the world.
        residual: (K, P, 3).
        weight: (K, P), of the reweighted least squares.
        free: (P,) bool: depth may move both ways, so it is eliminated.
    """
    pairs = len(weight)
    g = along_axis - y
    pattern = jacobian_pattern().to(y)
    moments = torch.cat(
        [torch.ones_like(q[..., :1]), y.expand(pairs, -1, -1), g.expand(pairs, -1, -1), q, z], dim=-1
    )  # (K, P, 13)
    weighted = weight[..., None] * moments
    second = weighted.transpose(1, 2) @ moments  # (K, 13, 13)
    first = residual.transpose(1, 2) @ weighted  # (K, 3, 13)
    normal = torch.einsum("aix,biy,kxy->kab", pattern, pattern, second)
    gradient = torch.einsum("aix,kix->ka", pattern, first)
    coupling = _depth_coupling(y, g, q, z, weight)
    curvature = weight.sum(0) * dot(y, y)
    inverse = torch.where(free & (curvature > 0), 1 / curvature.clamp(min=1e-300), 0.0)
    depth_gradient = torch.einsum("kp,pi,kpi->p", weight, y, residual)

    size = 7 + PAIR_UNKNOWNS * pairs
    matrix, vector = y.new_zeros(size, size), y.new_zeros(size)
    matrix[:7, :7] = normal[:, :7, :7].sum(0)
    vector[:7] = gradient[:, :7].sum(0)
    vector[7:] = gradient[:, 7:].flatten()
    matrix[:7, 7:] = normal[:, :7, 7:].permute(1, 0, 2).flatten(1)
    matrix[7:, :7] = matrix[:7, 7:].T
    blocks = matrix[7:, 7:].view(pairs, PAIR_UNKNOWNS, pairs, PAIR_UNKNOWNS)
    blocks[torch.arange(pairs), :, torch.arange(pairs), :] = normal[:, 7:, 7:]
    diagonal = matrix.diagonal().clone()
    scaled = inverse[:, None] * coupling
    return FrameSystem(matrix - coupling.T @ scaled, vector - scaled.T @ depth_gradient, diagonal)


def _depth_coupling(y: Tensor, g: Tensor, q: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """(P, 7 + 7K) mixed second derivatives of each pixel's log-depth, which moves r along y, and every unknown."""
    weight_y = weight[..., None] * y
    # Column a of the pair rotation is -e_a x q, and y . (-e_a x q) = (y x q)_a; e_a x y of the frame's stands across y.
    of_pairs = torch.cat([torch.linalg.cross(weight_y, q), weight_y.neg(), -dot(weight_y, z)[..., None]], dim=-1)
    total = weight.sum(0)[:, None]
    of_frame = torch.cat([torch.zeros_like(y), total * y, total * dot(y, g)[:, None]], dim=-1)
    return torch.cat([of_frame, of_pairs.permute(1, 0, 2).flatten(1)], dim=-1)
