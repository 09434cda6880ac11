"""Unit shapes: where rays enter them and how they face there. Coordinates x, y, z come as separate tensors.

Each has one number of its own, ``form``: the frustum's top radius (its bottom has 1, at y = 1, below), the capsule's
half length without caps, the torus' small radius (the large one is 1 - form), the rounded box' radius of edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = ("ellipsoid", "box", "frustum", "capsule", "torus", "rounded box")
ELLIPSOID, BOX, FRUSTUM, CAPSULE, TORUS, ROUNDED = range(6)
FAR = 1e9
STEPS = 28
Vector = tuple[Tensor, Tensor, Tensor]


def extents(shape: Tensor, form: Tensor) -> Tensor:
    """(..., 3) half sides of the box around unit shapes."""
    one = torch.ones_like(form)
    tall = torch.where(shape == CAPSULE, 1 + form, torch.where(shape == TORUS, form, one))
    return torch.stack([one, tall, one], -1)


def enter(shape: int, origin: Vector, direction: Vector, form: Tensor) -> Tensor:
    """Where rays from outside enter a unit shape, in lengths of their direction; ``FAR`` where they miss it."""
    if shape == ELLIPSOID:
        return _ball(origin, direction)
    if shape == BOX:
        return _box(origin, direction)
    if shape == FRUSTUM:
        return _frustum(origin, direction, form)
    if shape == CAPSULE:
        return _capsule(origin, direction, form)
    return _traced(shape, origin, direction, form)


def facing(shape: int, point: Vector, form: Tensor) -> Tensor:
    """(M, 3) outward gradients of a unit shape at (M,) points of its surface."""
    x, y, z = point
    if shape == ELLIPSOID:
        return torch.stack(point, -1)
    if shape == BOX:
        stacked = torch.stack(point, -1)
        return torch.nn.functional.one_hot(stacked.abs().argmax(-1), 3).to(x.dtype) * stacked.sign()
    if shape == FRUSTUM:
        slope, radius = (1 - form) / 2, (1 + form) / 2 + (1 - form) / 2 * y
        cap = (1 - y.abs()).abs() < ((x * x + z * z).sqrt() - radius).abs()
        still = torch.zeros_like(x)
        side = (x, -slope * radius, z)
        return torch.stack([torch.where(cap, a, b) for a, b in zip((still, y, still), side, strict=True)], -1)
    if shape == CAPSULE:
        return torch.stack([x, y - torch.maximum(torch.minimum(y, form), -form), z], -1)
    return torch.stack(_gradient(shape, point, form), -1)


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two roots of a t^2 + 2 b t + c and its discriminant; roots mean nothing where that is negative."""
    inside = b * b - a * c
    root = inside.clamp(min=0).sqrt()
    return (-b - root) / a, (-b + root) / a, inside


def _dot(one: Vector, other: Vector) -> Tensor:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _ball(origin: Vector, direction: Vector) -> Tensor:
    near, _, inside = _roots(_dot(direction, direction), _dot(origin, direction), _dot(origin, origin) - 1)
    return torch.where((inside > 0) & (near > 0), near, FAR)


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1 / torch.where(direction.abs() < 1e-12, 1e-12, direction)
    middle, half = -origin * inverse, inverse.abs()
    return middle - half, middle + half


def _box(origin: Vector, direction: Vector) -> Tensor:
    slabs = [_slab(o, d) for o, d in zip(origin, direction, strict=True)]
    near = torch.maximum(torch.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
    far = torch.minimum(torch.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])
    return torch.where((near < far) & (near > 0), near, FAR)


def _frustum(origin: Vector, direction: Vector, form: Tensor) -> Tensor:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    slope, middle = (1 - form) / 2, (1 + form) / 2 + (1 - form) / 2 * oy
    a = dx * dx + dz * dz - (slope * dy).square()
    a = torch.where(a.abs() < 1e-12, 1e-12, a)
    b, c = ox * dx + oz * dz - slope * dy * middle, ox * ox + oz * oz - middle * middle
    one, two, inside = _roots(a, b, c)
    first, last = torch.minimum(one, two), torch.maximum(one, two)
    low, high = _slab(oy, dy)
    # A wide double cone holds the ray's two ends; between the slabs only one of its halves exists.
    through = (a > 0) & (inside > 0)
    enters, leaves = torch.maximum(first, low), torch.minimum(last, high)
    early = low < torch.minimum(first, high)
    wide = torch.where(early | (inside <= 0), low, torch.maximum(last, low))
    open_near = torch.where(wide < high, wide, FAR)
    near = torch.where(a > 0, torch.where(through & (enters < leaves), enters, FAR), open_near)
    return torch.where(near > 0, near, FAR)


def _capsule(origin: Vector, direction: Vector, form: Tensor) -> Tensor:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    flat_a, flat_b, flat_c = (dx * dx + dz * dz).clamp(min=1e-20), ox * dx + oz * dz, ox * ox + oz * oz - 1
    side, _, inside = _roots(flat_a, flat_b, flat_c)
    within = (inside > 0) & ((oy + side * dy).abs() <= form) & (side > 0)
    near = torch.where(within, side, FAR)
    for end in (-form, form):
        near = torch.minimum(near, _ball((ox, oy - end, oz), direction))
    return near


def _distance(shape: int, point: Vector, form: Tensor) -> Tensor:
    """Signed distance in the unit space."""
    x, y, z = point
    if shape == TORUS:
        return (((x * x + z * z + 1e-18).sqrt() - (1 - form)).square() + y * y + 1e-18).sqrt() - form
    outer = [axis.abs() - (1 - form) for axis in point]
    past = sum(((axis.clamp(min=0)).square() for axis in outer), torch.zeros_like(x))
    deepest = torch.maximum(torch.maximum(outer[0], outer[1]), outer[2])
    return (past + 1e-18).sqrt() + deepest.clamp(max=0) - form


def _gradient(shape: int, point: Vector, form: Tensor) -> Vector:
    x, y, z = point
    if shape == TORUS:
        ring = (x * x + z * z + 1e-18).sqrt()
        pull = 1 - (1 - form) / ring
        return x * pull, y, z * pull
    a, b, c = (axis.sign() * (axis.abs() - (1 - form)).clamp(min=0) for axis in point)
    return a, b, c


def _traced(shape: int, origin: Vector, direction: Vector, form: Tensor) -> Tensor:
    """Sphere tracing from the box around the shape on; what has not come close after all steps has missed."""
    height = form if shape == TORUS else torch.ones_like(form)
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    begin = _box((ox, oy / height, oz), (dx, dy / height, dz))
    met = (begin < FAR).nonzero(as_tuple=True)  # most rays of a packet miss the box, and need no steps

    def those(value: Tensor) -> Tensor:
        """(M,) values of the rays that meet the box."""
        return value.expand_as(begin)[met]

    ox, oy, oz, dx, dy, dz, form = (those(value) for value in (*origin, *direction, form))
    length = _dot((dx, dy, dz), (dx, dy, dz)).sqrt()
    near = _stepped(shape, (ox, oy, oz), (dx / length, dy / length, dz / length), those(begin) * length, form)
    return torch.full_like(begin, FAR).index_put_(met, torch.where(near < FAR, near / length, FAR))


def _stepped(shape: int, origin: Vector, direction: Vector, along: Tensor, form: Tensor) -> Tensor:
    """(M,) where rays of unit direction that start some way along meet the surface; ``FAR`` where they do not."""

    def point() -> Vector:
        """Where each ray has come to."""
        x, y, z = (o + along * d for o, d in zip(origin, direction, strict=True))
        return x, y, z

    for _ in range(STEPS):
        along = along + _distance(shape, point(), form)
    close = _distance(shape, point(), form).abs() < 1e-3
    for _ in range(2):  # Newton's steps bring what is close onto the surface
        gradient = _gradient(shape, point(), form)
        size = _dot(gradient, gradient).sqrt().clamp(min=1e-9)
        slope = _dot(gradient, direction) / size
        step = _distance(shape, point(), form) / slope.clamp(max=-0.05)
        along = along - step.clamp(-0.01, 0.01)
    return torch.where(close, along, FAR)
