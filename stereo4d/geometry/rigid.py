"""Rigid motions and similarities as 4x4 matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def invert(transform: Tensor) -> Tensor:
    """Inverse of rigid motions or similarities (..., 4, 4), exact in structure."""
    linear = transform[..., :3, :3]
    # A similarity s*R has inverse R^T/s = (s*R)^T / s^2, and s^2 is the squared norm of any row.
    squared_scale = linear[..., 0, :].square().sum(-1)[..., None, None]
    inverse_linear = linear.transpose(-1, -2) / squared_scale
    inverse = torch.zeros_like(transform)
    inverse[..., :3, :3] = inverse_linear
    inverse[..., :3, 3] = -(inverse_linear @ transform[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def transform_points(transform: Tensor, points: Tensor) -> Tensor:
    """Apply (B, 4, 4) transforms to (B, ..., 3) points of the same batch."""
    flat = points.reshape(points.shape[0], -1, 3)
    moved = flat @ transform[:, :3, :3].transpose(-1, -2) + transform[:, None, :3, 3]
    return moved.reshape(points.shape)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """(...) scalar products of (..., 3) vectors."""
    # A sum over an axis of three is five times slower on a CPU than the product with a vector of ones.
    product = first * second
    return product @ product.new_ones(3)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Angle of (..., 3, 3) rotations in radians, in [0, pi], accurate near zero too."""
    # The chordal form keeps precision near the identity, where arccos of the trace loses it.
    chord = (rotation - torch.eye(3, dtype=rotation.dtype, device=rotation.device)).flatten(-2).norm(dim=-1)
    return 2 * torch.asin((chord / 8**0.5).clamp(max=1))


def similarity(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted least-squares similarity that carries source points onto target points (Umeyama 1991).

    Args:
        source: (B, P, 3).
        target: (B, P, 3).
        weight: (B, P), >= 0.

    Returns:
        (B, 4, 4): scale times rotation, and translation, with ``target = s R source + t``.
    """
    dtype = source.dtype
    source, target, weight = source.double(), target.double(), weight.double()
    weight = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-12))[..., None]
    # All sums over points at once; double precision bears the difference of second moments and products of means.
    weighted = weight * source
    source_mean, target_mean = weighted.sum(-2), (weight.transpose(-1, -2) @ target)[..., 0, :]
    covariance = target.transpose(-1, -2) @ weighted - target_mean[..., :, None] * source_mean[..., None, :]
    variance = ((weighted * source).sum((-1, -2)) - source_mean.square().sum(-1)).clamp(min=1e-20)
    left, singular, right = torch.linalg.svd(covariance)
    sign = torch.ones_like(singular)
    sign[..., 2] = torch.sign(torch.linalg.det(left @ right))
    rotation = (left * sign[..., None, :]) @ right
    scale = (singular * sign).sum(-1) / variance
    linear = scale[..., None, None] * rotation
    transform = torch.zeros(*source.shape[:-2], 4, 4, dtype=torch.float64, device=source.device)
    transform[..., :3, :3] = linear
    transform[..., :3, 3] = target_mean - (linear @ source_mean[..., None])[..., 0]
    transform[..., 3, 3] = 1
    return transform.to(dtype)


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of axis times angle in radians (..., 3), by Rodrigues' formula; exact at zero."""
    squared = vector.square().sum(-1)[..., None, None]
    small = squared < 1e-8
    # The root is taken of a safe value, so that its derivative at zero is no infinity.
    safe = torch.where(small, 1.0, squared).sqrt()
    # Both quotients have finite limits at zero: 1 - a^2/6 and 1/2 - a^2/24.
    first = torch.where(small, 1 - squared / 6, torch.sin(safe) / safe)
    second = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(safe)) / safe.square())
    skew = skew_matrix(vector)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * skew + second * (skew @ skew)


def skew_matrix(vector: Tensor) -> Tensor:
    """(..., 3, 3) matrices M with ``M @ v = cross(vector, v)``, from (..., 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle in radians (..., 3) of rotations (..., 3, 3); the inverse of ``rotation_from_vector``.

    Accurate near zero; at half a turn the axis' sign is arbitrary and its direction poor.
    """
    sine = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        dim=-1,
    )
    angle = rotation_angle(rotation)[..., None]
    # sine = 2 sin(angle) axis
    return torch.where(angle < 1e-6, 0.5 * sine, angle * sine / sine.norm(dim=-1, keepdim=True).clamp(min=1e-12))
