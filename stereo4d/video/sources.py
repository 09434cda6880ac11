"""What the user names as INPUT: a video, a folder or glob of images, or several of these."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stereo4d.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""What counts as an image in a folder, in lower case. Anything else that is a file is taken for a video."""


@dataclass(frozen=True)
class Source:
    """One clip: a single video file, or images in order."""

    label: str
    """What the user wrote; errors name it."""
    paths: tuple[Path, ...]
    """One video, or one image or more."""

    @property
    def is_images(self) -> bool:
        """Whether the frames are image files."""
        return is_image(self.paths[0])

    @property
    def name(self) -> str:
        """A short name for files and folders made from this clip."""
        if len(self.paths) == 1:
            return self.paths[0].stem
        return self.paths[0].resolve().parent.name or "images"


def is_image(path: Path) -> bool:
    """Whether a file name is that of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def group_inputs(inputs: Sequence[str]) -> list[list[str]]:
    """Which INPUTs belong to one clip: all plain image files together, everything else on its own.

    A shell turns ``frames/*.png`` into many INPUTs, and they are one clip.
    """
    groups: list[list[str]] = []
    images: list[str] | None = None
    for entry in inputs:
        if not (is_image(Path(entry)) and not _is_pattern(entry)):
            groups.append([entry])
        elif images is None:
            groups.append(images := [entry])
        else:
            images.append(entry)
    return groups


def entries_of(given: str | Path | Sequence[str | Path]) -> list[str]:
    """One file, folder or pattern, or several, as a command line would name them."""
    return [str(entry) for entry in ([given] if isinstance(given, str | Path) else given)]


def find_source(entries: Sequence[str]) -> Source:
    """The clip that INPUTs of one group name.

    Raises:
        InputError: nothing there, nothing in it, or a pattern that matches several videos.
    """
    if len(entries) > 1:
        return Source(entries[0], tuple(_existing(Path(entry)) for entry in entries))
    (label,) = entries
    path = Path(label)
    if path.is_dir():
        return Source(label, _images_in(path))
    if not path.exists() and _is_pattern(label):
        return Source(label, _matches(label))
    return Source(label, (_existing(path),))


def sha256(source: Source) -> str:
    """The SHA-256 of a single file as ``sha256sum`` gives it; of several images, that of their ``sha256sum`` list."""
    digests = [_file_digest(path) for path in source.paths]
    if len(digests) == 1:
        return digests[0]
    listing = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, source.paths, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a file; among several images every one must be a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    return path


def _images_in(folder: Path) -> tuple[Path, ...]:
    images = sorted((path for path in folder.iterdir() if path.is_file() and is_image(path)), key=_natural_order)
    if not images:
        raise InputError(f"{folder}: no images in this folder ({' '.join(sorted(IMAGE_SUFFIXES))}); videos go by name")
    return tuple(images)


def _matches(pattern: str) -> tuple[Path, ...]:
    found = sorted((Path(match) for match in glob.glob(pattern, recursive=True)), key=_natural_order)
    found = [path for path in found if path.is_file()]
    if not found:
        raise InputError(f"{pattern}: no file matches this pattern")
    images = tuple(path for path in found if is_image(path))
    if not images and len(found) > 1:
        raise InputError(f"{pattern}: matches {len(found)} videos; leave the pattern to the shell (no quotes)")
    return images or tuple(found)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame 2 comes before frame 10."""
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]


def _is_pattern(entry: str) -> bool:
    return glob.has_magic(entry) and not Path(entry).exists()
