"""Numbers from files that others wrote: text, JSON, NumPy. Nothing in them is believed, nothing in them is run.

Every error is one line that names the file, what is wrong where, and the way out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.errors import InputError

_MOST_TEXT = 64 << 20  # bytes; a camera per frame for days of video
_MOST_UNPACKED = 2 << 30  # bytes of one array in an .npz, which cannot be read in pieces


@dataclass(frozen=True)
class NumberRows:
    """The numbers of a text file."""

    rows: np.ndarray
    """(R, C) float64, all finite; R >= 1."""
    lines: tuple[int, ...]
    """The line of each row, counted from 1."""
    comments: tuple[str, ...]
    """Lines that start with ``#``, without it."""


def file_or_scene(path: Path, member: str, what: str) -> Path:
    """A file that is there: the one named, or that of a scene folder.

    Args:
        path: a file, or a scene folder.
        member: the file of a scene folder that holds the same.
        what: what it is a file of, in words.

    Raises:
        InputError: it is neither.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, not put out by names that cannot be
        if not (path / member).is_file():
            raise InputError(f"{path}: a folder without {member}, so no scene; give a file of {what}")
        path = path / member
    return existing_file(path)


def existing_file(path: Path) -> Path:
    """The path of a file that is there and not empty.

    Raises:
        InputError: it is not.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if not path.is_file():
        raise InputError(f"{path}: not a file; give the file itself")
    if size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    return path


def list_folder(path: Path) -> list[Path]:
    """What lies in a folder, by name.

    Raises:
        InputError: it cannot be listed.
    """
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise _unreadable(path, error) from error


def sha256(path: Path) -> str:
    """The checksum of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark, lines ending in any way.

    Raises:
        InputError: not there, empty, too large to be what it should be, or no text.
    """
    size = existing_file(path).stat().st_size
    if size > _MOST_TEXT:
        raise InputError(f"{path}: {size} bytes are more than a text file of cameras can have ({_MOST_TEXT})")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8 text; save it as UTF-8, or is it another file?"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_number_rows(path: Path) -> NumberRows:
    """A text file with the same number of numbers, parted by blanks, on every line; ``#`` begins a comment.

    Raises:
        InputError: as ``read_text``, or a line holds something else.
    """
    rows: list[list[float]] = []
    lines: list[int] = []
    comments: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        words, mark, comment = line.partition("#")
        if mark and not words.strip():
            comments.append(comment.strip())
        if not words.strip():
            continue
        try:
            rows.append([float(word) for word in words.split()])
        except ValueError:
            wrong = next(word for word in words.split() if not _is_number(word))
            raise InputError(f"{path}: line {number}: {wrong[:40]!r} is not a number; part numbers by blanks") from None
        lines.append(number)
        if len(rows[-1]) != len(rows[0]):
            raise InputError(
                f"{path}: line {number} has {len(rows[-1])} numbers, line {lines[0]} has {len(rows[0])}; "
                "all lines must have as many"
            )
    if not rows:
        raise InputError(f"{path}: there are no numbers in it, only comments and empty lines")
    numbers = np.array(rows, np.float64)
    if not (finite := np.isfinite(numbers)).all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{path}: line {lines[row]}: {numbers[row, column]:g} cannot be used; leave out the line, or mend it"
        )
    return NumberRows(numbers, tuple(lines), tuple(comments))


def read_json(path: Path) -> Any:
    """A JSON file; a name that occurs twice in one object is an error.

    Raises:
        InputError: as ``read_text``, or it is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error


def open_npy(path: Path) -> np.ndarray:
    """An ``.npy`` array of numbers, mapped: read when it is touched.

    Raises:
        InputError: not there, damaged, cut short, or not of numbers.
    """
    existing_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy and zipfile raise many kinds on damaged files
        raise InputError(f"{path}: not an .npy file of numbers, or cut short ({_first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: holds several arrays; name it .npz")
    return _of_numbers(array, str(path))


class Npz:
    """An ``.npz`` file: names and shapes at once, arrays when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Look what is in it.

        Raises:
            InputError: not there, or no ``.npz`` file.
        """
        self.path = existing_file(path)
        try:
            with zipfile.ZipFile(path) as file:
                self._sizes = {entry.filename: entry.file_size for entry in file.infolist()}
        except Exception as error:
            raise InputError(f"{path}: not an .npz file, or cut short ({_first_line(error)})") from error
        self.names = tuple(name.removesuffix(".npy") for name in self._sizes if name.endswith(".npy"))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, from its header.

        Raises:
            InputError: it is not there, damaged, not of numbers, or larger than can be unpacked.
        """
        if name not in self:
            there = ", ".join(self.names[:8]) or "no array"
            raise InputError(f"{self.path}: has no array {name!r}, it has {there}; save it as {name}=...")
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
        except Exception as error:
            raise self._damaged(name, error) from error
        _of_numbers(np.empty(0, dtype), f"{self.path}: {name}")
        size = math.prod(shape) * dtype.itemsize
        if size > _MOST_UNPACKED:
            raise InputError(
                f"{self.path}: {name} would take {size} bytes at once, more than {_MOST_UNPACKED}; "
                "save it as .npy, which is read in pieces"
            )
        # A header may promise more than is there: memory is only set aside for what the file holds.
        if size > self._sizes[f"{name}.npy"]:
            raise InputError(
                f"{self.path}: {name} is cut short: {shape} does not fit into its {self._sizes[name + '.npy']} bytes"
            )
        return tuple(shape)

    def read(self, name: str) -> np.ndarray:
        """An array as a whole.

        Raises:
            InputError: as ``shape``.
        """
        self.shape(name)
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return file[name]
        except Exception as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: BaseException) -> InputError:
        return InputError(f"{self.path}: {name} is damaged or not an array of numbers ({_first_line(error)})")


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror or error}")


def _of_numbers(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what}: an array of {array.dtype}; it must be of real numbers")
    return array


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise ValueError(f"{name[:40]!r} occurs twice")
        seen[name] = value
    return seen


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
