"""The reduced normal equations of an alignment: depths eliminated, cameras and pair similarities left.

The residual of pixel p of frame n against pair e is ``r = y - q - b`` with ``y = R_n D ray``, ``q = s_e R_e X`` and
``b = tau_e - t_n``. Every column of its Jacobian is a fixed linear function of the numbers ``m = (1, y, D, q)``, so the
normal matrix of one frame and pair follows from the 8 x 8 moments of m, and no Jacobian is ever written out. The depth
of a pixel moves r along y; its row is divided out (Schur complement), which couples all pairs that see the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.block_system import LENS_UNKNOWNS, PAIR_UNKNOWNS, POSE_UNKNOWNS
from stereo4d.alignment.term_system import Further

FRAME_UNKNOWNS = POSE_UNKNOWNS + LENS_UNKNOWNS
_COLUMNS = FRAME_UNKNOWNS + PAIR_UNKNOWNS
_MOMENTS = 8
_ONE, _Y, _DEPTH, _Q = 0, slice(1, 4), 4, slice(5, 8)


@dataclass(frozen=True)
class Seen:
    """O observations, sorted by frame, of the P pixels of n frames, at one state."""

    frame: Tensor
    """(O,) which of the n frames, rising."""
    y: Tensor
    """(n, 3, P) from the camera centre to the pixels' points, in world axes."""
    depth: Tensor
    """(n, P)."""
    rays: Tensor
    """(n, 2, P) x and y of the pixels' rays in the camera."""
    q: Tensor
    """(O, 3, P) the pairs' points turned and scaled, without their translation."""
    shift: Tensor
    """(O, 3) float64: translation of the pair minus centre of the camera."""
    weight: Tensor
    """(O, P) of the reweighted least squares."""
    known_weight: Tensor
    """(n, P) of known depths; zero where nothing is known."""
    known_depth: Tensor
    """(n, P)."""
    free: Tensor
    """(n, P) bool: depth may move both ways, so it is eliminated."""
    rotation: Tensor
    """(n, 3, 3) float64, cameras to world."""
    focal: Tensor
    """(n, 2) float64, in x and y, pixels."""
    relative: float
    """Residuals of a pair are divided by its scale to this power."""
    further: Sequence[Further | None] = ()
    """What terms add to each of the n frames; nothing, or n."""


@dataclass(frozen=True)
class FrameSystem:
    """What the pixels of one frame contribute, over its own 9 unknowns, 7 of each of its K pairs, and M of the frames
    that terms tie it to; float64."""

    matrix: Tensor
    """(9 + 7K + M, 9 + 7K + M)."""
    gradient: Tensor
    """(9 + 7K + M,)."""
    curvature: Tensor
    """(9 + 7K + M,) diagonal before the depths were eliminated; for damping."""


def frame_systems(seen: Seen) -> list[FrameSystem]:
    """The normal equations of n frames, one after the other; see the module's docstring."""
    y, depth = seen.y[seen.frame], seen.depth[seen.frame]
    residual = y - seen.q - seen.shift[..., None].to(y)
    moments = torch.cat([torch.ones_like(depth)[:, None], y, depth[:, None], seen.q], dim=1)  # (O, 8, P)
    weighted = moments * seen.weight[:, None]
    second = (weighted @ moments.transpose(1, 2)).double()
    first = (weighted @ residual.transpose(1, 2)).double()
    jacobian = jacobian_rows(seen)  # (O, 16, 3, 8)
    flat = jacobian.flatten(2)  # (O, 16, 24)
    normal = (jacobian.flatten(1, 2) @ second).view_as(flat) @ flat.transpose(1, 2)  # (O, 16, 16)
    gradient = (flat @ first.transpose(1, 2).flatten(1)[..., None])[..., 0]  # (O, 16)

    own, of_pairs, inverse, pull = depth_coupling(seen, y, residual)
    root = inverse.sqrt()
    systems = []
    counts = torch.bincount(seen.frame, minlength=len(seen.depth)).tolist()
    for n, (block, slope, coupled) in enumerate(
        zip(normal.split(counts), gradient.split(counts), of_pairs.split(counts), strict=True)
    ):
        coupling = torch.cat([own[n], coupled.flatten(0, 1)])  # (9 + 7K, P)
        matrix, vector = stack_pairs(block, slope)
        if seen.further and (further := seen.further[n]) is not None:
            matrix, vector, coupling = with_further(matrix, vector, coupling, further)
        coupling = coupling * root[n]
        eliminated = (coupling @ coupling.T).double()
        curvature = matrix.diagonal().clone()
        vector = vector - (coupling @ (root[n] * pull[n])).double()
        systems.append(FrameSystem(matrix - eliminated, vector, curvature))
    return systems


def jacobian_rows(seen: Seen) -> Tensor:
    """(O, 16, 3, 8): column a of the Jacobian of an observation is ``rows[a] @ m``.

    Columns: frame rotation (3), translation (3), log-focal, principal point (2), pair rotation (3), translation (3),
    log-scale. A pair that grows by its log-scale moves its points by q, and measures the residual with a longer rule.
    """
    rotation, focal = seen.rotation[seen.frame], seen.focal[seen.frame]
    rows = rotation.new_zeros(len(rotation), _COLUMNS, 3, _MOMENTS)
    eye = torch.eye(3, dtype=rows.dtype, device=rows.device)
    cross = cross_matrices().to(rows)
    rows[:, 0:3, :, _Y] = cross
    rows[:, 3:6, :, _ONE] = eye
    rows[:, 6, :, _Y] = -eye  # the optical axis' share of y does not depend on the focal
    rows[:, 6, :, _DEPTH] = rotation[:, :, 2]
    rows[:, 7, :, _DEPTH] = -rotation[:, :, 0] / focal[:, :1]
    rows[:, 8, :, _DEPTH] = -rotation[:, :, 1] / focal[:, 1:]
    rows[:, 9:12, :, _Q] = -cross
    rows[:, 12:15, :, _ONE] = -eye
    rows[:, 15, :, _ONE] = seen.relative * seen.shift
    rows[:, 15, :, _Y] = -seen.relative * eye
    rows[:, 15, :, _Q] = -(1 - seen.relative) * eye
    return rows


def cross_matrices() -> Tensor:
    """(3, 3, 3): entry a is the matrix of the cross product with the a-th axis."""
    symbol = torch.zeros(3, 3, 3, dtype=torch.float64)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        symbol[a, c, b], symbol[a, b, c] = 1, -1
    return symbol


def stack_pairs(normal: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """One frame's (9 + 7K)-square matrix and vector from the (K, 16, 16) and (K, 16) of its observations."""
    pairs, own = len(normal), FRAME_UNKNOWNS
    size = own + PAIR_UNKNOWNS * pairs
    matrix = normal.new_zeros(size, size)
    matrix[:own, :own] = normal[:, :own, :own].sum(0)
    matrix[:own, own:] = normal[:, :own, own:].transpose(0, 1).flatten(1)
    matrix[own:, :own] = matrix[:own, own:].T
    blocks = matrix[own:, own:].view(pairs, PAIR_UNKNOWNS, pairs, PAIR_UNKNOWNS)
    each = torch.arange(pairs, device=normal.device)
    blocks[each, :, each, :] = normal[:, own:, own:]
    return matrix, torch.cat([gradient[:, :own].sum(0), gradient[:, own:].flatten()])


def with_further(matrix: Tensor, vector: Tensor, coupling: Tensor, further: Further) -> tuple[Tensor, Tensor, Tensor]:
    """One frame's matrix, vector and coupling to its depths, with the unknowns of other frames behind its own."""
    size, own = len(matrix), FRAME_UNKNOWNS
    more = len(further.gradient) - own
    place = torch.cat([torch.arange(own), torch.arange(size, size + more)]).to(matrix.device)
    matrix = torch.nn.functional.pad(matrix, (0, more, 0, more))
    matrix[place[:, None], place] += further.matrix
    vector = torch.nn.functional.pad(vector, (0, more)).index_add(0, place, further.gradient)
    coupling = torch.nn.functional.pad(coupling, (0, 0, 0, more)).index_add(0, place, further.rows)
    return matrix, vector, coupling


def depth_coupling(seen: Seen, y: Tensor, residual: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mixed second derivatives of every pixel's log-depth, which moves r along y, and every unknown.

    Args:
        seen: n frames, O observations.
        y: (O, 3, P), of each observation's frame.
        residual: (O, 3, P).

    Returns:
        (n, 9, P) of the frame's unknowns, (O, 7, P) of the pair's, (n, P) inverse of the depth's own second derivative
        (zero where it is not free), (n, P) its first derivative.
    """
    weight, share = seen.weight, seen.relative
    y_residual = (y * residual).sum(1)
    y_z = share * y_residual + (y * seen.q).sum(1)
    # Column a of the pair rotation is -e_a x q, and y . (-e_a x q) = (y x q)_a; e_a x y of the frame's stands across y.
    of_pairs = torch.cat([torch.linalg.cross(y, seen.q, dim=1), -y, -y_z[:, None]], dim=1) * weight[:, None]
    one_hot = membership(seen.frame, len(seen.depth)).to(weight)
    total = one_hot @ weight
    squared, depth = (seen.y * seen.y).sum(1), seen.depth
    focal = seen.focal.to(depth)
    lens = [depth.square() - squared, *(-depth.square() * seen.rays[:, a] / focal[:, a, None] for a in (0, 1))]
    own = torch.cat([torch.zeros_like(seen.y), seen.y, torch.stack(lens, dim=1)], dim=1) * total[:, None]
    curvature = total * squared + seen.known_weight * depth.square()
    pull = one_hot @ (weight * y_residual) + seen.known_weight * depth * (depth - seen.known_depth)
    if seen.further:
        zero = torch.zeros_like(depth[0])
        curvature = curvature + torch.stack([zero if f is None else f.curvature for f in seen.further])
        pull = pull + torch.stack([zero if f is None else f.pull for f in seen.further])
    inverse = torch.where(seen.free & (curvature > 0), 1 / curvature.clamp(min=1e-30), 0.0)
    return own, of_pairs, inverse, pull


def membership(frame: Tensor, frames: int) -> Tensor:
    """(n, O) float32: one where an observation is of a frame. A product with it sums over a frame's observations."""
    return (torch.arange(frames, device=frame.device)[:, None] == frame[None, :]).float()
