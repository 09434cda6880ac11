"""Casting rays at a rich world: packets of neighbouring rays, bounds before exact intersection, all worlds at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.data.synthetic.rich.bodies import Bodies
from stereo4d.data.synthetic.rich.shapes import FAR, SHAPES, Vector, enter, extents, facing

PLANES = 8
"""Surfaces 0 ... 7 are the flat walls of the hull (0 the floor), 8 is the sky, 9 + k is body k."""
SKY = PLANES
FIRST_BODY = PLANES + 1
PACKET = 64
"""Rays a packet; neighbours belong into the same one."""
HORIZON = 400.0
"""Metres along a ray's direction after which a ground is no longer seen."""


@dataclass(frozen=True)
class Placed:
    """B worlds at one time each."""

    planes: Tensor
    """(B, 8, 4): unit inward normals and offsets; a point is inside where normal . point + offset > 0."""
    bodies: Bodies
    linear: Tensor
    """(B, K, 3, 3)."""
    centre: Tensor
    """(B, K, 3)."""

    def bounds(self) -> tuple[Tensor, Tensor, Tensor]:
        """A stick around each body: (B, K, 3) unit axis, (B, K) half length and (B, K) thickness."""
        columns = self.linear * extents(self.bodies.shape, self.bodies.form)[..., None, :]
        squared = columns.square().sum(-2)
        longest = squared.argmax(-1)[..., None]
        half = squared.gather(-1, longest)[..., 0].sqrt()
        axis = columns.gather(-1, longest[..., None, :].expand(*columns.shape[:2], 3, 1))[..., 0] / half[..., None]
        # what is not along the axis, as if all corners were there
        across = columns.norm(dim=-2).masked_fill(torch.nn.functional.one_hot(longest[..., 0], 3).bool(), 0)
        slack = 1 + (self.bodies.stretch.abs().sum((-1, -2)) > 0).to(half.dtype)
        return axis, half, across.norm(dim=-1) * slack


@dataclass(frozen=True)
class Hit:
    """The first surface along each of P rays in each of B worlds."""

    distance: Tensor
    """(B, P): in lengths of the direction; the depth, where directions have depth 1."""
    surface: Tensor
    """(B, P) int64."""
    local: Tensor
    """(B, P, 3): the point on the unit shape (walls: in the world; sky: zero)."""
    normal: Tensor
    """(B, P, 3): unit, world, towards the viewer."""


def cast(placed: Placed, origin: Tensor, direction: Tensor) -> Hit:
    """The first surfaces.

    Args:
        placed: B worlds.
        origin: (B, 3), inside the hull and outside every body.
        direction: (B, P, 3), any length; neighbours in runs of ``PACKET``.
    """
    distance, surface, normal = _cast_hull(placed, origin, direction)
    local = torch.where((surface == SKY)[..., None], 0, origin[:, None] + distance[..., None] * direction)
    found = _cast_bodies(placed, origin, direction, distance)
    flat = distance.flatten(), surface.flatten(), local.flatten(0, 1), normal.flatten(0, 1)
    if found is not None:
        nearest = flat[0].scatter_reduce(0, found.ray, found.near, "amin")
        first = (found.near == nearest[found.ray]).nonzero()[:, 0]
        ray = found.ray[first]
        flat[0].copy_(nearest)
        flat[1][ray] = FIRST_BODY + found.body[first]
        flat[2][ray] = found.local[first]
        flat[3][ray] = found.normal[first]
    return Hit(flat[0].view_as(distance), flat[1].view_as(surface), flat[2].view_as(local), flat[3].view_as(normal))


def _cast_hull(placed: Placed, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    normals, offsets = placed.planes[..., :3], placed.planes[..., 3]
    height = (normals @ origin[..., None])[..., 0] + offsets  # (B, 8)
    # The wall a ray leaves through first is that of the largest approach: a reciprocal instead of a comparison each.
    approach = (direction @ (-normals / height[..., None]).transpose(-1, -2)).max(-1)
    seen = approach.values > 1 / HORIZON
    distance = torch.where(seen, 1 / approach.values, FAR)
    table = torch.cat([normals, torch.zeros_like(normals[:, :1])], 1)
    surface = torch.where(seen, approach.indices, SKY)
    return distance, surface, take(table, surface)


def take(table: Tensor, index: Tensor) -> Tensor:
    """(B, P, F) rows of tables (B, S, F), by (B, P) index."""
    row = index + table.shape[1] * torch.arange(len(table), device=table.device)[:, None]
    return torch.nn.functional.embedding(row, table.flatten(0, 1))


@dataclass(frozen=True)
class _Found:
    ray: Tensor
    near: Tensor
    body: Tensor
    local: Tensor
    normal: Tensor


def _cast_bodies(placed: Placed, origin: Tensor, direction: Tensor, limit: Tensor) -> _Found | None:
    batch = len(direction)
    packets = direction.view(batch, -1, PACKET, 3)
    reach = packets.norm(dim=-1)
    units = packets / reach[..., None]
    axis = torch.nn.functional.normalize(units.mean(-2), dim=-1)
    cosine = (units * axis[..., None, :]).sum(-1).amin(-1)
    spread = (1 / cosine.clamp(0.1, 1).square() - 1).clamp(min=0).sqrt()
    near = _close(placed, origin[:, None].expand_as(axis), axis, torch.zeros_like(spread), spread)
    near |= (cosine < 0.1)[..., None]  # rays that go everywhere may meet anything
    axes = _by_packet(packets.unbind(-1))
    parts = []
    for shape in range(len(SHAPES)):
        of_shape = near & (placed.bodies.present & (placed.bodies.shape == shape))[:, None]
        world, packet, body = of_shape.nonzero(as_tuple=True)
        if len(world):
            parts.append(_cast_shape(placed, shape, (world, packet, body), origin, axes, limit))
    if not parts:
        return None
    return _Found(*(torch.cat([getattr(part, name) for part in parts]) for name in _Found.__dataclass_fields__))


def _cast_shape(
    placed: Placed, shape: int, index: tuple[Tensor, Tensor, Tensor], origin: Tensor, packets: Vector, limit: Tensor
) -> _Found:
    world, packet, body = index
    count = len(packets[0]) // len(origin)
    inverse = torch.linalg.inv(placed.linear[world, body])
    start = (inverse @ (origin[world] - placed.centre[world, body])[..., None])[..., 0]
    rays = _turned(packets, world * count + packet, inverse)
    form = placed.bodies.form[world, body]
    near = enter(shape, tuple(start[:, i, None] for i in range(3)), rays, form[:, None])
    first = (world * count + packet) * PACKET
    candidate, place = (near < limit.view(-1, PACKET)[first // PACKET]).nonzero(as_tuple=True)
    distance = near[candidate, place]
    point = tuple(start[candidate, i] + distance * rays[i][candidate, place] for i in range(3))
    gradient = facing(shape, point, form[candidate])
    outward = (gradient[:, None] @ inverse[candidate])[:, 0]  # gradients turn by the inverse transposed
    return _Found(
        ray=first[candidate] + place,
        near=distance,
        body=body[candidate],
        local=torch.stack(point, -1),
        normal=torch.nn.functional.normalize(outward, dim=-1),
    )


def _by_packet(axes: Sequence[Tensor]) -> Vector:
    """Three coordinates of all rays, a packet a row."""
    x, y, z = (axis.reshape(-1, PACKET) for axis in axes)
    return x, y, z


def _turned(packets: Vector, row: Tensor, matrix: Tensor) -> Vector:
    """Matrices (M, 3, 3) times the vectors of some packets (N, T) by coordinates: (M, T) each.

    Written out, because batches of very small matrix products are slow.
    """
    x, y, z = (part.index_select(0, row) for part in packets)
    rows = [matrix[:, i, :, None].unbind(1) for i in range(3)]
    turned = [torch.addcmul(torch.addcmul(a * x, b, y), c, z) for a, b, c in rows]
    return turned[0], turned[1], turned[2]


def _close(placed: Placed, origin: Tensor, axis: Tensor, width: Tensor, spread: Tensor) -> Tensor:
    """(B, N, K) bool: bodies whose stick comes near (B, N) cones: wide at their start, spreading with distance."""
    stick, half, thickness = (value[:, None] for value in placed.bounds())
    offset = placed.centre[:, None] - origin[..., None, :]  # (B, N, K, 3)
    along = (offset @ axis[..., None])[..., 0]
    lean = axis @ stick[:, 0].transpose(-1, -2)
    across = (offset * stick).sum(-1)
    best = (along * lean - across) / (1 - lean.square()).clamp(min=1e-6)
    best = torch.maximum(torch.minimum(best, half), -half)
    ahead = (along + best * lean).clamp(min=0)
    # |offset + best stick - ahead axis|^2, multiplied out
    gap = offset.square().sum(-1) + best.square() + ahead.square() + 2 * (best * across - ahead * (along + best * lean))
    farthest = along + half * lean.abs() + thickness
    reach = thickness + width[..., None] + spread[..., None] * farthest.clamp(min=0)
    return (gap < reach.square() + 1e-6) & (farthest > 0)


def shadowed(placed: Placed, light: Tensor, point: Tensor, toward: Tensor, asked: Tensor) -> Tensor:
    """(B, P) bool: points that a body hides from the light; hulls throw no shadow.

    Args:
        placed: B worlds.
        light: (B, 4): a place and 1, or a direction towards the light and 0.
        point: (B, 3, P) world, a little off their surface; neighbours in runs of ``PACKET``.
        toward: (B, 3, P): to the light, unit.
        asked: (B, P) bool: where the answer matters.
    """
    batch, _, rays = point.shape
    packets = point.view(batch, 3, -1, PACKET)
    low, high = (bound.transpose(1, 2) for bound in packets.aminmax(dim=-1))
    middle = (low + high) / 2
    starts_of, ways_of = _by_packet(packets.unbind(1)), _by_packet(toward.unbind(1))
    axis = torch.nn.functional.normalize(light[:, None, :3] - light[:, None, 3:] * middle, dim=-1)
    near = _close(placed, middle, axis, (high - low).norm(dim=-1) / 2, torch.zeros_like(middle[..., 0]))
    near &= asked.view(batch, -1, PACKET).any(-1)[..., None]
    dark = torch.zeros(batch * rays // PACKET, PACKET, dtype=torch.bool, device=point.device)
    for shape in range(len(SHAPES)):
        of_shape = near & (placed.bodies.present & (placed.bodies.shape == shape))[:, None]
        world, packet, body = of_shape.nonzero(as_tuple=True)
        if not len(world):
            continue
        row, inverse = world * packets.shape[2] + packet, torch.linalg.inv(placed.linear[world, body])
        shift = (inverse @ placed.centre[world, body][..., None])[..., 0]
        starts = [axis - shift[:, i, None] for i, axis in enumerate(_turned(starts_of, row, inverse))]
        form = placed.bodies.form[world, body][:, None]
        reached = enter(shape, (starts[0], starts[1], starts[2]), _turned(ways_of, row, inverse), form)
        # a body behind a lamp throws no shadow: how far the lamp is, the middle of the packet says closely enough
        far = torch.where(light[:, None, 3] > 0, (light[:, None, :3] - middle).norm(dim=-1), FAR / 2).flatten()[row]
        candidate, place = (reached < far[:, None]).nonzero(as_tuple=True)
        dark[row[candidate], place] = True
    return dark.view(batch, rays)
