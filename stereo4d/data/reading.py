"""Frames read with their claims checked, so that a wrong one is named where it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.errors import InputError

RIGID_WITHIN = 1e-3
"""How far the columns of a rotation may be from unit length and right angles."""


def read_frame(frames: PosedFrames, scene: str, index: int) -> Frame:
    """A frame of a data set, checked: shapes agree, the pose is rigid, the intrinsics are those of a pinhole.

    Raises:
        InputError: names data set, scene, frame, and what is wrong.
    """
    with _said_of_frame(frames, scene, index):
        frame = frames.frame(scene, index)
        for fault in (_fault_of_maps(frame), _fault_of_pose(frame.cam2world), _fault_of_intrinsics(frame.intrinsics)):
            if fault:
                raise InputError(fault)
    return frame


def read_tracks(frames: PosedFrames, scene: str, index: int) -> np.ndarray | None:
    """The tracks of a frame, checked.

    Raises:
        InputError: names data set, scene, frame, and what is wrong.
    """
    with _said_of_frame(frames, scene, index):
        tracks = frames.tracks(scene, index)
        if tracks is not None and (tracks.ndim != 2 or tracks.shape[1] != 3):
            raise InputError(f"tracks are {tracks.shape}; they must be (N, 3)")
    return tracks


@contextmanager
def _said_of_frame(frames: PosedFrames, scene: str, index: int) -> Iterator[None]:
    """What is wrong with input inside the block, said of a frame.

    Raises:
        InputError: something is.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{frames.name}, scene {scene}, frame {index}: {error}") from error


def _fault_of_maps(frame: Frame) -> str | None:
    if frame.rgb.ndim != 3 or frame.rgb.shape[2] != 3 or frame.rgb.dtype != np.uint8:
        return f"the image is {frame.rgb.shape} {frame.rgb.dtype}; it must be (H, W, 3) uint8"
    for name in ("depth", "moving", "sky", "background"):
        values = getattr(frame, name)
        if values is not None and values.shape != frame.rgb.shape[:2]:
            return f"{name} is {values.shape}, the image {frame.rgb.shape[:2]}; they must agree"
    return None


def _fault_of_pose(cam2world: np.ndarray) -> str | None:
    if cam2world.shape != (4, 4) or not np.isfinite(cam2world).all():
        return "cam2world must be a finite 4x4 matrix; leave out frames whose pose is not known"
    rotation = cam2world[:3, :3]
    off = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if off > RIGID_WITHIN or np.linalg.det(rotation) < 0 or np.abs(cam2world[3] - (0, 0, 0, 1)).max() > 1e-6:
        return f"cam2world is no rigid motion (off by {off:.2g}): it may be scaled, mirrored or transposed"
    return None


def _fault_of_intrinsics(intrinsics: np.ndarray) -> str | None:
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        return "intrinsics must be a finite 3x3 matrix"
    pinhole = np.array(intrinsics)
    pinhole[[0, 1, 0, 1], [0, 1, 2, 2]] = (1, 1, 0, 0)
    if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0 or np.abs(pinhole - np.eye(3)).max() > 1e-6:
        told = np.array2string(intrinsics, precision=4).replace("\n", "")
        return f"intrinsics {told} must be [fx 0 cx; 0 fy cy; 0 0 1] with fx, fy > 0"
    return None
