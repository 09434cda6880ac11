"""Intrinsics from files of several formats (docs/known.md)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.errors import InputError
from stereo4d.scene_files import MANIFEST_FILE
from stereo4d.video.frame_matching import (
    Rows,
    frame_numbers,
    line_names,
    npz_rows,
    resized,
    row_names,
    same_aspect,
    stacked,
)
from stereo4d.video.outside_files import Npz, NumberRows, file_or_scene, open_npy, read_json, read_number_rows

log = logging.getLogger(__name__)

_NUMBERS, _SIDES = ("fx", "fy", "cx", "cy"), ("width", "height")
_CAMERA_KEYS = {*_NUMBERS, *_SIDES}
_FAR = 1e9  # pixels; no camera has numbers like that


@dataclass(frozen=True)
class IntrinsicsFile:
    """Intrinsics as a file gives them."""

    rows: Rows
    values: np.ndarray
    """(R, 3, 3) float64."""
    sizes: tuple[tuple[int, int] | None, ...]
    """R (width, height): the size of image that the numbers refer to; None is that of the clip."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read."""
        return (self.rows.path,)

    def in_pixels_of(self, row: int, size: tuple[int, int]) -> np.ndarray:
        """Intrinsics (3, 3) of one row in pixels of an image of this (height, width).

        Raises:
            InputError: they are those of an image of another shape.
        """
        told, (height, width), where = self.sizes[row], size, f"{self.rows.path}: {self.rows.names[row]}"
        intrinsics = self.values[row]
        if told is not None and told != (width, height):
            if not same_aspect(told, (width, height)):
                raise InputError(
                    f"{where}: its numbers are for images of {told[0]}x{told[1]}, the clip's are {width}x{height} "
                    "(width x height), of another shape; give numbers for the images as they are"
                )
            intrinsics = resized((told[1], told[0]), size).to_original(intrinsics)
        off = np.abs(intrinsics[:2, 2] / [width, height] - 0.5).max()
        if off > 0.25:
            log.warning(
                "%s: its principal point (%.1f, %.1f) is far from the middle of %dx%d pixels; is it for another size?",
                *(where, intrinsics[0, 2], intrinsics[1, 2], width, height),
            )
        return intrinsics


def open_intrinsics(path: Path) -> IntrinsicsFile:
    """Intrinsics by frame.

    Raises:
        InputError: the file cannot be used.
    """
    path = file_or_scene(path, MANIFEST_FILE, "intrinsics")
    readers = {".npy": _npy_intrinsics, ".npz": _npz_intrinsics, ".json": _json_intrinsics, ".txt": _text_intrinsics}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: intrinsics come as {', '.join(sorted(readers))} or a scene folder, not {path.suffix!r}"
        )
    intrinsics = reader(path)
    _check(intrinsics.values, intrinsics.rows)
    return intrinsics


def _text_intrinsics(path: Path) -> IntrinsicsFile:
    text = read_number_rows(path)
    columns = text.rows.shape[1]
    if columns not in (4, 5, 9):
        raise InputError(
            f"{path}: line {text.lines[0]} has {columns} numbers; intrinsics are 'fx fy cx cy', 'frame fx fy cx cy' or "
            "the 9 numbers of a matrix, row by row"
        )
    names = line_names(text)
    if columns == 5:
        rows = Rows(path, names, frames=frame_numbers(text.rows[:, 0], Rows(path, names)))
    else:
        rows = Rows(path, names, for_all=len(text.rows) == 1)
    values = text.rows.reshape(-1, 3, 3) if columns == 9 else _matrices(text.rows[:, -4:])
    return IntrinsicsFile(rows, values, (_size_in(text, path),) * len(values))


def _size_in(text: NumberRows, path: Path) -> tuple[int, int] | None:
    """What a line ``# size WIDTH HEIGHT`` says."""
    told = [comment for comment in text.comments if re.match(r"size\b", comment)]
    if not told:
        return None
    match = re.fullmatch(r"size\s+(\d{1,6})\s+(\d{1,6})", told[0])
    if len(told) > 1 or not match or not int(match[1]) * int(match[2]):
        raise InputError(f"{path}: '# {told[-1][:40]}': the size of the images is said once, as '# size WIDTH HEIGHT'")
    return int(match[1]), int(match[2])


def _npy_intrinsics(path: Path) -> IntrinsicsFile:
    values = open_npy(path)
    for_all = values.shape == (3, 3)
    values = stacked(values[None] if for_all else values, (3, 3), str(path))
    return IntrinsicsFile(Rows(path, row_names(len(values)), for_all=for_all), values, (None,) * len(values))


def _npz_intrinsics(path: Path) -> IntrinsicsFile:
    file = Npz(path)
    values = file.read("intrinsics")
    for_all = values.shape == (3, 3)
    values = stacked(values[None] if for_all else values, (3, 3), f"{path}: intrinsics")
    rows = Rows(path, row_names(1), for_all=True) if for_all else npz_rows(file, len(values))
    return IntrinsicsFile(rows, values, (_size_of(file),) * len(values))


def _size_of(file: Npz) -> tuple[int, int] | None:
    """What ``size`` of an ``.npz`` file says: (width, height)."""
    if "size" not in file:
        return None
    told = np.asarray(file.read("size"), np.float64)
    if told.shape != (2,) or not (np.isfinite(told) & (told >= 1) & (told == np.floor(told))).all():
        raise InputError(f"{file.path}: size must be two whole numbers, width and height of the images")
    return int(told[0]), int(told[1])


def _json_intrinsics(path: Path) -> IntrinsicsFile:
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: must hold an object: one camera with fx fy cx cy, or cameras by frame number")
    if "intrinsics_original" in content:
        return _manifest_intrinsics(path, content)
    if not content.keys() & _CAMERA_KEYS:
        names = tuple(f"frame {str(name)[:20]}" for name in content)
        wrong = [name for name in content if not re.fullmatch(r"\d{1,15}", name, re.ASCII)]
        if wrong:
            raise InputError(f"{path}: {wrong[0][:40]!r} is no frame number; cameras are named 0, 1, 2 ...")
        frames = np.array([int(name) for name in content], np.int64)
        cameras = [_json_camera(path, name, value) for name, value in zip(names, content.values(), strict=True)]
        rows = Rows(path, names, frames=frames)
    else:
        cameras = [_json_camera(path, "the camera", content)]
        rows = Rows(path, ("the camera",), for_all=True)
    numbers, sizes = zip(*cameras, strict=True)
    return IntrinsicsFile(rows, _matrices(np.array(numbers)), sizes)


def _json_camera(path: Path, name: str, camera: Any) -> tuple[list[float], tuple[int, int] | None]:
    """fx fy cx cy, and (width, height) if they are given."""
    where = f"{path}: {name}"
    if not isinstance(camera, Mapping):
        raise InputError(f"{where}: must be an object with fx fy cx cy, not {type(camera).__name__}")
    unknown = sorted(camera.keys() - _CAMERA_KEYS)
    if unknown:
        raise InputError(
            f"{where}: {unknown[0][:40]!r} is not known; a camera has fx fy cx cy, width and height; undistort images"
        )
    sized = "width" in camera or "height" in camera
    for key in _NUMBERS + (_SIDES if sized else ()):
        value = camera.get(key, "not there")
        if type(value) not in (int, float) or not abs(value) < _FAR:
            raise InputError(f"{where}: {key} must be a number of pixels, it is {str(value)[:40]}")
    numbers = [float(camera[key]) for key in _NUMBERS]
    if not sized:
        return numbers, None
    if any(camera[key] < 1 or camera[key] != int(camera[key]) for key in _SIDES):
        raise InputError(f"{where}: width and height must be whole numbers above 0")
    return numbers, (int(camera["width"]), int(camera["height"]))


def _manifest_intrinsics(path: Path, manifest: dict[str, Any]) -> IntrinsicsFile:
    try:
        values = np.array(manifest["intrinsics_original"], np.float64)
        frames = np.array([frame["index"] for frame in manifest["frames"]], np.int64)
        sizes = tuple((int(frame["original_size"][1]), int(frame["original_size"][0])) for frame in manifest["frames"])
        if min(side for size in sizes for side in size) < 1:
            raise ValueError("an image without pixels")
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path}: not the manifest of a whole scene; write it with stereo4d reconstruct again"
        ) from error
    values = stacked(values, (3, 3), f"{path}: intrinsics_original")
    names = tuple(f"frame {index}" for index in frames)
    if len(names) != len(values):
        raise InputError(f"{path}: {len(values)} intrinsics for {len(names)} frames; not the manifest of a whole scene")
    return IntrinsicsFile(Rows(path, names, frames=frames), values, sizes)


def _matrices(numbers: np.ndarray) -> np.ndarray:
    """(R, 3, 3) from (R, 4) fx fy cx cy."""
    matrices = np.tile(np.eye(3), (len(numbers), 1, 1))
    matrices[:, [0, 1], [0, 1]] = numbers[:, :2]
    matrices[:, :2, 2] = numbers[:, 2:]
    return matrices


def _check(values: np.ndarray, rows: Rows) -> None:
    focals = values[:, [0, 1], [0, 1]]
    finite = np.isfinite(values).all((1, 2))
    rows.refuse(~(finite & (focals > 0).all(1)), "numbers must be finite and focals above 0; mend it or leave it out")
    zeros, one = values[:, [1, 2, 2], [0, 0, 1]], values[:, 2, 2]
    form = "a matrix of intrinsics is [fx 0 cx; 0 fy cy; 0 0 1], row by row; is it transposed?"
    rows.refuse(zeros.any(1) | (one != 1), form)
    rows.refuse(values[:, 0, 1] != 0, "it has skew, which cameras have not here; set it to 0 or mend the images")
