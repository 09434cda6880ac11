"""A last look at all windows at once: their worlds as the nodes of a graph, what ties them together as its links.

Neighbours are tied by the frames they share, and windows that come back to a place by pairs that see it in both
(``loops``). A node is a similarity, from a window's world to the common one; all of them are moved together until the
links agree, by Gauss-Newton steps with damping on a sparse system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from stereo4d.geometry.rigid import invert, rotation_from_vector, rotation_vector

_UNKNOWNS = 7
_DIFFERENCE = 1e-5
_MOST_STEPS = 30
_TOLERANCE = 1e-8
_EASING = 2.0
_LEAST_BELIEF = 0.25


@dataclass(frozen=True)
class Links:
    """L measured similarities between K windows."""

    ends: Tensor
    """(L, 2) int64: first and second window."""
    transform: Tensor
    """(L, 4, 4) float64 similarities from the second window's world to the first one's."""
    weight: Tensor
    """(L,) > 0 of the squared deviation."""
    doubtful: Tensor
    """(L,) bool: links that may be plainly wrong, and lose their weight where they contradict the rest."""


@dataclass(frozen=True)
class PoseGraphResult:
    """Where the windows lie."""

    world: Tensor
    """(K, 4, 4) float64 similarities from each window's world to the common one."""
    belief: Tensor
    """(L,) 0 ... 1: what is left of each link's weight; 1 for links that are not doubtful."""
    deviation: Tensor
    """(L,) how far each link is from being met: the norm of rotation in radians, translation as a share of the size
    of what the second window sees, and logarithm of the scale."""

    @property
    def believed(self) -> Tensor:
        """(L,) bool: links that took part to the end."""
        return self.belief >= _LEAST_BELIEF


def solve_pose_graph(
    start: Tensor, sizes: Tensor, links: Links, held: Tensor, *, tolerance: float = 0.1
) -> PoseGraphResult:
    """Move all windows until their links agree.

    Doubtful links are judged by graduated non-convexity (Yang et al. 2020, Geman-McClure): they all count in full at
    first, however far the chain has drifted, and those that nothing agrees with fade out.

    Args:
        start: (K, 4, 4) float64 similarities.
        sizes: (K,) how far what each window sees is, in the window's own unit.
        links: L links that join all windows.
        held: (K, 7) bool: rotation, translation and scale of windows that must not move.
        tolerance: deviation at which a doubtful link has lost three quarters of its weight.
    """
    belief = torch.ones_like(links.weight)
    world = _descend(start, sizes, links, belief, held)
    deviation = _deviations(world, sizes, links).norm(dim=1)
    if bool(links.doubtful.any()):
        ease = max(1.0, float(deviation[links.doubtful].square().max()) / tolerance**2)
        while True:
            softened = ease * tolerance**2
            faded = (softened / (deviation.square() + softened)).square()
            belief = torch.where(links.doubtful, faded, 1.0)
            world = _descend(world, sizes, links, belief, held)
            deviation = _deviations(world, sizes, links).norm(dim=1)
            if ease <= 1:
                break
            ease = max(1.0, ease / _EASING)
    return PoseGraphResult(world, belief, deviation)


def deviations_between(first: Tensor, second: Tensor, size: Tensor) -> Tensor:
    """(L, 7) how far the second of two (L, 4, 4) similarities is from the first; (L,) ``size`` as in ``Links``."""
    eye = torch.eye(4, dtype=first.dtype).expand_as(first)
    return _deviation(eye, second, size, first)


def halfway(first: Tensor, second: Tensor, size: float) -> Tensor:
    """(4, 4) half the way from one similarity to another that is close to it."""
    sizes = first.new_tensor([size])
    return _moved(first[None], sizes, 0.5 * deviations_between(first[None], second[None], sizes))[0]


def _descend(world: Tensor, sizes: Tensor, links: Links, belief: Tensor, held: Tensor) -> Tensor:
    """Levenberg-Marquardt steps with the links' weights held."""
    weight, damping = links.weight * belief, 1e-6
    loss = _loss(_deviations(world, sizes, links), weight)
    for _ in range(_MOST_STEPS):
        matrix, gradient = _normal_equations(world, sizes, links, weight, held)
        improved = False
        while damping < 1e6 and not improved:
            diagonal = matrix.diagonal()
            step = spsolve((matrix + diags_array(damping * diagonal + 1e-12)).tocsc(), -gradient)
            there = _moved(world, sizes, torch.from_numpy(np.atleast_1d(step)).view(-1, _UNKNOWNS))
            reached = _loss(_deviations(there, sizes, links), weight)
            improved = reached < loss
            damping = max(damping / 10, 1e-12) if improved else damping * 10
        if not improved:
            return world
        gained, world, loss = 1 - reached / loss, there, reached
        if gained < _TOLERANCE:
            return world
    return world


def _loss(deviation: Tensor, weight: Tensor) -> float:
    return float((weight * deviation.square().sum(1)).sum())


def _normal_equations(
    world: Tensor, sizes: Tensor, links: Links, weight: Tensor, held: Tensor
) -> tuple[coo_array, np.ndarray]:
    """The sparse (7K, 7K) matrix and (7K,) gradient; held unknowns have a row of their own that leaves them alone."""
    residual, jacobian = _linearised(world, sizes, links)
    root = weight.sqrt()[:, None]
    left, slopes = (root * residual).numpy(), (root[..., None] * jacobian).numpy()
    free = (~held).flatten().numpy()
    columns = (links.ends[:, :, None] * _UNKNOWNS + torch.arange(_UNKNOWNS)).flatten(1).numpy()
    rows = np.arange(left.size).reshape(left.shape)
    row, column = np.broadcast_arrays(rows[:, :, None], columns[:, None, :])
    values = slopes * free[column]
    matrix = coo_array((values.ravel(), (row.ravel(), column.ravel())), shape=(left.size, held.numel())).tocsr()
    gradient = matrix.T @ left.ravel()
    return (matrix.T @ matrix + diags_array((~free).astype(float))).tocsc(), gradient


def _linearised(world: Tensor, sizes: Tensor, links: Links) -> tuple[Tensor, Tensor]:
    """(L, 7) deviations and their (L, 7, 14) derivatives by small moves of both ends, by central differences."""
    columns = []
    for end in (0, 1):
        for unknown in range(_UNKNOWNS):
            step = world.new_zeros(len(world), _UNKNOWNS)
            step[:, unknown] = _DIFFERENCE
            apart = []
            for sign in (1, -1):
                moved = _moved(world, sizes, sign * step)
                ends = [moved if end == side else world for side in (0, 1)]
                first, second = (where[links.ends[:, side]] for side, where in enumerate(ends))
                apart.append(_deviation(first, second, sizes[links.ends[:, 1]], links.transform))
            columns.append((apart[0] - apart[1]) / (2 * _DIFFERENCE))
    return _deviations(world, sizes, links), torch.stack(columns, dim=2)


def _deviations(world: Tensor, sizes: Tensor, links: Links) -> Tensor:
    """(L, 7) how far the links are from being met."""
    first, second = links.ends.unbind(1)
    return _deviation(world[first], world[second], sizes[second], links.transform)


def _deviation(first: Tensor, second: Tensor, size: Tensor, measured: Tensor) -> Tensor:
    """(L, 7): rotation, translation over size, log-scale of ``measured^-1 first^-1 second``, the identity where met."""
    left = invert(measured) @ invert(first) @ second
    scale = left[:, 0, :3].norm(dim=-1)
    turned = rotation_vector(left[:, :3, :3] / scale[:, None, None])
    return torch.cat([turned, left[:, :3, 3] / size[:, None], scale.log()[:, None]], dim=1)


def _moved(world: Tensor, sizes: Tensor, step: Tensor) -> Tensor:
    """(K, 4, 4) windows after a (K, 7) step in their own axes: turned, shifted by shares of their sizes, enlarged."""
    linear = step[:, 6].exp()[:, None, None] * rotation_from_vector(step[:, :3])
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=step.dtype).expand(len(step), 1, 4)
    move = torch.cat([torch.cat([linear, (step[:, 3:6] * sizes[:, None])[..., None]], dim=2), last], dim=1)
    return world @ move
