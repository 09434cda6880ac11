"""From raw network outputs to points and confidence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stereo4d.errors import UsageError

Mode = tuple[str, float, float]
NO_BOUNDS: Mode = ("exp", -math.inf, math.inf)
ABOVE_ONE: Mode = ("exp", 1.0, math.inf)


def points_from_raw(raw: Tensor, mode: Mode = NO_BOUNDS) -> Tensor:
    """Stretch raw vectors along their own direction.

    Args:
        raw: (..., 3). The direction is the vector's; its length becomes the distance by ``mode``.
        mode: ``exp`` (distance = e^r - 1), ``square`` (r squared) or ``linear``, unbounded.

    Returns:
        (..., 3) points.
    """
    kind, low, high = mode
    if not (math.isinf(low) and low < 0 and math.isinf(high) and high > 0):
        raise UsageError(f"depth_mode {mode}: bounds other than (-inf, inf) are not defined")
    if kind == "linear":
        return raw
    length = raw.norm(dim=-1, keepdim=True)
    direction = raw / length.clamp(min=1e-8)
    if kind == "exp":
        return direction * torch.expm1(length)
    if kind == "square":
        return direction * length.square()
    raise UsageError(f"depth_mode {kind!r}; known: exp, square, linear")


def confidence_from_raw(raw: Tensor, mode: Mode = ABOVE_ONE) -> Tensor:
    """Turn logits of any shape into confidences between the mode's bounds: ``exp`` or ``sigmoid``."""
    kind, low, high = mode
    if kind == "exp":
        return low + raw.exp().clamp(max=high - low)
    if kind == "sigmoid":
        return (high - low) * torch.sigmoid(raw) + low
    raise UsageError(f"conf_mode {kind!r}; known: exp, sigmoid")


def pointmap_from_raw(raw: Tensor, depth_mode: Mode, conf_mode: Mode) -> dict[str, Tensor]:
    """Split (B, 4, H, W) raw maps, xyz and confidence, into ``pointmap`` (B, H, W, 3) and ``confidence`` (B, H, W)."""
    raw = raw.movedim(1, -1)  # (B, H, W, 4)
    return {
        "pointmap": points_from_raw(raw[..., :3], depth_mode),
        "confidence": confidence_from_raw(raw[..., 3], conf_mode),
    }
