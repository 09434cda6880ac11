"""Robust fits of rotations and baselines to matched rays, and how far matches are from them.

Rays are (P, 3) directions with depth 1 along the optical axis; residuals are distances in normalised image coordinates.
"""

from __future__ import annotations

import cv2
import numpy as np

_HYPOTHESES = 100
_SCORED = 400  # matches that judge a hypothesis
_STEPS = 12


def rotation_residuals(rotation: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(P,) distances between where a turning camera would see the matches and where they are in view 1."""
    turned = rays0 @ rotation.T
    # A point that turns behind the camera is as far off as can be.
    depth = np.maximum(turned[:, 2], 1e-6)
    offset = turned[:, :2] / depth[:, None] - rays1[:, :2]
    return np.hypot(offset[:, 0], offset[:, 1])


def epipolar_residuals(rotation: np.ndarray, direction: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(P,) distances of matches from the epipolar geometry, to first order (Sampson)."""
    numerator, gradient = _epipolar_terms(rotation, direction, rays0, rays1)
    return np.abs(numerator) / gradient


def fit_rotation(rays0: np.ndarray, rays1: np.ndarray, threshold: float, *, seed: int = 0) -> np.ndarray:
    """The rotation (3, 3) that carries most of the rays of view 0 onto those of view 1."""
    generator = np.random.default_rng(seed)
    bearings0, bearings1 = _unit(rays0), _unit(rays1)
    pairs = generator.integers(0, len(rays0), (_HYPOTHESES, 2))
    hypotheses = np.swapaxes(_frames(bearings1, pairs), 1, 2) @ _frames(bearings0, pairs)
    hypotheses = np.concatenate([np.eye(3)[None], hypotheses])
    some = generator.permutation(len(rays0))[:_SCORED]
    gap = np.linalg.norm(bearings0[some] @ np.swapaxes(hypotheses, 1, 2) - bearings1[some], axis=2)
    rotation = hypotheses[np.minimum(gap / threshold, 1).sum(1).argmin()]
    for width in (3.0, 2.0, 1.0, 1.0, 1.0, 1.0):  # the fit may be coarse at first
        residual = np.linalg.norm(bearings0 @ rotation.T - bearings1, axis=1) / (width * threshold)
        weight = 1 / (1 + residual**2) ** 2
        rotation = _procrustes(bearings0, bearings1, weight)
    return rotation


def refine_baseline(
    rotation: np.ndarray, direction: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The rotation and unit direction of the baseline with the least robust Sampson error, from a start.

    Levenberg-Marquardt on the rotation (3 unknowns) and on the sphere of directions (2), with Geman-McClure weights.
    """
    damping = 1e-3
    cost, normal, gradient, tangent = _linearised(rotation, direction, rays0, rays1, threshold)
    for _ in range(_STEPS):
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)) + 1e-12 * np.eye(5), -gradient)
        tried_rotation = cv2.Rodrigues(step[:3])[0] @ rotation
        tried_direction = direction + tangent @ step[3:]
        tried_direction /= np.linalg.norm(tried_direction)
        tried = _linearised(tried_rotation, tried_direction, rays0, rays1, threshold)
        if tried[0] >= cost:
            damping *= 10
            continue
        gained = cost - tried[0]
        rotation, direction, damping = tried_rotation, tried_direction, damping / 5
        cost, normal, gradient, tangent = tried
        if gained < 1e-7 * cost:
            break
    return rotation, direction


def _linearised(
    rotation: np.ndarray, direction: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, threshold: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Robust cost, normal matrix (5, 5), gradient (5,), and the tangent basis (3, 2) of the unknown direction."""
    numerator, length = _epipolar_terms(rotation, direction, rays0, rays1)
    turned = rays0 @ rotation.T
    tangent = np.linalg.svd(direction[None])[2][1:].T
    # d of rays1 . (t x Rx): by the rotation vector it is (Rx) x (rays1 x t), by the direction it is (Rx) x rays1
    by_rotation = np.cross(turned, np.cross(rays1, direction))
    by_direction = np.cross(turned, rays1) @ tangent
    jacobian = np.concatenate([by_rotation, by_direction], 1) / (length * threshold)[:, None]
    residual = numerator / (length * threshold)
    cost = float((residual**2 / (1 + residual**2)).sum())
    weighted = jacobian * (1 / (1 + residual**2) ** 2)[:, None]
    return cost, weighted.T @ jacobian, weighted.T @ residual, tangent


def _epipolar_terms(
    rotation: np.ndarray, direction: np.ndarray, rays0: np.ndarray, rays1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) the epipolar constraint's value, and the length of its gradient by the four image coordinates."""
    essential = cross_matrix(direction) @ rotation
    lines1, lines0 = rays0 @ essential.T, rays1 @ essential
    length = np.sqrt((lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1))
    return (lines1 * rays1).sum(1), np.maximum(length, 1e-12)


def cross_matrix(vector: np.ndarray) -> np.ndarray:
    """The matrix M (3, 3) with ``M @ v = cross(vector, v)``."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def _frames(bearings: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(S, 3, 3) orthonormal frames, as rows, spanned by pairs of bearings."""
    first, second = bearings[pairs[:, 0]], bearings[pairs[:, 1]]
    # The sum and the difference share the error of both.
    along, across = _unit(first + second), _unit(first - second + 1e-12)
    return np.stack([along, across, np.cross(along, across)], 1)


def _procrustes(source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The rotation that carries weighted source vectors onto target vectors."""
    left, _, right = np.linalg.svd((target * weight[:, None]).T @ source)
    return (left * [1, 1, np.linalg.det(left @ right)]) @ right


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
