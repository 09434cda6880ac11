"""Dense triangulation: the inverse depth of every pixel of view 0 from where it is in view 1, in closed form.

A pixel's ray, turned into camera 1, is ``q``; with inverse depth ``rho`` its point is seen at the image of
``q + rho t``. That is linear in ``rho`` once multiplied out, so that every pixel is solved at once: along the epipolar
line lies the depth, across it what no static point explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d_plugins.predictors.classical.flow import pixel_positions


@dataclass(frozen=True)
class EpipolarGrid:
    """Where every pixel (H, W) of view 0 can be in view 1."""

    infinity: np.ndarray
    """(H, W, 3) float32: homogeneous pixels of view 1 for inverse depth 0 (``K1 R K0^-1 p``)."""
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
        pixels = pixel_positions(*size)
        infinity = pixels @ turn[:, :2].T.astype(np.float32) + turn[:, 2].astype(np.float32)
        return cls(infinity, (intrinsics1 @ motion[:3, 3]).astype(np.float32))

    def project(self, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points of some inverse depth are in view 1.

        Args:
            inverse_depth: (H, W) float32.

        Returns:
            (H, W, 2) pixels of view 1, and (H, W) their depth in camera 1 over that in camera 0.
        """
        homogeneous = self.infinity + inverse_depth[..., None] * self.shift
        nearness = np.maximum(homogeneous[..., 2], 1e-3)
        return homogeneous[..., :2] / nearness[..., None], homogeneous[..., 2]

    def slope(self, pixels: np.ndarray, nearness: np.ndarray) -> np.ndarray:
        """(H, W, 2) pixels in view 1 per unit of inverse depth, at what ``project`` returned."""
        return (self.shift[:2] - pixels * self.shift[2]) / np.maximum(nearness, 1e-3)[..., None]


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
    seen = pixel_positions(*flow.shape[:2]) + flow
    along = grid.shift[:2] - seen * grid.shift[2]
    gap = seen * grid.infinity[..., 2:] - grid.infinity[..., :2]
    length = np.maximum(np.sqrt((along**2).sum(-1)), 1e-12)
    inverse_depth = (along * gap).sum(-1) / length**2
    nearness = grid.infinity[..., 2] + inverse_depth * grid.shift[2]
    safe = np.maximum(np.abs(nearness), 1e-3)
    across = np.abs(along[..., 0] * gap[..., 1] - along[..., 1] * gap[..., 0]) / length
    # A baseline of nothing has no epipolar lines: all of the gap is residual then.
    still = not grid.shift.any()
    residual = np.sqrt((gap**2).sum(-1)) / safe if still else across / safe
    inverse_depth = np.zeros_like(inverse_depth) if still else np.where(nearness > 0, inverse_depth, -1)
    return Triangulated(inverse_depth.astype(np.float32), (length / safe * (not still)).astype(np.float32), residual)


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
