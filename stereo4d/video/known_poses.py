"""Poses from files of several formats (docs/known.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stereo4d.errors import InputError
from stereo4d.scene_files import TRAJECTORY_FILE
from stereo4d.video.frame_matching import Rows, line_names, npz_rows, row_names, stacked
from stereo4d.video.outside_files import Npz, file_or_scene, open_npy, read_number_rows

_MOST_LENGTH = 0.01  # by how much a quaternion may miss length 1: files are rounded


@dataclass(frozen=True)
class PosesFile:
    """Poses as a file gives them."""

    rows: Rows
    values: np.ndarray
    """(R, 4, 4) float64 cam2world, rotations exact."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What was read."""
        return (self.rows.path,)


def open_poses(path: Path) -> PosesFile:
    """Poses, camera to world, by frame or time.

    Raises:
        InputError: the file cannot be used.
    """
    path = file_or_scene(path, TRAJECTORY_FILE, "poses")
    readers = {".npy": _npy_poses, ".npz": _npz_poses, ".txt": _text_poses}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: poses come as {', '.join(sorted(readers))} or a scene folder, not {path.suffix!r}")
    poses = reader(path)
    return PosesFile(poses.rows, _rigid(poses.values, poses.rows))


def _text_poses(path: Path) -> PosesFile:
    text = read_number_rows(path)
    names, columns = line_names(text), text.rows.shape[1]
    if columns == 8:
        rows = Rows(path, names, times=text.rows[:, 0])
        return PosesFile(rows, _from_tum(text.rows[:, 1:], rows))
    if columns == 12:
        last = np.broadcast_to([0.0, 0, 0, 1], (len(text.rows), 1, 4))
        return PosesFile(Rows(path, names), np.concatenate([text.rows.reshape(-1, 3, 4), last], 1))
    raise InputError(
        f"{path}: line {text.lines[0]} has {columns} numbers; poses are 'seconds tx ty tz qx qy qz qw' (TUM) or the 12 "
        "numbers of a 3x4 matrix, row by row (KITTI)"
    )


def _from_tum(numbers: np.ndarray, rows: Rows) -> np.ndarray:
    """(R, 4, 4) from (R, 7) tx ty tz qx qy qz qw."""
    from scipy.spatial.transform import Rotation

    length = np.linalg.norm(numbers[:, 3:], axis=1)
    rows.refuse(np.abs(length - 1) > _MOST_LENGTH, "its quaternion is not of length 1; the order is qx qy qz qw")
    poses = np.tile(np.eye(4), (len(numbers), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(numbers[:, 3:]).as_matrix()
    poses[:, :3, 3] = numbers[:, :3]
    return poses


def _npy_poses(path: Path) -> PosesFile:
    poses = stacked(open_npy(path), (4, 4), str(path))
    return PosesFile(Rows(path, row_names(len(poses))), poses)


def _npz_poses(path: Path) -> PosesFile:
    file = Npz(path)
    poses = stacked(file.read("cam2world"), (4, 4), f"{path}: cam2world")
    return PosesFile(npz_rows(file, len(poses)), poses)


def _rigid(poses: np.ndarray, rows: Rows) -> np.ndarray:
    """The poses (R, 4, 4), their rotations made exact."""
    rows.refuse(~np.isfinite(poses).all((1, 2)), "a pose must be of finite numbers; leave the row out, or mend it")
    away = np.abs(poses[:, 3] - [0, 0, 0, 1]).max(1)
    rows.refuse(away > 1e-6, "the last row of a pose is 0 0 0 1; is the matrix transposed?")
    rotation = poses[:, :3, :3]
    away = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    rows.refuse(away > 1e-3, "its 3x3 part is no rotation (rows of length 1, at right angles)")
    rows.refuse(np.linalg.det(rotation) < 0, "its axes are left-handed; cameras have x right, y down, z forward")
    left, _, right = np.linalg.svd(rotation)
    exact = np.tile(np.eye(4), (len(poses), 1, 1))
    exact[:, :3, :3], exact[:, :3, 3] = left @ right, poses[:, :3, 3]
    return exact
