"""MonST3R's rule for what moves, for comparison: disagreement of flow, each map stretched to [0, 1], above a share.

Since every map is stretched by itself, a scene in which nothing moves has moving pixels by this rule, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stereo4d.alignment.ego_flow import ego_flow
from stereo4d.geometry.camera import pinhole, pixel_grid
from stereo4d.geometry.pnp import solve_pnp
from stereo4d.geometry.pointmap import estimate_focal
from stereo4d.video.flow import pixel_positions
from stereo4d.video.masks import MaskEvidence, MaskMaker

_REPROJECTION = 5.0
_LEAST_CONFIDENCE = 3.0


@dataclass(frozen=True)
class TwoViews:
    """Two frames as their pair alone sees them."""

    intrinsics: torch.Tensor
    """(2, 3, 3)."""
    cam2world: torch.Tensor
    """(2, 4, 4)."""
    depth: torch.Tensor
    """(2, H, W)."""


@dataclass(frozen=True)
class MinMax(MaskMaker):
    """Mean over pairs of the disagreement, stretched between its least and its most, above a threshold (MonST3R, Zhang
    et al. 2024, section 4.2). Pairs that are stored in one direction only are passed over."""

    threshold: float = 0.35

    def moving(self, evidence: MaskEvidence) -> np.ndarray:
        """See ``MaskMaker.moving``."""
        shape = evidence.clip.rgb.shape[:3]
        total, count = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1), np.float32)
        for couple in evidence.couples:
            if couple[::-1] not in evidence.rows or couple not in evidence.rows:
                continue
            flow, views = evidence.flow(*couple), two_views(evidence, couple)
            for view, said in enumerate((flow.forward, flow.backward)):
                error = np.linalg.norm(_ego_flow(views, view) - said, axis=-1)
                total[couple[view]] += (error - error.min()) / max(float(error.max() - error.min()), 1e-12)
                count[couple[view]] += 1
        return total / np.maximum(count, 1) > self.threshold


def two_views(evidence: MaskEvidence, couple: tuple[int, int]) -> TwoViews:
    """Cameras and depth of two frames from both directions of their pair (DUSt3R, Wang et al. 2024, section 3.3)."""
    ways = (couple, couple[::-1])
    own = [evidence.read(way, "pointmap0") for way in ways]
    other = [evidence.read(way, "pointmap1") for way in ways]
    sure = [[evidence.read(way, f"confidence{view}") for view in (0, 1)] for way in ways]
    height, width = own[0].shape[:2]
    focals = estimate_focal(torch.from_numpy(np.stack(own)))
    lenses = pinhole(torch.nan_to_num(focals, nan=float(max(height, width))), height, width)
    best = int(sure[1][0].mean() * sure[1][1].mean() > sure[0][0].mean() * sure[0][1].mean())
    far = 1 - best
    highest = np.maximum(sure[far][0], sure[best][1])  # of the far frame, over both ways
    counts = highest > _LEAST_CONFIDENCE if (highest > _LEAST_CONFIDENCE).sum() >= 6 else highest > 0
    pose = solve_pnp(
        other[best][counts],
        pixel_positions(height, width)[counts],
        lenses[far].double().numpy(),
        threshold=_REPROJECTION,
    )
    seen = (other[best] - pose.cam2world[:3, 3]) @ pose.cam2world[:3, :3]
    poses = [np.eye(4), np.eye(4)]
    poses[far] = pose.cam2world
    depth = [own[best][..., 2], own[best][..., 2]]
    depth[far] = seen[..., 2]
    return TwoViews(
        lenses.double(), torch.from_numpy(np.stack(poses)), torch.from_numpy(np.stack(depth).astype(np.float64))
    )


def _ego_flow(views: TwoViews, view: int) -> np.ndarray:
    """(H, W, 2) flow from one view to the other by their cameras alone."""
    height, width = views.depth.shape[1:]
    pixels, other = pixel_grid(height, width).double().reshape(-1, 2), 1 - view
    flow, _ = ego_flow(
        *(pixels, views.depth[view].flatten()),
        (views.intrinsics[view], views.intrinsics[other]),
        (views.cam2world[view], views.cam2world[other]),
    )
    return flow.view(height, width, 2).numpy()
