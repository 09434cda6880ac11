"""What moves by flow: pixels that optical flow saw go elsewhere than a scene at rest would have.

For every pair of frames the second camera is found from the first one's points and where flow carries them (PnP, robust
to what moves). What is left over is compared with what is left over of the still majority, so that noisy flow or depth
raises the threshold and does not fill the masks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from stereo4d.geometry.pnp import solve_pnp
from stereo4d.video.flow import pixel_positions
from stereo4d.video.masks import MaskEvidence, MaskMaker

_MOST_POINTS = 1500
_STILL_QUANTILE = 0.3
_RAYLEIGH = (-2 * np.log(1 - _STILL_QUANTILE)) ** 0.5
_MOST_RATIO = 3.0
_NOTHING = 1e-6


@dataclass(frozen=True)
class EgoFlow(MaskMaker):
    """Disagreement of ego flow and optical flow, above a threshold in pixels that grows with their noise."""

    least: float = 1.0
    """Pixels: disagreements below it are never motion."""
    deviations: float = 3.5
    """Standard deviations of the still pixels' disagreement above which a pixel moves."""
    window: int = 5
    """Pixels: masks are smoothed by a median of this side."""

    def moving(self, evidence: MaskEvidence) -> np.ndarray:
        """See ``MaskMaker.moving``: the mean over all partners of a frame of disagreement over threshold, above one.

        Partners count by how far pixels went between them: where they hardly moved nothing could be seen.
        """
        masks = np.zeros(evidence.clip.rgb.shape[:3], bool)
        left = Counter(frame for couple in evidence.couples for frame in couple)
        sums: dict[int, np.ndarray] = {}  # of frames that are not finished: ratios, and what they count for
        for couple in evidence.couples:
            for first, second in (couple, couple[::-1]):
                ratio, valid = self._ratio(evidence, first, second)
                way = np.linalg.norm(evidence.flow(first, second).forward[valid], axis=-1)
                # A pixel for all: under a camera that stands still, most pixels go nowhere.
                weight = valid * np.float32(self.least + (np.median(way) if len(way) else 0))
                told = np.stack([weight * np.minimum(ratio, _MOST_RATIO), weight]).astype(np.float32)
                sums[first] = sums[first] + told if first in sums else told
                left[first] -= 1
                if not left[first]:
                    total, count = sums.pop(first)
                    masks[first] = median_filter(total / np.maximum(count, _NOTHING), self.window) > 1
        return masks

    def _ratio(self, evidence: MaskEvidence, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) disagreement over threshold at the first frame's pixels, and where it means anything."""
        flow = evidence.flow(first, second)
        points = _points(evidence, first, second)
        valid = flow.valid0 & np.isfinite(points).all(-1)
        found = disagreement(points, flow.forward, valid, evidence.intrinsics[second])
        if found is None:
            return np.zeros(valid.shape, np.float32), np.zeros_like(valid)
        noise = float(np.quantile(found[valid], _STILL_QUANTILE)) / _RAYLEIGH
        return found / max(self.least, self.deviations * noise), valid


def disagreement(points: np.ndarray, flow: np.ndarray, valid: np.ndarray, intrinsics: np.ndarray) -> np.ndarray | None:
    """(H, W) pixels between where flow carries pixels and where the best camera for most of them sees their points.

    Args:
        points: (H, W, 3) of the pixels, in any frame.
        flow: (H, W, 2) pixels.
        valid: (H, W) bool: pixels that are heard.
        intrinsics: (3, 3) of the camera that the flow leads to.

    Returns:
        None where no camera is found: too few pixels are heard, or they agree on none.
    """
    height, width = valid.shape
    target = pixel_positions(height, width) + flow
    rows = np.flatnonzero(valid)
    if len(rows) < 50:
        return None
    rows = rows[:: max(1, len(rows) // _MOST_POINTS)]
    there, seen = target.reshape(-1, 2)[rows], points.reshape(-1, 3)[rows]
    threshold = max(1.0, 0.005 * max(height, width))
    pose = solve_pnp(seen, there, intrinsics, threshold=threshold, iterations=300)
    if pose.inliers < 0.1 * len(rows):
        return None
    camera = (points - pose.cam2world[:3, 3]) @ pose.cam2world[:3, :3]
    depth = np.maximum(camera[..., 2:], 1e-3 * np.median(np.abs(camera[..., 2])) + 1e-12)
    arrived = camera[..., :2] / depth * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    return np.linalg.norm(arrived - target, axis=-1).astype(np.float32)


def _points(evidence: MaskEvidence, first: int, second: int) -> np.ndarray:
    """(H, W, 3) what the pair says of the first frame's pixels, in one of its cameras."""
    if (first, second) not in evidence.rows:
        return evidence.read((second, first), "pointmap1")
    # On their own pixels' rays: what points are off sideways would be taken for flow.
    depth = evidence.read((first, second), "pointmap0")[..., 2]
    height, width = depth.shape
    flat = np.concatenate([pixel_positions(height, width), np.ones((height, width, 1), np.float32)], -1)
    rays = flat @ np.linalg.inv(evidence.intrinsics[first]).T.astype(np.float32)
    return np.where(depth > 0, depth, np.nan)[..., None] * rays
