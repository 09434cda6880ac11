"""Depth and confidence of an anchored clip, put together on disk frame by frame, and how well they fit the pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stereo4d.geometry.camera import unproject
from stereo4d.geometry.rigid import invert, transform_points

if TYPE_CHECKING:
    from stereo4d.video.anchored import AnchorView, Star

_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Misfit:
    """How far points lie from where their pairs say, over all pixels."""

    loss: float
    """The alignment's objective (``alignment_loss``)."""
    share: float
    """The weighted mean as a share of the anchor's median depth."""


def write_maps(
    star: Star, seen: AnchorView, cam2anchor: Tensor, intrinsics: Tensor, folder: Path
) -> tuple[np.ndarray, np.ndarray, Misfit]:
    """Write the depth and confidence of all frames.

    Args:
        star: the pairs.
        seen: the anchor.
        cam2anchor: (N, 4, 4) float64 from each camera to the anchor's, in the unit of the answer.
        intrinsics: (N, 3, 3).
        folder: where to write.

    Returns:
        (N, H, W) float16 depth, 0 where a point lies behind its camera, and confidence, memory-mapped; pages that are
        written to are copied. And how well all of it fits.
    """
    paths = [folder / f"anchored-{name}.f16" for name in ("depth", "confidence")]
    misfit, weight, pixels = 0.0, 0.0, 0
    with paths[0].open("wb") as depths, paths[1].open("wb") as confidences:
        for frame in range(len(star.rows)):
            points0, sure0, points1, sure1 = star.read(frame)
            scale, anchored = float(seen.scales[frame]), frame == star.anchor
            if anchored:
                depth, confidence = seen.depth, seen.confidence
            else:
                from_anchor = invert(cam2anchor[frame][None])
                depth, confidence = transform_points(from_anchor, scale * points1.double()[None])[0, ..., 2], sure1
            depth = depth.nan_to_num(0.0, 0.0, 0.0).clamp(0, _HALF)
            depths.write(depth.half().numpy().tobytes())
            confidences.write(confidence.nan_to_num(1.0).clamp(1, _HALF).half().numpy().tobytes())
            if anchored and len(star.rows) > 1:
                continue  # its own points are judged by every pair
            sides = (
                (star.anchor, seen.depth, points0, sure0),
                (frame, depth, points1, sure1),
            )
            for which, own, points, sure in sides:
                off, worth = _distances(own, intrinsics[which], cam2anchor[which], scale * points.double(), sure)
                misfit, weight = misfit + off, weight + worth
            pixels += points0[..., 0].numel()
    shape = (len(star.rows), *seen.depth.shape)
    depth_map, confidence_map = (np.memmap(path, np.float16, mode="c", shape=shape) for path in paths)
    size = max(float(seen.depth[seen.depth > 0].median()), 1e-9)
    return depth_map, confidence_map, Misfit(misfit / pixels, misfit / max(weight, 1e-9) / size)


def _distances(
    depth: Tensor, intrinsics: Tensor, cam2anchor: Tensor, points: Tensor, sure: Tensor
) -> tuple[float, float]:
    """Sum over the pixels of a frame of weighted distances to where a pair puts them, and of the weights."""
    camera = unproject(depth.double()[None], intrinsics[None])
    distance = (transform_points(cam2anchor[None], camera)[0] - points).norm(dim=-1)
    weight = torch.where(distance.isfinite(), sure.double().log(), 0.0)
    return float((weight * distance.nan_to_num(0.0)).sum()), float(weight.sum())
