"""Rotations: from vectors, between bundles of rays, and in between."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp


def rotations_of(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of (..., 3) rotation vectors in radians."""
    shape = vectors.shape[:-1]
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*shape, 3, 3)


def unit_rays(offsets: np.ndarray, focal: float) -> np.ndarray:
    """(..., 3) unit directions in the camera of (..., 2) pixels from the principal point."""
    rays = np.concatenate([offsets / focal, np.ones_like(offsets[..., :1])], -1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def rotation_between(rays0: np.ndarray, rays1: np.ndarray, *, rounds: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The rotation that carries most rays onto their partners (orthogonal Procrustes, reweighted).

    Args:
        rays0: (P, 3) unit.
        rays1: (P, 3) unit.
        rounds: of reweighting; moving things and near points lose their say.

    Returns:
        (3, 3) with rays1 = R rays0, and (P,) angles in radians that remain.
    """
    weight = np.ones(len(rays0))
    rotation = np.eye(3)
    for _ in range(rounds):
        left, _, right = np.linalg.svd((rays1 * weight[:, None]).T @ rays0)
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        angle = np.linalg.norm(rays1 - rays0 @ rotation.T, axis=1)
        scale = max(1e-6, 1.5 * float(np.median(angle)))
        weight = 1 / (1 + np.square(angle / scale))
    return rotation, np.linalg.norm(rays1 - rays0 @ rotation.T, axis=1)


def between(rotation: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill in rotations that are not known from those before and after.

    Args:
        rotation: (N, 3, 3).
        known: (N,) bool, at least one.

    Returns:
        (N, 3, 3): slerp between neighbours; the nearest one at the ends.
    """
    where = np.flatnonzero(known)
    if len(where) == 1:
        return np.repeat(rotation[where], len(rotation), 0)
    path = Slerp(where, Rotation.from_matrix(rotation[where]))
    return path(np.clip(np.arange(len(rotation)), where[0], where[-1])).as_matrix()
