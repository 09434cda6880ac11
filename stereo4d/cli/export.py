"""``stereo4d export``: a scene as files of other programs."""

from __future__ import annotations

from pathlib import Path


def export(
    scene: str,
    *,
    format: str,
    out: str,
    overwrite: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Write a scene in the formats of other programs.

    Args:
        scene: a scene folder.
        format: one format or several, parted by commas: monst3r, npz, ply, tum, or another installed entry
            point of the group stereo4d.exporters.
        out: folder to write; with several formats, the folder that gets one for each, named like it.
        overwrite: replace exports that are there.
        quiet: print nothing.
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import DONE, print_json
    from stereo4d.types import Scene

    formats = [name.strip() for name in format.split(",")]
    folders = Scene.load(scene).export(formats, Path(out), overwrite=overwrite)
    if json:
        print_json(
            {"scene": scene, "exports": {name: str(folder) for name, folder in zip(formats, folders, strict=True)}}
        )
    elif not quiet:
        for name, folder in zip(formats, folders, strict=True):
            print(f"{name:<10} {folder}")
    return DONE
