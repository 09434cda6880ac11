"""How files say cameras and depth, and what is made of it here: OpenCV axes, camera to world, depth along the axis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class PoseKind(StrEnum):
    """Which way a 4x4 matrix carries points."""

    cam2world = "cam2world"
    world2cam = "world2cam"


class Axes(StrEnum):
    """Where the axes of a camera point, said as x, y, z."""

    opencv = "opencv"
    """Right, down, forward."""
    opengl = "opengl"
    """Right, up, backward: Blender's and nerfstudio's too."""
    pytorch3d = "pytorch3d"
    """Left, up, forward."""
    ned = "ned"
    """Forward, right, down: TartanAir's."""


class PixelOrigin(StrEnum):
    """Where an image's (0, 0) lies, from which the principal point is counted."""

    centre = "centre"
    """At the centre of the first pixel."""
    corner = "corner"
    """At the image's corner, half a pixel further out: COLMAP's and nerfstudio's."""


class DepthKind(StrEnum):
    """What a depth map measures."""

    axis = "axis"
    """Distance along the optical axis."""
    ray = "ray"
    """Distance from the camera's centre."""


_FROM_OPENCV = {
    Axes.opencv: np.eye(3),
    Axes.opengl: np.diag([1.0, -1, -1]),
    Axes.pytorch3d: np.diag([-1.0, -1, 1]),
    Axes.ned: np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
}
"""From a point's coordinates along OpenCV axes to those along others."""


@dataclass(frozen=True)
class Conventions:
    """What the files of a data set mean; by default what is used here."""

    pose_kind: PoseKind = PoseKind.cam2world
    """What poses are: cam2world or world2cam."""
    axes: Axes = Axes.opencv
    """Axes of the cameras: opencv, opengl (Blender), pytorch3d or ned."""
    pixel_origin: PixelOrigin = PixelOrigin.centre
    """Where principal points are counted from: the centre or the corner of the first pixel."""
    depth_kind: DepthKind = DepthKind.axis
    """What depth is: distance along the optical axis, or along the ray."""
    depth_unit: float = 1.0
    """Units of the poses, metres as a rule, in one unit of the depth files: 0.001 for millimetres."""

    def cam2world(self, stored: np.ndarray) -> np.ndarray:
        """(..., 4, 4) poses of files as cam2world with OpenCV axes."""
        pose = np.linalg.inv(stored) if self.pose_kind == PoseKind.world2cam else np.array(stored, np.float64)
        pose[..., :3, :3] = pose[..., :3, :3] @ _FROM_OPENCV[Axes(self.axes)]
        return pose

    def stored_pose(self, cam2world: np.ndarray) -> np.ndarray:
        """The inverse of ``cam2world``: what a file of these conventions says."""
        pose = np.array(cam2world, np.float64)
        pose[..., :3, :3] = pose[..., :3, :3] @ _FROM_OPENCV[Axes(self.axes)].T
        return np.linalg.inv(pose) if self.pose_kind == PoseKind.world2cam else pose

    def intrinsics(self, stored: np.ndarray) -> np.ndarray:
        """(..., 3, 3) intrinsics of files with pixel centres at integers."""
        return _shifted(stored, -0.5 if self.pixel_origin == PixelOrigin.corner else 0.0)

    def stored_intrinsics(self, intrinsics: np.ndarray) -> np.ndarray:
        """The inverse of ``intrinsics``."""
        return _shifted(intrinsics, 0.5 if self.pixel_origin == PixelOrigin.corner else 0.0)

    def depth(self, stored: np.ndarray, ray: np.ndarray) -> np.ndarray:
        """Distance along the optical axis in the unit of the poses, float32.

        Args:
            stored: of any shape and number type; what is not measured stays <= 0 or not finite.
            ray: of that shape, ``ray_length`` of the pixels.
        """
        depth = np.asarray(stored, np.float32) * np.float32(self.depth_unit)
        return depth / ray if self.depth_kind == DepthKind.ray else depth

    def stored_depth(self, depth: np.ndarray, ray: np.ndarray) -> np.ndarray:
        """The inverse of ``depth``: what files say, float32."""
        length = ray if self.depth_kind == DepthKind.ray else np.float32(1)
        return np.asarray(depth, np.float32) * length / np.float32(self.depth_unit)


def ray_length(pixels: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """How far points at depth 1 are from the camera's centre.

    Args:
        pixels: (..., 2) u and v.
        intrinsics: (3, 3) in pixels.

    Returns:
        (...) float32.
    """
    plane = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    return np.sqrt(1 + (plane**2).sum(-1)).astype(np.float32)


def pixels_of(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float64 u and v of all pixels."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)


def _shifted(intrinsics: np.ndarray, by: float) -> np.ndarray:
    moved = np.array(intrinsics, np.float64)
    moved[..., :2, 2] += by
    return moved
