"""The contract of exporters: they hand a scene on to other programs, as files in a folder.

An exporter is a class found by entry point (group ``stereo4d.exporters``), built without arguments. It fills an empty
folder; that the folder is whole or not there at all, and that nothing of anybody else's is replaced, is seen to here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from stereo4d import __version__, registry
from stereo4d.errors import OutputError, UsageError
from stereo4d.storage import atomic_folder, write_json
from stereo4d.types import Scene

GROUP = "stereo4d.exporters"
NOTE = "export.json"
"""Lies in every export: which format of which scene it is, and which files belong to it."""


class Exporter(ABC):
    """Writes scenes in one format."""

    @abstractmethod
    def write(self, scene: Scene, folder: Path) -> None:
        """Write all files of a scene.

        Args:
            scene: what to write; its arrays may be memory-mapped.
            folder: there and empty; it gets its name when all is written.

        Raises:
            OSError: a file cannot be written; the caller says so.
        """


def load_exporter(name: str, *, option: str = "--format") -> Exporter:
    """The exporter of that name.

    Args:
        name: of an entry point.
        option: as which it was typed.

    Raises:
        UsageError: there is none.
        PluginError: what the entry point names is not an exporter.
    """
    registry.check_installed(option, GROUP, name)
    return registry.load_class(GROUP, name, Exporter)()


def export_scene(scene: Scene, formats: Sequence[str], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a scene in some formats, all of them or none; see ``Scene.export``."""
    if not formats or len(set(formats)) < len(formats):
        raise UsageError(f"--format {','.join(formats)!r}: give one name or more, each once")
    exporters = {name: load_exporter(name) for name in formats}
    folders = [out] if len(formats) == 1 else [out / name for name in formats]
    check_folders(folders, overwrite=overwrite)
    with ExitStack() as stack:
        for (name, exporter), folder in zip(exporters.items(), folders, strict=True):
            partial = stack.enter_context(atomic_folder(folder))
            exporter.write(scene, partial)
            _write_note(scene, name, partial)
    return folders


def check_folders(folders: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse places that hold something: an export unless it may be replaced, whatever is not an export in any case.

    Raises:
        OutputError: one does.
    """
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file; an export is a folder")
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        others = sorted(_files_in(folder) - _files_told_of(folder))
        if others:
            shown = ", ".join(others[:3])
            raise OutputError(f"{folder}: holds files that are not of an export ({shown}); choose another --out")
        if not overwrite:
            raise OutputError(f"{folder}: holds an export; say --overwrite, or choose another --out")


def _write_note(scene: Scene, name: str, folder: Path) -> None:
    """What most formats cannot say of a scene, and the files that make up the export."""
    files = _files_in(folder) | {NOTE}
    note = {
        "exporter": name,
        "made_by": f"stereo4d {__version__}",
        "input": scene.manifest.get("input"),
        "scale": scene.scale,
        "frame_indices": scene.frame_indices.tolist(),
        "times": scene.times.tolist(),
        "files": sorted(files),
    }
    write_json(folder / NOTE, note)


def _files_in(folder: Path) -> set[str]:
    """Everything in a folder but folders, by path from there."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _files_told_of(folder: Path) -> set[str]:
    """The files that a folder's note calls its own; none where there is no note that can be read."""
    try:
        return set(json.loads((folder / NOTE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
