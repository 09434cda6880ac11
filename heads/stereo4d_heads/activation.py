"""From raw network outputs to points and confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.head import Output

Mode = tuple[str, float, float]
NO_BOUNDS: Mode = ("exp", -math.inf, math.inf)
ABOVE_ONE: Mode = ("exp", 1.0, math.inf)


POINTMAP_OUTPUTS = (
    Output("pointmap", (3,), frame="view 0", activation="along the raw vector, by depth_mode", shown_as="cloud"),
    Output("confidence", activation="by conf_mode; > 1 as published", shown_as="heat"),
)
"""What every pointmap head writes."""


def as_mode(value: Sequence[Any], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Mode:
    """A mode as it comes out of a config file, where infinities are strings.

    Args:
        value: (kind, lowest, highest).
        bounds: what a bound of None means.

    Raises:
        UsageError: it is not of that form.
    """
    try:
        kind, *found = value
        low, high = (float(default if bound is None else bound) for bound, default in zip(found, bounds, strict=True))
        return str(kind), low, high
    except (TypeError, ValueError) as error:
        raise UsageError(f"activation mode {value!r} is not (kind, lowest, highest), like ('exp', 1, 'inf')") from error


def check_depth_mode(mode: Mode) -> None:
    """Make sure that a mode of points is defined.

    Raises:
        UsageError: it is not.
    """
    kind, low, high = mode
    if kind not in ("exp", "square", "linear"):
        raise UsageError(f"depth_mode {kind!r}; known: exp, square, linear")
    if (low, high) != (-math.inf, math.inf):
        raise UsageError(f"depth_mode {mode}: bounds other than (-inf, inf) are not defined")


def check_conf_mode(name: str, mode: Mode) -> None:
    """Make sure that a mode of confidences is defined; ``name`` is that of the option.

    Raises:
        UsageError: it is not.
    """
    kind, low, high = mode
    if kind not in ("exp", "sigmoid"):
        raise UsageError(f"{name} {kind!r}; known: exp, sigmoid")
    if not (math.isfinite(low) and low < high) or (kind == "sigmoid" and math.isinf(high)):
        raise UsageError(f"{name} {mode}: the lowest must be finite and below the highest, which is finite for sigmoid")


def points_from_raw(raw: Tensor, mode: Mode = NO_BOUNDS) -> Tensor:
    """Stretch raw vectors along their own direction.

    Args:
        raw: (..., 3). The direction is the vector's; its length becomes the distance by ``mode``.
        mode: ``exp`` (distance = e^r - 1), ``square`` (r squared) or ``linear``, unbounded.

    Returns:
        (..., 3) points.
    """
    check_depth_mode(mode)
    kind = mode[0]
    if kind == "linear":
        return raw
    length = raw.norm(dim=-1, keepdim=True)
    direction = raw / length.clamp(min=1e-8)
    return direction * (torch.expm1(length) if kind == "exp" else length.square())


def confidence_from_raw(raw: Tensor, mode: Mode = ABOVE_ONE) -> Tensor:
    """Turn logits of any shape into confidences between the mode's bounds: ``exp`` or ``sigmoid``."""
    check_conf_mode("conf_mode", mode)
    kind, low, high = mode
    return low + raw.exp().clamp(max=high - low) if kind == "exp" else (high - low) * torch.sigmoid(raw) + low


def pointmap_from_raw(raw: Tensor, depth_mode: Mode, conf_mode: Mode) -> dict[str, Tensor]:
    """Split (B, 4, H, W) raw maps, xyz and confidence, into ``pointmap`` (B, H, W, 3) and ``confidence`` (B, H, W)."""
    raw = raw.movedim(1, -1)  # (B, H, W, 4)
    return {
        "pointmap": points_from_raw(raw[..., :3], depth_mode),
        "confidence": confidence_from_raw(raw[..., 3], conf_mode),
    }
