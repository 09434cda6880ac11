"""Cameras of a folder's images, from files of many formats (docs/data.md): when, where, through what lens."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.data.conventions import Axes, Conventions, PixelOrigin
from stereo4d.errors import InputError
from stereo4d.video.frame_matching import FrameGeometry, Rows
from stereo4d.video.known_intrinsics import open_intrinsics
from stereo4d.video.known_poses import open_poses
from stereo4d.video.outside_files import list_folder, read_json, read_number_rows
from stereo4d.video.sources import find_source

log = logging.getLogger(__name__)

_SAME_MOMENT = 0.02  # seconds between an image and the depth that belongs to it: TUM's own rule


@dataclass(frozen=True)
class SceneCameras:
    """The T images of a scene that have a pose, and their cameras as the files say them."""

    images: tuple[Path, ...]
    times: np.ndarray
    """(T,) float64 seconds, ascending."""
    poses: np.ndarray
    """(T, 4, 4) float64."""
    intrinsics: np.ndarray
    """(T, 3, 3) float64."""
    conventions: Conventions


def read_cameras(
    folder: Path, images: str, poses: str, intrinsics: str | Sequence[float], conventions: Conventions, fps: float
) -> SceneCameras:
    """Cameras of a scene from a file of poses and one of intrinsics, or numbers.

    Args:
        folder: of the scene.
        images: the folder in it that holds the images, in the order of their names.
        poses: the file in it, or a folder with a file for each image.
        intrinsics: the file in it or above it, or fx fy cx cy.
        conventions: what poses and intrinsics mean.
        fps: images a second, where neither poses nor names say times.

    Raises:
        InputError: a file cannot be used, or does not tell which image it speaks of.
    """
    if poses.endswith(".json"):
        return _nerfstudio(folder / poses, conventions, fps)
    paths = find_source([str(folder / images)]).paths
    rows, values = _poses(folder / poses)
    stamps = [_stamp(path) for path in paths]
    times = np.arange(len(paths)) / fps if None in stamps else np.array(stamps, np.float64)
    if rows.times is not None and len(rows) == len(paths):
        times, rows = rows.times, Rows(rows.path, rows.names)  # in order, whatever the images are called
    positions, chosen = rows.match(_geometry(times))
    if len(positions) < len(paths):
        log.info("%s: %d of %d images have a pose", folder, len(positions), len(paths))
    lenses = _lenses(folder, intrinsics, times)[positions]
    kept = tuple(paths[position] for position in positions)
    return SceneCameras(kept, times[positions], values[chosen], lenses, conventions)


def partner(image: Path, folder: Path, suffixes: tuple[str, ...]) -> Path:
    """The file of another folder that belongs to an image: of its name, its number, or the nearest time stamp.

    Raises:
        InputError: there is none.
    """
    for suffix in suffixes:
        if (named := folder / f"{image.stem}{suffix}").is_file():
            return named
    others = [path for path in list_folder(folder) if path.suffix.lower() in suffixes]
    if (stamp := _stamp(image)) is not None:
        stamped = [(abs(other - stamp), path) for path in others if (other := _stamp(path)) is not None]
        if stamped and min(stamped)[0] < _SAME_MOMENT:
            return min(stamped)[1]
    elif (number := _number(image)) is not None:
        numbered = [path for path in others if _number(path) == number]
        if len(numbered) == 1:
            return numbered[0]
    raise InputError(f"{folder}: nothing in it for {image.name}; it takes {image.stem}{' or '.join(suffixes)}")


def _poses(path: Path) -> tuple[Rows, np.ndarray]:
    """What poses belong to, and (R, 4, 4) of them."""
    if not path.is_dir():
        opened = open_poses(path)
        return opened.rows, opened.values
    files = sorted(file for file in list_folder(path) if file.suffix == ".txt")
    if not files:
        raise InputError(f"{path}: no pose in this folder; it takes a .txt of 3x4 or 4x4 numbers for each image")
    values = np.tile(np.eye(4), (len(files), 1, 1))
    for row, file in enumerate(files):
        numbers = read_number_rows(file).rows
        if numbers.size not in (12, 16):
            raise InputError(f"{file}: has {numbers.size} numbers; a pose is a matrix of 3x4 or 4x4")
        values[row].reshape(-1)[: numbers.size] = numbers.reshape(-1)
    return Rows(path, tuple(file.name for file in files)), values


def _lenses(folder: Path, intrinsics: str | Sequence[float], times: np.ndarray) -> np.ndarray:
    """(T, 3, 3) intrinsics of all images."""
    if not isinstance(intrinsics, str):
        if len(intrinsics) != 4:
            raise InputError(f"intrinsics {list(intrinsics)}: give the four numbers fx fy cx cy, or the name of a file")
        fx, fy, cx, cy = intrinsics
        return np.tile(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64), (len(times), 1, 1))
    path = folder / intrinsics
    opened = open_intrinsics(path if path.exists() else folder.parent / intrinsics)
    positions, rows = opened.rows.match(_geometry(times))
    if len(positions) < len(times):
        raise InputError(f"{opened.rows.path}: intrinsics for {len(positions)} of {len(times)} images; give all")
    return opened.values[rows]


def _nerfstudio(path: Path, conventions: Conventions, fps: float) -> SceneCameras:
    """A ``transforms.json``: images, poses with OpenGL axes, intrinsics from the corner; a frame's own numbers win."""
    content = read_json(path)
    try:
        frames = sorted(content["frames"], key=lambda frame: str(frame["file_path"]))
        images = tuple(path.parent / frame["file_path"] for frame in frames)
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(-1, 4, 4)
        lenses = np.stack([_nerfstudio_lens({**content, **frame}) for frame in frames])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a transforms.json of nerfstudio ({error}): it has frames, each with file_path and a 4x4 "
            "transform_matrix, and fl_x fl_y cx cy of a camera without distortion"
        ) from error
    said = Conventions(
        conventions.pose_kind, Axes.opengl, PixelOrigin.corner, conventions.depth_kind, conventions.depth_unit
    )
    return SceneCameras(images, np.arange(len(images)) / fps, poses, lenses, said)


def _nerfstudio_lens(camera: dict[str, Any]) -> np.ndarray:
    bent = [key for key in ("k1", "k2", "k3", "k4", "p1", "p2") if camera.get(key)]
    if bent:
        raise ValueError(f"{bent[0]} = {camera[bent[0]]}: undistort the images first")
    return np.array([[camera["fl_x"], 0, camera["cx"]], [0, camera["fl_y"], camera["cy"]], [0, 0, 1]], np.float64)


def _geometry(times: np.ndarray) -> FrameGeometry:
    """Of images whose sizes do not matter here."""
    return FrameGeometry(np.arange(len(times)), times, np.zeros((len(times), 2), np.int64), (0, 0), ())


def _stamp(path: Path) -> float | None:
    """The seconds that a file is named after, as TUM's are: 1305031102.175304.png."""
    return float(path.stem) if re.fullmatch(r"\d+\.\d+", path.stem) else None


def _number(path: Path) -> int | None:
    """The last number in a file's name."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None
