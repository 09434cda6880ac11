"""Ray casting: what a camera sees of a world, with exact truth for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.data.synthetic.motion import object_poses
from stereo4d.data.synthetic.texture import shade
from stereo4d.data.synthetic.world import SHAPES, WALLS, World
from stereo4d.geometry.camera import pixel_grid

FAR = 1e9


@dataclass(frozen=True)
class Hit:
    """The first surface along each of P rays in each of B worlds."""

    distance: Tensor
    """(B, P): in units of the ray's direction vector; with z-normalised camera rays this is the depth."""
    surface: Tensor
    """(B, P) int64: 0 ... 5 walls, 6 + k object k."""
    local: Tensor
    """(B, P, 3): the point in its object's rigid frame, in metres (walls: the world)."""
    normal: Tensor
    """(B, P, 3): unit surface normal in the world, towards the viewer's side."""


@dataclass(frozen=True)
class Rendered:
    """What B cameras see."""

    rgb: Tensor
    """(B, H, W, 3) in [0, 1], noise free."""
    depth: Tensor
    """(B, H, W): distance along the optical axis."""
    surface: Tensor
    """(B, H, W) int64 surface ids."""
    local: Tensor
    """(B, H, W, 3): the point in its object's rigid frame."""
    moving: Tensor
    """(B, H, W) bool: the surface belongs to an object that moves on its own."""
    sky: Tensor
    """(B, H, W) bool: nothing is there to be measured."""


def camera_rays(cam2world: Tensor, intrinsics: Tensor, pixels: Tensor) -> Tensor:
    """(B, P, 3) world directions of (B or 1, P, 2) pixels, with depth 1 along the optical axis."""
    focal = intrinsics[:, [0, 1], [0, 1]][:, None]
    centre = intrinsics[:, None, :2, 2]
    plane = (pixels - centre) / focal
    rays = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
    return rays @ cam2world[:, :3, :3].transpose(-1, -2)


def cast(world: World, time: Tensor, origin: Tensor, direction: Tensor) -> Hit:
    """Find the first surface along rays.

    Args:
        world: B worlds.
        time: (B,) clip time.
        origin: (B, 3), inside the room and outside every object.
        direction: (B, P, 3), any length.
    """
    distance, surface, normal = _cast_room(world, origin, direction)
    local = origin[:, None] + distance[..., None] * direction
    flat_distance, flat_surface = distance.flatten(), surface.flatten()
    flat_local, flat_normal = local.flatten(0, 1), normal.flatten(0, 1)
    found = _cast_objects(world, time, origin, direction)
    if found is not None:
        ray, near, which, rigid, outward = found
        flat_distance = flat_distance.scatter_reduce(0, ray, near, "amin")
        first = near == flat_distance[ray]
        ray = ray[first]
        flat_surface[ray] = WALLS + which[first]
        flat_local[ray] = rigid[first]
        flat_normal[ray] = outward[first]
    return Hit(
        distance=flat_distance.view_as(distance),
        surface=flat_surface.view_as(surface),
        local=flat_local.view_as(local),
        normal=flat_normal.view_as(normal),
    )


def _cast_room(world: World, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to, id and inward normal of the wall that each ray leaves the room through."""
    positive = direction > 0
    wall = torch.where(positive, world.room_max[:, None], world.room_min[:, None])
    step = (wall - origin[:, None]) / direction
    distance, axis = torch.where(direction == 0, FAR, step).min(-1)
    side = positive.gather(-1, axis[..., None])[..., 0]
    normal = torch.zeros_like(direction)
    normal.scatter_(-1, axis[..., None], torch.where(side, -1.0, 1.0).to(normal.dtype)[..., None])
    return distance, 2 * axis + side, normal


def _cast_objects(
    world: World, time: Tensor, origin: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """Every ray-object hit, M of each: ray index, distance, object, rigid-frame point, world normal; None without any.

    A bounding-sphere test over all rays picks the few ray-object pairs that need the exact intersection.
    """
    rays_per_world = direction.shape[1]
    pose = object_poses(world, time)
    offset = pose[..., :3, 3] - origin[:, None]  # (B, K, 3)
    along = direction @ offset.transpose(-1, -2)  # (B, P, K)
    gap = offset.square().sum(-1) - world.half_extent.square().sum(-1)
    near_sphere = (along > 0) & (along.square() > direction.square().sum(-1, keepdim=True) * gap[:, None])
    world_index, ray_index, which = (near_sphere & world.present[:, None]).nonzero(as_tuple=True)
    if len(which) == 0:
        return None
    rotation = pose[..., :3, :3]
    to_unit = rotation.transpose(-1, -2) / world.half_extent[..., None]  # (B, K, 3, 3): world to the unit shape
    unit_origin = -(to_unit @ offset[..., None])[..., 0][world_index, which]
    unit_direction = (to_unit[world_index, which] @ direction[world_index, ray_index][..., None])[..., 0]
    near, far = _unit_interval(which % len(SHAPES), unit_origin, unit_direction)
    hit = (near < far) & (near > 0)
    world_index, ray_index, which, near = world_index[hit], ray_index[hit], which[hit], near[hit]
    unit_point = unit_origin[hit] + near[:, None] * unit_direction[hit]
    half_extent = world.half_extent[world_index, which]
    gradient = _unit_gradient(which % len(SHAPES), unit_point) / half_extent
    outward = (rotation[world_index, which] @ gradient[..., None])[..., 0]
    return (
        world_index * rays_per_world + ray_index,
        near,
        which,
        unit_point * half_extent,
        torch.nn.functional.normalize(outward, dim=-1),
    )


def _unit_interval(shape: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where (M,) rays enter and leave unit shapes, all of them convex, so that one interval says it all.

    The ellipsoid is a ball, the box a slab along each axis, the cylinder a disc in (x, z) and a slab along y.
    """
    ball = shape == 0
    disc = shape == 2
    weight = torch.ones_like(origin)
    weight[:, 1] = (~disc).to(origin.dtype)  # the disc ignores y
    a = (weight * direction.square()).sum(-1).clamp(min=1e-20)
    b = (weight * direction * origin).sum(-1)
    c = (weight * origin.square()).sum(-1) - 1
    root = (b.square() - a * c).clamp(min=0).sqrt()
    missed = (b.square() - a * c) <= 0
    round_near = torch.where(missed, FAR, (-b - root) / a)
    round_far = torch.where(missed, -FAR, (-b + root) / a)
    safe = torch.where(direction.abs() < 1e-12, 1e-12, direction)
    one, other = (-1 - origin) / safe, (1 - origin) / safe
    slab_near, slab_far = torch.minimum(one, other), torch.maximum(one, other)
    near = torch.where(disc, torch.maximum(round_near, slab_near[:, 1]), slab_near.amax(-1))
    far = torch.where(disc, torch.minimum(round_far, slab_far[:, 1]), slab_far.amin(-1))
    return torch.where(ball, round_near, near), torch.where(ball, round_far, far)


def _unit_gradient(shape: Tensor, point: Tensor) -> Tensor:
    """(M, 3) outward gradient of unit shapes at points on their surface."""
    face = torch.nn.functional.one_hot(point.abs().argmax(-1), 3).to(point.dtype) * point.sign()
    radial = point * torch.tensor([1.0, 0.0, 1.0], dtype=point.dtype, device=point.device)
    cap = point * torch.tensor([0.0, 1.0, 0.0], dtype=point.dtype, device=point.device)
    on_cap = point[:, 1].square() > radial.square().sum(-1)
    cylinder = torch.where(on_cap[:, None], cap, radial)
    return torch.where((shape == 0)[:, None], point, torch.where((shape == 1)[:, None], face, cylinder))


def render(
    world: World, time: Tensor, cam2world: Tensor, intrinsics: Tensor, height: int, width: int, *, samples: int = 1
) -> Rendered:
    """Render B cameras, each in its own world.

    Args:
        world: B worlds.
        time: (B,) clip time.
        cam2world: (B, 4, 4).
        intrinsics: (B, 3, 3), pixels.
        height: H.
        width: W.
        samples: colours are averaged over samples x samples rays a pixel; the truth is always the pixel centre's.
    """
    grid = pixel_grid(height, width, device=cam2world.device).to(cam2world.dtype).reshape(1, -1, 2)
    centre = cast(world, time, cam2world[:, :3, 3], camera_rays(cam2world, intrinsics, grid))
    focal = intrinsics[:, 0, 0]
    if samples == 1:
        rgb = shade(world, centre, focal)
    else:
        rgb = _supersampled(world, time, cam2world, intrinsics, grid, samples)
    # Surface ids are small, so one look-up tells which pixels belong to something that moves.
    still_walls = torch.zeros(len(cam2world), WALLS, dtype=torch.bool, device=rgb.device)
    moving = torch.cat([still_walls, world.moving], 1).gather(1, centre.surface)
    shape = (len(cam2world), height, width)
    return Rendered(
        rgb=rgb.reshape(*shape, 3),
        depth=centre.distance.reshape(shape),
        surface=centre.surface.reshape(shape),
        local=centre.local.reshape(*shape, 3),
        moving=moving.reshape(shape),
        sky=torch.zeros(shape, dtype=torch.bool, device=moving.device),
    )


def _supersampled(
    world: World, time: Tensor, cam2world: Tensor, intrinsics: Tensor, grid: Tensor, samples: int
) -> Tensor:
    """(B, P, 3) colours averaged over a regular pattern of sub-pixel rays."""
    offsets = ((torch.arange(samples, device=grid.device) + 0.5) / samples - 0.5).tolist()
    total = torch.zeros(len(cam2world), grid.shape[1], 3, dtype=grid.dtype, device=grid.device)
    for dv in offsets:
        for du in offsets:
            rays = camera_rays(
                cam2world, intrinsics, grid + torch.tensor([du, dv], dtype=grid.dtype, device=grid.device)
            )
            total += shade(world, cast(world, time, cam2world[:, :3, 3], rays), samples * intrinsics[:, 0, 0])
    return total / samples**2
