"""Heads, readers, viewers and whatever else plugs in, found by entry point and loaded by name.

A package adds a part by naming a class in its own ``pyproject.toml``::

    [project.entry-points."stereo4d.heads"]
    my_head = "my_package.my_head:MyHead"

Nothing else has to be told; the parts that ship with stereo4d come in through the same door.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from stereo4d.errors import PluginError, UsageError

Part = TypeVar("Part")

GROUPS = (
    "stereo4d.datasets",
    "stereo4d.exporters",
    "stereo4d.flow",
    "stereo4d.heads",
    "stereo4d.masks",
    "stereo4d.peers",
    "stereo4d.predictors",
    "stereo4d.readers",
    "stereo4d.solvers",
    "stereo4d.terms",
    "stereo4d.viewers",
)


def installed(group: str) -> dict[str, EntryPoint]:
    """All entry points of a group, by name, without importing any of them.

    Args:
        group: for example ``"stereo4d.heads"``.
    """
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def brought_by(group: str, name: str) -> str | None:
    """The package that an entry point comes with, and its version; None where nobody says."""
    point = installed(group).get(name)
    return f"{point.dist.name} {point.dist.version}" if point is not None and point.dist is not None else None


def claimed_by(group: str, name: str) -> dict[str, str]:
    """What packages name so in a group: package -> ``module:Class``; more than one is one too many.

    Args:
        group: for example ``"stereo4d.heads"``.
        name: of an entry point.
    """
    points = entry_points(group=group, name=name)
    return {point.dist.name if point.dist else "?": point.value for point in points}


def load(group: str, name: str) -> Any:
    """Import what the entry point ``name`` of ``group`` names.

    Raises:
        PluginError: there is no such entry point, several packages claim its name, or importing it failed.
    """
    points = installed(group)
    if name not in points:
        known = ", ".join(points) or "none"
        raise PluginError(f"{name!r} is not an installed entry point of {group}; installed: {known}")
    if len(claims := claimed_by(group, name)) > 1:
        told = " and ".join(f"{package} ({value})" for package, value in claims.items())
        raise PluginError(
            f"the name {name!r} of {group} is taken twice, by {told}: rename one of the entry points, or uninstall one"
        )
    try:
        return points[name].load()
    except Exception as error:
        place = f"entry point {name!r} of {group} ({points[name].value})"
        raise PluginError(f"{place} cannot be imported: {error}") from error


def load_class(group: str, name: str, base: type[Part]) -> type[Part]:
    """Import the class that the entry point ``name`` of ``group`` names, and see that it keeps the group's contract.

    Args:
        group: for example ``"stereo4d.viewers"``.
        name: of an entry point.
        base: what all classes of the group derive from.

    Raises:
        PluginError: as ``load`` does; or what is named is not derived from ``base``.
    """
    kind = load(group, name)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise PluginError(
            f"entry point {name!r} of {group} names {kind!r}, which is not a {base.__name__}: derive it from "
            f"{base.__module__}.{base.__name__}"
        )
    return kind


def check_installed(option: str, group: str, name: str, *, besides: Sequence[str] = ()) -> None:
    """Make sure that a name given on the command line means something, before any work; nothing is imported.

    Args:
        option: as it was typed, for example ``"--solver"``.
        group: of the entry points that it chooses from.
        name: what was given.
        besides: names that the option takes too.

    Raises:
        UsageError: there is no such entry point.
    """
    known = installed(group)
    if name not in known:
        there = ", ".join([*besides, *known]) or "none"
        raise UsageError(f"{option} {name!r} is not installed; there are {there}")
