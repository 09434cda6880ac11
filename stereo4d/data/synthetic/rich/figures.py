"""Figures of ten capsules that walk, run, wave and sit down: a tree of two joints from hip or shoulder on."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.data.synthetic.rich.shapes import CAPSULE, ELLIPSOID
from stereo4d.data.synthetic.world import Draw, rotation_from_vector

PARTS = 10
# In heights of the figure; y down, the root at the hips. Per part: half length of the limb, radius, the joint nearer
# to the root, the joint after it (relative), then the share of the gait that each joint swings with, and its phase.
_HALF = (0.10, 0.07, 0.085, 0.085, 0.08, 0.08, 0.12, 0.12, 0.115, 0.115)
_RADIUS = (0.085, 0.062, 0.032, 0.032, 0.026, 0.026, 0.045, 0.045, 0.035, 0.035)
_SIDE = (0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0)
_TORSO, _HEAD, _ARMS, _HANDS, _THIGHS, _SHINS = (
    slice(0, 1),
    slice(1, 2),
    slice(2, 4),
    slice(4, 6),
    slice(6, 8),
    slice(8, 10),
)


def limbs(batch: int, count: int, draw: Draw) -> dict[str, Tensor]:
    """Fields of ``Bodies`` for F figures a world: (B, F, 10, ...), all but roots' travel."""
    shape = (batch, count, PARTS)
    height = draw.uniform(batch, count, 1, low=1.2, high=1.95)
    stout = draw.uniform(batch, count, 1, low=0.8, high=1.5)
    table = {name: torch.tensor(value, device=draw.device) for name, value in (("half", _HALF), ("radius", _RADIUS))}
    side = torch.tensor(_SIDE, device=draw.device)
    radius = (table["radius"] * height * stout).expand(shape).clone()
    radius[..., _HEAD] = table["radius"][1] * height
    length = table["half"] * height
    form = (length - radius).clamp(min=0) / radius
    kind = torch.full((PARTS,), CAPSULE, device=draw.device)
    kind[_HEAD] = ELLIPSOID
    half = radius[..., None].expand(*shape, 3).clone()
    half[..., 1, 1] *= 1.3
    pivot, placed = (torch.zeros(*shape, n, 3, device=draw.device).squeeze(-2) for n in (2, 1))
    hips, shoulders = 0.06 * side * height, (0.11 * side * height) * stout
    placed[..., _TORSO, 1] = -0.13 * height
    placed[..., _HEAD, 1] = -0.36 * height
    for part, place, rise in ((_ARMS, shoulders, -0.26), (_THIGHS, hips, 0.0)):
        lower = slice(part.start + 2, part.stop + 2)
        for piece in (part, lower):
            pivot[..., piece, 0, 0] = place[..., piece]
            pivot[..., piece, 0, 1] = rise * height
        pivot[..., lower, 1, 1] = 2 * length[..., part] * 0.95
        for piece in (part, lower):
            placed[..., piece, 1] = length[..., piece] * 0.9
    hinge = torch.zeros(*shape, 2, 3, device=draw.device)
    hinge[..., 0] = 1
    return {
        "shape": kind.expand(shape),
        "form": form,
        "half": half,
        "turned": torch.eye(3, device=draw.device).expand(*shape, 3, 3),
        "placed": placed,
        "pivot": pivot,
        "hinge": hinge,
        "bend": _gait(shape, side, draw),
        "stretch": torch.zeros(*shape, 3, 3, device=draw.device),
        "rate": draw.uniform(batch, count, 1, low=0.6, high=3.0).expand(shape),
        "phase": draw.uniform(batch, count, 1, high=2 * torch.pi).expand(shape),
        "hip": (2 * length[..., 6] + 2 * length[..., 8]) * 0.95,
        "walks": (draw.uniform(batch, count) < 0.65).float(),
    }


def _gait(shape: tuple[int, ...], side: Tensor, draw: Draw) -> Tensor:
    """(B, F, 10, 2, 3) rest, swing and phase of each joint: legs against each other, arms against legs."""
    bend = torch.zeros(*shape, 2, 3, device=draw.device)
    lead, stride = (torch.pi / 2) * side, draw.uniform(*shape[:2], 1, low=0.25, high=0.65)
    wave = draw.uniform(*shape[:2], 2, low=-0.5, high=2.6).clamp(min=0)  # arms raised while the figure moves them
    for part in (_ARMS, _HANDS):
        bend[..., part, 0, 0] = wave
        bend[..., part, 0, 1] = stride * draw.uniform(*shape[:2], 1, low=0.5, high=1.5)
        bend[..., part, 0, 2] = lead[part] + torch.pi
    bend[..., _HANDS, 1, 0] = draw.uniform(*shape[:2], 2, low=0.1, high=1.3)
    bend[..., _HANDS, 1, 1] = 0.3
    for part in (_THIGHS, _SHINS):
        bend[..., part, 0, 1] = stride
        bend[..., part, 0, 2] = lead[part]
    bend[..., _SHINS, 1, 0] = -stride
    bend[..., _SHINS, 1, 1] = stride
    bend[..., _SHINS, 1, 2] = lead[_SHINS] - torch.pi / 2
    return bend


def heading(angle: Tensor) -> Tensor:
    """(..., 3, 3) rotations about the vertical."""
    zero = torch.zeros_like(angle)
    return rotation_from_vector(torch.stack([zero, angle, zero], -1))
