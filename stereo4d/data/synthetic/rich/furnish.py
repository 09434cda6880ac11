"""Drawing what stands in a rich world: props, structures and figures, as bodies."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.data.synthetic.rich.bodies import Bodies
from stereo4d.data.synthetic.rich.config import Things
from stereo4d.data.synthetic.rich.figures import PARTS, heading, limbs
from stereo4d.data.synthetic.rich.kinds import BLOCK, DOOR, PLATE, POLE, TREE, WIRE
from stereo4d.data.synthetic.rich.layout import CameraPath, Hull, Numbers, between, ground_places, log_between
from stereo4d.data.synthetic.rich.shapes import BOX, CAPSULE, ELLIPSOID, FRUSTUM, ROUNDED, TORUS
from stereo4d.data.synthetic.world import Draw, rotation_from_vector

PROPS, STRUCTURES, FIGURES = 12, 8, 2
CROWNS = 4
"""The last props are crowns where the first structures are trees."""
_SHARES = (0.2, 0.2, 0.28, 0.1, 0.1, 0.12)  # how often props have each shape; traced ones cost most


def furnish(things: Things, kind: Numbers, hull: Hull, camera: CameraPath, draw: Draw) -> Bodies:
    """All bodies of B worlds; what the camera would run into is left out."""
    structures, trees = _structures(things, kind, hull, camera, draw)
    props = _props(things, kind, hull, camera, trees, draw)
    figures = _figures(things, kind, hull, camera, draw)
    parts = (props, structures, figures)
    bodies = Bodies(**{name: torch.cat([part[name] for part in parts], 1) for name in Bodies.__dataclass_fields__})
    clear = _clear(bodies, camera)
    together = clear[:, PROPS + STRUCTURES :].view(len(clear), FIGURES, PARTS).all(-1, keepdim=True)
    clear = torch.cat([clear[:, : PROPS + STRUCTURES], together.expand(-1, -1, PARTS).flatten(1)], 1)
    return Bodies(**(vars(bodies) | {"present": bodies.present & clear}))


def _blank(batch: int, count: int, draw: Draw) -> dict[str, Tensor]:
    """Fields of bodies that neither move nor are turned."""
    zeros = torch.zeros(batch, count, 3, device=draw.device)
    eye = torch.eye(3, device=draw.device).expand(batch, count, 3, 3)
    hinge = torch.zeros(batch, count, 2, 3, device=draw.device)
    hinge[..., 1] = 1
    return {
        **{name: zeros for name in ("placed", "velocity", "sway", "spin")},
        **{"turned": eye, "rotation": eye, "stretch": torch.zeros_like(eye), "hinge": hinge},
        **{"pivot": torch.zeros_like(hinge), "bend": torch.zeros_like(hinge)},
        "rate": draw.log_uniform(batch, count, low=0.4, high=2.5),
        "phase": draw.uniform(batch, count, high=2 * torch.pi),
    }


def _table(kind: Numbers, hull: Hull, camera: CameraPath) -> tuple[Tensor, Tensor]:
    """(B, 3) middle of the table top and (B, 3) half sides; where there is none, nobody asks."""
    ahead = torch.full_like(hull.floor, 1.0)[:, None]
    place = ground_places(camera, ahead, torch.zeros_like(ahead))[:, 0]
    half = torch.stack([0.55 + 0.1 * hull.floor, 0.02 + 0 * hull.floor, 0.8 - 0.1 * hull.floor], -1)
    place[:, 1] = hull.floor - 0.72
    return place, half


def _props(
    things: Things, kind: Numbers, hull: Hull, camera: CameraPath, trees: dict[str, Tensor], draw: Draw
) -> dict[str, Tensor]:
    batch, count = len(hull.floor), PROPS
    shares = torch.tensor(_SHARES, device=draw.device)
    shape = torch.multinomial(shares, batch * count, replacement=True, generator=draw.generator).view(batch, count)
    size = log_between(kind["size"], draw, count)[..., None] * draw.log_uniform(batch, count, 3, low=0.65, high=1.5)
    round_form = draw.uniform(batch, count)
    form = torch.where(shape == FRUSTUM, (2 * round_form - 0.5).clamp(0.02, 1), 0.2 + 0.15 * round_form)
    form = torch.where(shape == CAPSULE, 0.3 + 2 * round_form, form)
    size = torch.where((shape == CAPSULE)[..., None], size[..., :1] / (1 + 0.5 * form[..., None]), size)
    stands = draw.uniform(batch, count) < 0.7
    lying = draw.uniform(batch, count) < 0.35
    reach = torch.where(shape == CAPSULE, 1 + form, torch.where(shape == TORUS, form, 1)) * size[..., 1]
    distance = log_between(kind["distance"], draw, count)
    aside = 0.38 * distance * draw.normal(batch, count)
    place = ground_places(camera, distance, aside)
    table, _ = _table(kind, hull, camera)
    on_table = (kind["table"] > 0)[:, None]
    spot = table[:, None, [0, 2]] + 0.33 * draw.normal(batch, count, 2)
    place = torch.where(on_table[..., None], torch.stack([spot[..., 0], place[..., 1], spot[..., 1]], -1), place)
    base = torch.where(on_table, table[:, None, 1] - 0.02, hull.floor[:, None])
    hovers = base - reach - draw.uniform(batch, count, high=1.5) * torch.where(on_table, 0.2, 1.0)
    place[..., 1] = torch.where(stands, base - reach, hovers)
    yaw = heading(draw.uniform(batch, count, high=2 * torch.pi))
    tumbled = rotation_from_vector(draw.direction(batch, count) * draw.uniform(batch, count, 1, high=3.1))
    rotation = torch.where((stands | (shape == TORUS) & lying)[..., None, None], yaw, tumbled)
    moves = (draw.uniform(batch, count) < things.moving_share)[..., None]
    soft = moves & (draw.uniform(batch, count, 1) < things.soft_share)
    way = (
        things.travel
        * draw.uniform(batch, count, 3, low=-1, high=1)
        * (size.mean(-1, keepdim=True) / 0.3).clamp(0.2, 2.5)
    )
    way = torch.cat([way[..., :1], way[..., 1:2] * torch.where(stands, 0.0, 0.5)[..., None], way[..., 2:]], -1)
    axis = torch.where(
        stands[..., None], torch.tensor([0.0, 1.0, 0.0], device=draw.device), draw.direction(batch, count)
    )
    stretch = things.stretch * draw.uniform(batch, count, 3, 3, low=-1, high=1) / 1.5
    fields = _blank(batch, count, draw) | {
        "shape": shape,
        "form": form,
        "present": draw.uniform(batch, count) < things.amount * between(kind["props"], draw)[:, None],
        "half": size,
        "position": place,
        "rotation": rotation,
        "velocity": torch.where(moves, way, 0),
        "sway": torch.where(moves, 0.25 * way * draw.normal(batch, count, 3), 0),
        "spin": torch.where(moves, things.turn * axis * draw.uniform(batch, count, 1, low=-1, high=1), 0),
        "stretch": torch.where(soft[..., None], stretch, 0),
    }
    return _crowned(fields, trees)


def _crowned(props: dict[str, Tensor], trees: dict[str, Tensor]) -> dict[str, Tensor]:
    """The last props become the crowns of trees, where there are trees."""
    here = trees["here"]
    for name in ("shape", "form", "present", "half", "position", "rotation", "velocity", "sway", "spin", "stretch"):
        last, crown = props[name][:, -CROWNS:], trees.get(name)
        crown = torch.zeros_like(last) if crown is None else crown
        mask = here.view(*here.shape, *(1 for _ in last.shape[2:]))
        props[name] = torch.cat([props[name][:, :-CROWNS], torch.where(mask, crown, last)], 1)
    return props


def _structures(
    things: Things, kind: Numbers, hull: Hull, camera: CameraPath, draw: Draw
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    batch, count = len(hull.floor), STRUCTURES
    what = torch.multinomial(kind["structures"], count, replacement=True, generator=draw.generator)
    distance = log_between(kind["distance"], draw, count) * 1.15
    sign = torch.where(draw.uniform(batch, count) < 0.5, -1.0, 1.0)
    aside = sign * between(kind["aside"], draw, count)
    block = log_between(kind["block"], draw, count)
    aside = torch.where(what == BLOCK, aside + sign * block, aside * draw.uniform(batch, count, low=0.3))
    place = ground_places(camera, distance, aside)
    tall = torch.where((kind["open"] > 0)[:, None], draw.uniform(batch, count, low=1.2, high=2.6), hull.half[:, 1:2])
    thin, free = draw.log_uniform(batch, count, low=0.012, high=0.06), draw.uniform(batch, count, low=0.5, high=1.4)
    trunk = draw.uniform(batch, count, low=0.08, high=0.25)
    high = torch.where(draw.uniform(batch, count) < 0.5, torch.maximum(block, tall), 0.7 * block)
    ones = torch.ones_like(thin)
    half = torch.stack([thin, tall, thin], -1)
    for number, sides in (
        (PLATE, (free, 0.6 * free, 0.6 * thin)),
        (WIRE, (0.5 * thin,) * 3),
        (DOOR, (0.42 * ones, 1.0 * ones, 0.025 * ones)),
        (BLOCK, (block, high, block * free)),
        (TREE, (trunk, 0.6 * tall, trunk)),
    ):
        half = torch.where((what == number)[..., None], torch.stack(sides, -1), half)
    shape = torch.where((what == POLE) | (what == TREE), FRUSTUM, torch.where(what == WIRE, CAPSULE, BOX))
    form = torch.where(what == WIRE, draw.uniform(batch, count, low=0.8, high=3.0) / half[..., 0], 0.8)
    place[..., 1] = hull.floor[:, None] - half[..., 1]
    place[..., 1] = torch.where(what == WIRE, draw.uniform(batch, count, low=-1.5, high=0.5), place[..., 1])
    yaw = heading(torch.where(what == BLOCK, 0.2, 3.2) * draw.uniform(batch, count, low=-1, high=1))
    laid = rotation_from_vector(torch.tensor([0.0, 0.0, torch.pi / 2], device=draw.device))
    fields = _blank(batch, count, draw)
    door = what == DOOR
    swings = door & (draw.uniform(batch, count) < things.moving_share * 1.5)
    placed, bend = fields["placed"].clone(), fields["bend"].clone()
    placed[..., 0] = torch.where(door, half[..., 0], 0)
    bend[..., 0, 1] = torch.where(swings, draw.uniform(batch, count, low=0.3, high=1.2), 0)
    present = (what > 0) & (draw.uniform(batch, count) < things.amount)
    fields |= {"shape": shape, "form": form, "half": half, "position": place, "placed": placed, "bend": bend}
    fields |= {"present": present, "rotation": torch.where((what == WIRE)[..., None, None], yaw @ laid, yaw)}
    _set_table(fields, kind, hull, camera)
    return fields, _trees(what, present, place, half, yaw, draw)


def _set_table(fields: dict[str, Tensor], kind: Numbers, hull: Hull, camera: CameraPath) -> None:
    """The first structure is the table, where there is one."""
    middle, half = _table(kind, hull, camera)
    here = (kind["table"] > 0)[:, None]
    top = {"position": middle, "half": half, "shape": torch.full_like(fields["shape"][:, 0], BOX)}
    top |= {"present": torch.ones_like(fields["present"][:, 0])}
    for name, value in top.items():
        first = torch.where(here.view(-1, *(1 for _ in value.shape[1:])), value, fields[name][:, 0])
        fields[name] = torch.cat([first[:, None], fields[name][:, 1:]], 1)
    for name in ("bend", "placed"):
        fields[name][:, 0] *= 1 - here.view(-1, *(1 for _ in fields[name].shape[2:])).float()


def _trees(what: Tensor, present: Tensor, place: Tensor, half: Tensor, yaw: Tensor, draw: Draw) -> dict[str, Tensor]:
    batch, first = len(what), slice(0, CROWNS)
    size = draw.uniform(batch, CROWNS, 1, low=0.7, high=1.8) * draw.uniform(batch, CROWNS, 3, low=0.7, high=1.3)
    middle = place[:, first].clone()
    middle[..., 1] -= half[:, first, 1] + 0.6 * size[..., 1]
    pointed = draw.uniform(batch, CROWNS) < 0.4
    return {
        "here": (what == TREE)[:, first],
        "shape": torch.where(pointed, FRUSTUM, ELLIPSOID),
        "form": torch.full_like(size[..., 0], 0.03),
        "present": present[:, first],
        "half": size,
        "position": middle,
        "rotation": yaw[:, first],
    }


def _figures(things: Things, kind: Numbers, hull: Hull, camera: CameraPath, draw: Draw) -> dict[str, Tensor]:
    batch, count = len(hull.floor), FIGURES
    fields = limbs(batch, count, draw)
    distance = log_between(kind["distance"], draw, count).clamp(min=2.0)  # nearer, nothing but a belly is seen
    place = ground_places(camera, distance, 0.3 * distance * draw.normal(batch, count))
    hip, walks = fields.pop("hip"), fields.pop("walks")
    place[..., 1] = hull.floor[:, None] - hip
    angle = draw.uniform(batch, count, high=2 * torch.pi)
    step = (walks * fields["rate"][..., 0] * draw.uniform(batch, count, low=0.5, high=1.0))[..., None]
    way = step * torch.stack([-angle.sin(), torch.zeros_like(angle), -angle.cos()], -1)
    here = draw.uniform(batch, count) < things.figures * between(kind["figures"], draw)[:, None]
    turning = torch.zeros_like(place)
    turning[..., 1] = draw.uniform(batch, count, low=-0.8, high=0.8)
    bob = torch.zeros_like(place)
    bob[..., 1] = 0.02

    def spread(value: Tensor) -> Tensor:
        """(B, figures, ...) to (B, figures, parts, ...): all parts of a figure share it."""
        return value[:, :, None].expand(batch, count, PARTS, *value.shape[2:])

    fields |= {"position": spread(place), "velocity": spread(way), "sway": spread(bob), "spin": spread(turning)}
    fields |= {"rotation": spread(heading(angle)), "present": spread(here)}
    return {name: value.flatten(1, 2) for name, value in fields.items()}


def _clear(bodies: Bodies, camera: CameraPath) -> Tensor:
    """(B, K) bool: bodies whose stick never comes near the camera."""
    from stereo4d.data.synthetic.rich.cast import Placed

    clear = torch.ones_like(bodies.present)
    for moment in torch.linspace(0, 1, 9).tolist():
        time = torch.full_like(camera.field_of_view, moment)
        linear, centre = bodies.maps(time)
        stick, half, thickness = Placed(camera.eye.new_zeros(0), bodies, linear, centre).bounds()
        offset = camera.eye_at(time)[:, None] - centre
        along = torch.maximum(torch.minimum((offset * stick).sum(-1), half), -half)
        clear &= (offset - along[..., None] * stick).norm(dim=-1) > thickness + 0.3
    return clear


__all__ = ["BOX", "FIGURES", "PROPS", "ROUNDED", "STRUCTURES", "furnish"]
