"""A camera's pose from 3D points and the pixels that see them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.geometry.camera import pixel_grid

_MINIMUM_POINTS = 6
_MOST_POINTS = 4096


@dataclass(frozen=True)
class PnpPose:
    """A camera found by PnP."""

    cam2world: np.ndarray
    """(4, 4) float64, in the frame of the points; the identity where PnP failed."""
    inliers: int
    """Points that reproject within the threshold; 0 where PnP failed."""


def inlier_threshold(height: int, width: int) -> float:
    """Reprojection error of an inlier in pixels: 1 % of the longer side (5 px at 512), at least half a pixel."""
    return max(0.5, 0.01 * max(height, width))


def solve_pnp(
    points: np.ndarray,
    pixels: np.ndarray,
    intrinsics: np.ndarray,
    *,
    threshold: float,
    iterations: int = 100,
    seed: int = 0,
) -> PnpPose:
    """Pose of a calibrated camera from correspondences, robust to wrong ones (RANSAC over SQPNP, then refined).

    Args:
        points: (P, 3), in any one frame.
        pixels: (P, 2) as (u, v), pixel centres at integers.
        intrinsics: (3, 3) in pixels.
        threshold: reprojection error of an inlier, in pixels; see ``inlier_threshold``.
        iterations: RANSAC rounds at most.
        seed: the same seed gives the same answer.

    Returns:
        The pose; inliers 0 and the identity where there is none (fewer than 6 finite points, no consensus).

    Raises:
        ShapeError: the shapes do not fit.
    """
    if points.shape != (len(pixels), 3) or pixels.shape[1:] != (2,) or intrinsics.shape != (3, 3):
        raise ShapeError(
            f"points {points.shape}, pixels {pixels.shape}, intrinsics {intrinsics.shape}: not (P, 3), (P, 2), (3, 3)"
        )
    failed = PnpPose(np.eye(4), 0)
    finite = np.isfinite(points).all(1)
    points, pixels = points[finite].astype(np.float64), pixels[finite].astype(np.float64)
    camera = intrinsics.astype(np.float64)
    spread = float(np.abs(points - np.median(points, 0)).max()) if len(points) else 0.0
    if len(points) < _MINIMUM_POINTS or spread == 0.0 or not np.isfinite(camera).all():
        return failed
    cv2.setRNGSeed(seed)
    try:
        found, rotation, translation, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            camera,
            None,
            iterationsCount=iterations,
            reprojectionError=threshold,
            flags=cv2.SOLVEPNP_SQPNP,
        )
        if not found or inliers is None or len(inliers) < _MINIMUM_POINTS:
            return failed
        points, pixels = points[inliers[:, 0]], pixels[inliers[:, 0]]
        rotation, translation = cv2.solvePnPRefineLM(points, pixels, camera, None, rotation, translation)
    except cv2.error:
        # OpenCV raises for configurations without an answer (all points on a line, behind the camera).
        return failed
    world2cam = np.eye(4)
    world2cam[:3, :3], world2cam[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    if not np.isfinite(world2cam).all():
        return failed
    return PnpPose(np.linalg.inv(world2cam), len(points))


def pnp_of_pointmap(
    pointmap: Tensor,
    intrinsics: Tensor,
    confidence: Tensor | None = None,
    *,
    threshold: float | None = None,
    iterations: int = 100,
    seed: int = 0,
) -> PnpPose:
    """Pose of the camera whose pixels a pointmap describes, in the frame of the pointmap.

    Args:
        pointmap: (H, W, 3) points of the camera's pixels in some other frame (e.g. ``pointmap1``).
        intrinsics: (3, 3) of that camera, in pixels.
        confidence: (H, W); the half of the pixels that is most confident takes part. None: all pixels.
        threshold: reprojection error of an inlier in pixels; None: ``inlier_threshold``.
        iterations: RANSAC rounds at most.
        seed: the same seed gives the same answer.
    """
    height, width, _ = pointmap.shape
    points = pointmap.reshape(-1, 3)
    pixels = pixel_grid(height, width).reshape(-1, 2)
    if confidence is not None:
        weight = confidence.flatten()
        keep = weight >= weight.median()
        points, pixels = points[keep], pixels[keep.cpu()]
    stride = max(1, -(-len(points) // _MOST_POINTS))
    return solve_pnp(
        points[::stride].double().cpu().numpy(),
        pixels[::stride].double().numpy(),
        intrinsics.double().cpu().numpy(),
        threshold=inlier_threshold(height, width) if threshold is None else threshold,
        iterations=iterations,
        seed=seed,
    )
