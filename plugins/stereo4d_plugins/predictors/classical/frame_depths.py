"""Depth of every frame of a clip, from all partners that show it with parallax, in the unit of the clip's cameras."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from stereo4d.video.flow import FlowPair
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.pair_graph import Edge
from stereo4d_plugins.predictors.classical.confidence import LEAST, confidence
from stereo4d_plugins.predictors.classical.filling import fill
from stereo4d_plugins.predictors.classical.fusion import Fused, fuse
from stereo4d_plugins.predictors.classical.measuring import Measured, measure
from stereo4d_plugins.predictors.classical.standing import stand
from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid

_WORKERS = min(4, os.cpu_count() or 1)
_UNSURE = 0.5  # confidence above the least at which a depth counts half when holes are filled
_AROUND = 15  # pixels of a neighbourhood
_COMPANY = 3.0  # a depth counts fully where a third of its neighbourhood has one
_FAINT = 0.3  # of the median weight; what is fainter is filled over
_MOSTLY = 0.4  # share of partners that contradict a pixel for it to belong to something that moves
_NEAREST = 20.0  # inverse depths are kept within this factor of their median
_FARTHEST = 50.0


@dataclass(frozen=True)
class FrameDepth:
    """The pixels (H, W) of a frame."""

    inverse_depth: np.ndarray
    """(H, W) float32, positive and finite everywhere, holes filled."""
    confidence: np.ndarray
    """(H, W) float32, above 1."""
    moving: np.ndarray
    """(H, W) float32, 0 ... 1: share of the partners that contradict a point that stands still."""


def partners_of(edges: Sequence[Edge], strides: Sequence[int], frames: int) -> dict[int, tuple[int, ...]]:
    """The frames that each frame is triangulated with: those it is paired with, and those some strides away.

    Args:
        edges: pairs of the clip.
        strides: further distances in frames.
        frames: N.
    """
    partners: dict[int, set[int]] = {frame: set() for edge in edges for frame in edge}
    for i, j in edges:
        partners[i].add(j)
        partners[j].add(i)
    for frame, others in partners.items():
        others.update(frame + step for stride in strides for step in (-stride, stride) if 0 <= frame + step < frames)
        others.discard(frame)
    return {frame: tuple(sorted(others)) for frame, others in partners.items()}


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W) float32, 0 ... 255, of (H, W, 3) uint8 RGB; the finest grain, which is noise, smoothed away."""
    return cv2.GaussianBlur(
        cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.8
    )


def measure_frame(
    frame: int,
    partners: Sequence[int],
    flows: FlowCache,
    greys: Mapping[int, np.ndarray],
    intrinsics: np.ndarray,
    world2cam: np.ndarray,
) -> list[Measured]:
    """What each partner says of a frame.

    Args:
        frame: position in the clip.
        partners: positions of its partners.
        flows: of the clip.
        greys: images by position, as of ``grey``.
        intrinsics: (N, 3, 3) pixels.
        world2cam: (N, 4, 4).
    """
    pairs = [(partner, flows.between(frame, partner)) for partner in partners]

    def with_partner(pair: tuple[int, FlowPair]) -> Measured:
        """What the flow to one partner says of this frame's depth."""
        partner, flow = pair
        motion = world2cam[partner] @ np.linalg.inv(world2cam[frame])
        grid = EpipolarGrid.between(intrinsics[frame], intrinsics[partner], motion, greys[frame].shape)
        return measure(greys[frame], greys[partner], flow.forward, flow.valid0, flow.error0, grid)

    # NumPy and OpenCV let go of the interpreter while they work.
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        return list(pool.map(with_partner, pairs))


def frame_depth(
    measured: Sequence[Measured], size: tuple[int, int], intrinsics: np.ndarray, typical: float
) -> FrameDepth:
    """One depth for every pixel of a frame.

    Args:
        measured: what its partners say; may be empty.
        size: (H, W).
        intrinsics: (3, 3) pixels, of the frame.
        typical: inverse depth to put pixels at where nothing is known, along their rays.
    """
    agreeing = [one for one in measured if one.agrees and one.pixels_per_unit > 0]
    if not agreeing:
        unknown = np.full(size, LEAST, np.float32), np.zeros(size, np.float32)
        return FrameDepth(sphere(size, intrinsics, typical), *unknown)
    return _filled(fuse(agreeing), typical)


def sphere(size: tuple[int, int], intrinsics: np.ndarray, inverse_distance: float) -> np.ndarray:
    """(H, W) float32 inverse depth of points that are all equally far from the camera, so that turning moves none."""
    v, u = np.mgrid[: size[0], : size[1]].astype(np.float32)
    plane = ((u - intrinsics[0, 2]) / intrinsics[0, 0]) ** 2 + ((v - intrinsics[1, 2]) / intrinsics[1, 1]) ** 2
    return (inverse_distance * np.sqrt(1 + plane)).astype(np.float32)


def _filled(fused: Fused, typical: float) -> FrameDepth:
    sure = confidence(fused.inverse_depth, fused.deviation, fused.moving)
    weight = (sure - LEAST) / (sure - LEAST + _UNSURE)
    # A few pixels alone among unknown ones are chance matches: they should not colour a whole hole.
    weight = weight * np.clip(_COMPANY * cv2.blur(weight, (_AROUND, _AROUND)), 0, 1)
    if (weight > 0).any():
        weight = np.where(weight < _FAINT * np.median(weight[weight > 0]), 0, weight)
    known = weight > 0
    middle = float(np.median(fused.inverse_depth[known])) if known.sum() > known.size / 100 else typical
    bounded = np.clip(fused.inverse_depth, middle / _FARTHEST, middle * _NEAREST)
    filled = stand(fill(bounded, weight.astype(np.float32), middle), known, fused.moving > _MOSTLY)
    moving = np.asarray(fused.moving, np.float32)
    return FrameDepth(np.clip(filled, middle / _FARTHEST, middle * _NEAREST), sure, moving)
