"""Which file a name or path of weights means: found on this machine or said to be missing, never downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from stereo4d.errors import CheckpointError
from stereo4d.network.weights.catalogue import CATALOGUE, Published, find, suggestions

EMBEDDED = "embedded"
"""The name of the small network that comes with stereo4d."""
ROOM = "STEREO4D_WEIGHTS"
"""Environment variable: a folder of the user's own, with ``NAME/model.safetensors`` or files as published."""
_SAFETENSORS = "model.safetensors"


def resolve(source: str | Path, *, also: Sequence[str] = ()) -> Path:
    """The weights file that a name or path means.

    Args:
        source: ``"embedded"``; a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors`` and
            ``config.json``; the name of a published model (see ``catalogue``), or of a folder in the user's own room
            of weights. A path that is there wins over a name; the room wins over the hub's cache.
        also: further names that the caller takes, for the message.

    Raises:
        CheckpointError: there is no such file, the folder holds no weights, or the published file is not here yet.
    """
    if str(source) == EMBEDDED:
        return Path(__file__).parents[2] / "assets" / "embedded" / _SAFETENSORS
    path = Path(source).expanduser()
    try:
        if path.is_file():
            return path
        if (path / _SAFETENSORS).is_file():
            return path / _SAFETENSORS
    except PermissionError as error:  # of a folder on the way
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    name = str(source)
    published = find(name)
    if (found := in_room(name) if published is None else locate(published)) is not None:
        return found
    if published is not None:
        raise CheckpointError(_not_here(published))
    if path.is_dir():
        raise CheckpointError(f"{path} holds no {_SAFETENSORS}; give a weights file, or a folder that has one")
    raise CheckpointError(f"{path}: no such weights file; give {alternatives(name, also)}")


def locate(published: Published) -> Path | None:
    """The weights file of a published model on this machine, or None: in the user's rooms, else in the hub's cache."""
    for name in published.names:
        if (found := in_room(name)) is not None:
            return found
    return _in_hub_cache(published)


def rooms() -> Iterator[Path]:
    """Folders that hold weights by name: the user's own, then the one where files that are not on the hub are put."""
    if own := os.environ.get(ROOM):
        yield Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    yield Path(cache).expanduser() / "stereo4d" / "weights"


def in_room(name: str) -> Path | None:
    """``NAME/model.safetensors``, ``NAME.safetensors``, ``NAME/*.pth`` or ``NAME.pth`` of a room, in that order."""
    if not name.strip(".") or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    for room in rooms():
        folder = room / name
        for path in (folder / _SAFETENSORS, room / f"{name}.safetensors", *_only_pth(folder), room / f"{name}.pth"):
            if path.is_file():
                return path
    return None


def _only_pth(folder: Path) -> list[Path]:
    """The one ``.pth`` file of a folder; of several nobody could say which is meant."""
    found = sorted(folder.glob("*.pth"))
    return found if len(found) == 1 else []


def _in_hub_cache(published: Published) -> Path | None:
    if published.repo is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    # what other programs fetched is of use too, and they take the newest
    for revision in dict.fromkeys((published.revision or "main", "main")):
        for name in [file.name for file in published.files][-1:]:
            found = try_to_load_from_cache(published.repo, name, revision=revision)
            if isinstance(found, str):
                return Path(found)
    return None if published.files else _only_weights(published.repo)


def _only_weights(repo: str) -> Path | None:
    """The one weights file of a repository in the cache, whose file names nobody wrote down."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    found = [path for path in folder.rglob("*") if is_weights(path.name)]
    return found[0] if len(found) == 1 else None


def stored_name(path: Path) -> str:
    """What a weights file is called where it lies: by its repository, its folder, or itself."""
    if path.parent.parent.name == "snapshots":  # .../models--OWNER--NAME/snapshots/COMMIT/FILE of the hub's cache
        return path.parent.parent.parent.name.split("--")[-1]
    return path.parent.name if path.name == _SAFETENSORS else path.stem


def is_weights(name: str) -> bool:
    """Whether a file of a repository holds weights, by its name."""
    return name.endswith((".safetensors", ".pth", ".pt", ".ckpt", ".bin"))


def alternatives(name: str, also: Sequence[str] = ()) -> str:
    """What may be given where weights are asked for, and which names look like ``name``."""
    names = ", ".join(map(repr, (EMBEDDED, *also, *(published.name for published in CATALOGUE))))
    close = [*suggestions(name), *get_close_matches(name, also)]
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"a .pth, a folder with {_SAFETENSORS}, or one of {names}{meant}"


def _not_here(published: Published) -> str:
    about = "" if published.bytes_are_exact else "about "
    return (
        f"{published.name} ({published.title}) is not on this machine; it is never fetched unasked. It takes {about}"
        f"{published.bytes / 1e9:.2f} GB, licence: {published.licence}. Fetch it with: "
        f"stereo4d weights fetch {published.name}, or put its file into the folder that {ROOM} names"
    )
