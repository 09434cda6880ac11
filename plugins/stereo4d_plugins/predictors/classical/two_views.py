"""Pairs whose cameras the clip does not tell: pose and depth from the two views alone, in a unit of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.video.flow import FlowPair, pixel_positions
from stereo4d_plugins.predictors.classical.frame_depths import FrameDepth, frame_depth
from stereo4d_plugins.predictors.classical.measuring import measure
from stereo4d_plugins.predictors.classical.pair_pose import Kind, relative_pose
from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid

_THRESHOLD = 1.0  # pixels
_GRID = 7  # every so many pixels a match


@dataclass(frozen=True)
class TwoViews:
    """What two views say without the rest of the clip."""

    kind: Kind
    """As in ``PairPose``."""
    motion: np.ndarray
    """(4, 4) from camera 0 to camera 1, in the unit of the depths."""
    depths: tuple[FrameDepth, FrameDepth]
    """Of view 0 and of view 1."""


def two_views(
    greys: tuple[np.ndarray, np.ndarray],
    flow: FlowPair,
    intrinsics: tuple[np.ndarray, np.ndarray],
    *,
    seed: int,
) -> TwoViews:
    """Find the pose of two views and the depth of both.

    Args:
        greys: (H, W) float32, 0 ... 255.
        flow: between them.
        intrinsics: (3, 3) pixels each.
        seed: same seed, same answer.
    """
    size = (greys[0].shape[0], greys[0].shape[1])
    points0, points1 = _matches(flow, intrinsics)
    pose = relative_pose(points0, points1, _THRESHOLD / float(intrinsics[0][0, 0]), seed)
    if pose.kind != "parallax":
        empty = tuple(frame_depth([], size, one, 1.0) for one in intrinsics)
        return TwoViews(pose.kind, pose.world2cam1, (empty[0], empty[1]))
    motions = (pose.world2cam1, np.linalg.inv(pose.world2cam1))
    depths = []
    for side, way in ((0, flow), (1, flow.swapped())):
        grid = EpipolarGrid.between(intrinsics[side], intrinsics[1 - side], motions[side], size)
        seen = measure(greys[side], greys[1 - side], way.forward, way.valid0, way.error0, grid)
        depths.append(frame_depth([seen], size, intrinsics[side], 1.0))
    return TwoViews("parallax", pose.world2cam1, (depths[0], depths[1]))


def _matches(flow: FlowPair, intrinsics: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Normalised image coordinates (P, 2) of a grid of pixels in both views."""
    grid = (slice(_GRID // 2, None, _GRID),) * 2
    valid = flow.valid0[grid]
    pixels0 = pixel_positions(*flow.valid0.shape)[grid][valid].astype(np.float64)
    pixels1 = pixels0 + flow.forward[grid][valid]
    pair = zip((pixels0, pixels1), intrinsics, strict=True)
    first, second = ((pixels - one[:2, 2]) / one[[0, 1], [0, 1]] for pixels, one in pair)
    return first, second
