"""``--layout``: beside a finished scene, the same in the files of another program."""

from __future__ import annotations

from pathlib import Path

from stereo4d.types import Scene


def check_layout(layout: str | None, folder: Path, *, overwrite: bool = False) -> None:
    """See before any work that a layout can be written into a scene folder.

    Raises:
        UsageError: there is no such layout.
        OutputError: something is in its place.
    """
    from stereo4d.exporting import check_folders, load_exporter

    if layout is not None:
        load_exporter(layout, option="--layout")
        check_folders([folder / layout], overwrite=overwrite)


def write_layout(scene: Scene, layout: str | None, folder: Path, *, overwrite: bool = False) -> Path | None:
    """Write it, and say where; None where none is asked for.

    Raises:
        OutputError: it cannot be written; the scene is whole all the same.
    """
    if layout is None:
        return None
    (place,) = scene.export([layout], folder / layout, overwrite=overwrite)
    return place
