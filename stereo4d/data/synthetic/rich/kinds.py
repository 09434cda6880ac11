"""The kinds of place that a rich world can be; a kind is a row of numbers, so that a batch mixes them."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor

Range = tuple[float, float]
STRUCTURES = ("none", "pole", "plate", "wire", "door", "block", "tree")
NONE, POLE, PLATE, WIRE, DOOR, BLOCK, TREE = range(7)


@dataclass(frozen=True)
class Kind:
    """One kind of place; lengths in metres."""

    open: bool
    """Under the sky, without walls."""
    width: Range
    """Across the direction in which the camera may look; of an open place, where things may stand."""
    length: Range
    height: Range
    """Floor to ceiling."""
    eye: Range
    """Height of the camera above the floor."""
    aligned: float
    """Standard deviation of the angle between camera and length, in radians; large is any direction."""
    pitch: Range
    """How far the camera looks down, radians."""
    distance: Range
    """From the camera to things."""
    props: Range
    """Share of the places for props that are taken, least and most."""
    size: Range
    """Half extents of props."""
    structures: tuple[float, float, float, float, float, float, float]
    """How often each of ``STRUCTURES``."""
    block: Range
    """Half extents of blocks: pillars, shelves, houses."""
    aside: Range
    """How far to the side structures stand."""
    figures: Range
    """Chance that a figure is there, least and most."""
    table: bool
    """Things stand on a table."""


KINDS = {
    "indoor": Kind(
        *(False, (3.5, 9.0), (4.0, 10.0), (2.3, 3.8), (0.7, 1.9), 3.0, (-0.1, 0.5), (1.2, 4.5)),
        *((0.3, 0.9), (0.12, 0.6), (3.0, 1.0, 1.0, 0.5, 1.0, 1.5, 0.0), (0.15, 0.6), (0.3, 2.5), (0.1, 0.4), False),
    ),
    "corridor": Kind(
        *(False, (1.7, 3.2), (9.0, 26.0), (2.2, 3.2), (0.9, 1.8), 0.25, (-0.1, 0.25), (1.5, 9.0)),
        *((0.1, 0.6), (0.1, 0.4), (2.0, 1.0, 0.7, 0.5, 2.5, 1.5, 0.0), (0.1, 0.35), (0.7, 1.3), (0.1, 0.5), False),
    ),
    "tabletop": Kind(
        *(False, (2.5, 6.0), (2.5, 6.0), (2.3, 3.2), (1.1, 1.6), 3.0, (0.25, 0.9), (0.5, 1.5)),
        *((0.4, 1.0), (0.03, 0.16), (4.0, 0.3, 0.5, 0.2, 0.2, 0.7, 0.0), (0.2, 0.7), (0.8, 2.5), (0.0, 0.1), True),
    ),
    "street": Kind(
        *(True, (10.0, 24.0), (30.0, 60.0), (2.0, 2.0), (1.0, 2.4), 0.35, (-0.25, 0.15), (4.0, 24.0)),
        *((0.1, 0.7), (0.25, 1.2), (0.5, 1.5, 0.6, 0.6, 0.2, 4.0, 0.8), (2.0, 6.0), (5.5, 12.0), (0.2, 0.7), False),
    ),
    "park": Kind(
        *(True, (16.0, 30.0), (16.0, 40.0), (2.0, 2.0), (0.8, 2.2), 3.0, (-0.15, 0.3), (2.5, 14.0)),
        *((0.2, 0.8), (0.2, 1.0), (1.0, 1.0, 0.4, 0.3, 0.1, 0.5, 4.0), (0.5, 2.0), (1.0, 7.0), (0.1, 0.6), False),
    ),
    "figures": Kind(
        *(False, (5.0, 12.0), (5.0, 12.0), (2.6, 4.5), (0.9, 1.9), 3.0, (-0.05, 0.25), (1.6, 4.5)),
        *((0.0, 0.4), (0.12, 0.5), (4.0, 0.5, 0.5, 0.2, 0.6, 0.8, 0.0), (0.15, 0.5), (0.5, 3.0), (0.8, 1.0), False),
    ),
}
"""Every kind by its name. To hold a kind out, leave it out of ``RichWorlds.kinds``."""


def rows(names: tuple[str, ...], chosen: Tensor) -> dict[str, Tensor]:
    """The numbers of each world's kind: (B,) for flags, (B, n) for ranges, by the names of ``Kind``.

    Args:
        names: the kinds there are.
        chosen: (B,) which of them each world is.
    """
    columns = zip(*(astuple(KINDS[name]) for name in names), strict=True)
    tables = (torch.tensor(column, device=chosen.device).float() for column in columns)
    return {field.name: table[chosen] for field, table in zip(fields(Kind), tables, strict=True)}
