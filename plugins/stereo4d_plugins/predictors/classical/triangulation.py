"""Dense triangulation: the inverse depth of every pixel of view 0 from where it is in view 1, in closed form.

A pixel's ray, turned into camera 1, is ``q``; with inverse depth ``rho`` its point is seen at the image of
``q + rho t``. That is linear in ``rho`` once multiplied out, so that every pixel is solved at once: along the epipolar
line lies the depth, across it what no static point explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.video.flow import pixel_positions


@dataclass(frozen=True)
class EpipolarGrid:
    """Where every pixel (H, W) of view 0 can be in view 1."""

    infinity: np.ndarray
    """(3, H, W) float32: homogeneous pixels of view 1 for inverse depth 0 (``K1 R K0^-1 p``)."""
    shift: np.ndarray
    """(3,) float32: ``K1 t``, added once per unit of inverse depth."""

    @classmethod
    def between(
        cls, intrinsics0: np.ndarray, intrinsics1: np.ndarray, motion: np.ndarray, size: tuple[int, int]
    ) -> EpipolarGrid:
        """The grid of two cameras.

        Args:
            intrinsics0: (3, 3) pixels.
            intrinsics1: (3, 3) pixels.
            motion: (4, 4) from camera 0 to camera 1.
            size: (H, W) of view 0.
        """
        turn = intrinsics1 @ motion[:3, :3] @ np.linalg.inv(intrinsics0)
        v, u = np.arange(size[0])[:, None], np.arange(size[1])
        infinity = np.stack([row[0] * u + (row[1] * v + row[2]) for row in turn]).astype(np.float32)
        return cls(infinity, (intrinsics1 @ motion[:3, 3]).astype(np.float32))

    def project(self, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where points of some inverse depth are in view 1, and how they move there with it.

        Args:
            inverse_depth: (H, W) float32.

        Returns:
            (H, W) each: pixels u and v of view 1, and how many pixels both change per unit of inverse depth.
        """
        scale = 1 / np.maximum(self.infinity[2] + inverse_depth * self.shift[2], 1e-3)
        u = (self.infinity[0] + inverse_depth * self.shift[0]) * scale
        v = (self.infinity[1] + inverse_depth * self.shift[1]) * scale
        return u, v, (self.shift[0] - u * self.shift[2]) * scale, (self.shift[1] - v * self.shift[2]) * scale


@dataclass(frozen=True)
class Triangulated:
    """What two views say about the pixels (H, W) of the first."""

    inverse_depth: np.ndarray
    """(H, W) float32, one over depth along view 0's optical axis; negative behind a camera, 0 without baseline."""
    slope: np.ndarray
    """(H, W) float32: pixels in view 1 per unit of inverse depth; how well depth shows."""
    residual: np.ndarray
    """(H, W) float32 pixels across the epipolar line."""


def triangulate(flow: np.ndarray, grid: EpipolarGrid) -> Triangulated:
    """Triangulate every pixel of view 0.

    Args:
        flow: (H, W, 2) float32 pixels, from view 0 to view 1.
        grid: of the two cameras.
    """
    height, width = flow.shape[:2]
    u = flow[..., 0] + np.arange(width, dtype=np.float32)
    v = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    along_u, along_v = grid.shift[0] - u * grid.shift[2], grid.shift[1] - v * grid.shift[2]
    gap_u, gap_v = u * grid.infinity[2] - grid.infinity[0], v * grid.infinity[2] - grid.infinity[1]
    if not grid.shift.any():  # no baseline, no epipolar lines: all of the gap is residual
        residual = np.hypot(gap_u, gap_v) / np.maximum(grid.infinity[2], 1e-3)
        return Triangulated(np.zeros_like(residual), np.zeros_like(residual), residual)
    length = np.maximum(np.sqrt(along_u**2 + along_v**2), 1e-12)
    inverse_depth = (along_u * gap_u + along_v * gap_v) / length**2
    nearness = grid.infinity[2] + inverse_depth * grid.shift[2]
    safe = np.maximum(np.abs(nearness), 1e-3)
    residual = np.abs(along_u * gap_v - along_v * gap_u) / (length * safe)
    return Triangulated(np.where(nearness > 0, inverse_depth, -1), length / safe, residual)


def parallax_degrees(inverse_depth: np.ndarray, intrinsics: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """(H, W) angle in degrees between the rays from both cameras to the points of view 0's pixels.

    Args:
        inverse_depth: (H, W) of view 0, positive.
        intrinsics: (3, 3) pixels of view 0.
        motion: (4, 4) from camera 0 to camera 1.
    """
    pixels = pixel_positions(*inverse_depth.shape)
    plane = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    rays = np.concatenate([plane, np.ones_like(plane[..., :1])], -1)
    centre = -motion[:3, :3].T @ motion[:3, 3]
    other = rays - inverse_depth[..., None] * centre
    sine = np.linalg.norm(np.cross(rays, other), axis=-1)
    return np.degrees(np.arctan2(sine, (rays * other).sum(-1)))


def unproject(inverse_depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 points in the camera of the pixels (H, W) with these inverse depths.

    Args:
        inverse_depth: (H, W), positive.
        intrinsics: (3, 3) pixels.
    """
    pixels = pixel_positions(*inverse_depth.shape)
    plane = (pixels - intrinsics[:2, 2].astype(np.float32)) / intrinsics[[0, 1], [0, 1]].astype(np.float32)
    return np.concatenate([plane, np.ones_like(plane[..., :1])], -1) / inverse_depth[..., None]
