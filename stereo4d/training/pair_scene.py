"""One pair as a scene of two frames, for viewers: as it is, or as a network sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch
from stereo4d.geometry.pnp import pnp_of_pointmap
from stereo4d.geometry.rigid import invert, transform_points
from stereo4d.network.objective import mean_distance
from stereo4d.types import PairPrediction, Scene


@dataclass(frozen=True)
class _Seen:
    """One frame, upright."""

    rgb: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray
    intrinsics: np.ndarray
    cam2world: np.ndarray


def true_scene(pair: PairBatch) -> Scene:
    """The truth of a batch of one pair; view 0's camera is the world."""
    known = [torch.where(valid, 2.0, 1.0) for valid in (pair.valid0, pair.valid1)]
    return _scene(pair, (pair.pointmap0, pair.pointmap1), (pair.valid0, pair.valid1), known, pair.relative)


def predicted_scene(pair: PairBatch, prediction: PairPrediction) -> Scene:
    """What a network says of a batch of one pair, at the scale of the truth, so that both can be compared.

    Intrinsics are the pair's own; camera 1 is where its pixels are best explained by the predicted points (PnP), or
    where it truly is while they explain nothing yet.
    """
    points = (prediction.pointmap0, prediction.pointmap1)
    valid = (pair.valid0, pair.valid1)
    scale = (mean_distance(pair.pointmap0, pair.pointmap1, *valid) / mean_distance(*points, *valid))[0]
    scaled = [value * scale for value in points]
    found = pnp_of_pointmap(scaled[1][0], pair.intrinsics1[0], prediction.confidence1[0])
    relative = torch.from_numpy(found.cam2world).float()[None] if found.inliers else pair.relative
    everywhere = torch.ones_like(pair.valid0)
    confidences = [prediction.confidence0, prediction.confidence1]
    return _scene(pair, scaled, (everywhere, everywhere), confidences, relative)


def _scene(
    pair: PairBatch,
    points: tuple[Tensor, ...] | list[Tensor],
    valid: tuple[Tensor, Tensor],
    confidences: list[Tensor],
    relative: Tensor,
) -> Scene:
    poses = torch.eye(4)[None], relative
    images, intrinsics = (pair.image0, pair.image1), (pair.intrinsics0, pair.intrinsics1)
    seen = []
    for view, portrait in enumerate((bool(pair.portrait0[0]), bool(pair.portrait1[0]))):
        depth = torch.where(valid[view], transform_points(invert(poses[view]), points[view])[..., 2], 0)[0]
        seen.append(_upright(images[view][0], depth, confidences[view][0], intrinsics[view][0], portrait, poses[view]))
    count = range(len(seen))
    return Scene(
        cam2world=np.stack([frame.cam2world for frame in seen]),
        intrinsics=np.stack([frame.intrinsics for frame in seen]).astype(np.float32),
        depth=np.stack([frame.depth for frame in seen]).astype(np.float16),
        confidence=np.stack([frame.confidence for frame in seen]).astype(np.float16),
        dynamic=np.zeros((2, *seen[0].depth.shape), np.uint8),
        rgb=np.stack([frame.rgb for frame in seen]),
        times=np.array(count, np.float64),
        frame_indices=np.array(count, np.int64),
        intrinsics_original=np.stack([frame.intrinsics for frame in seen]).astype(np.float64),
        original_sizes=np.array([frame.depth.shape for frame in seen], np.int64),
        manifest={"pair": pair.names[0]},
    )


def _upright(
    image: Tensor, depth: Tensor, confidence: Tensor, intrinsics: Tensor, portrait: bool, cam2world: Tensor
) -> _Seen:
    """A frame as it stands: (3, H, W) image, (H, W) maps, (3, 3) intrinsics, (1, 4, 4) pose."""
    if portrait:
        image, depth, confidence = image.transpose(1, 2), depth.T, confidence.T
        intrinsics = intrinsics[[1, 0, 2]]  # stored rows give the stored column first, which is the upright row
    colours = ((image.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte()
    largest = torch.finfo(torch.float16).max
    return _Seen(
        rgb=colours.contiguous().numpy(),
        depth=depth.clamp(max=largest).numpy(),
        confidence=confidence.clamp(max=largest).numpy(),
        intrinsics=intrinsics.numpy(),
        cam2world=cam2world[0].numpy(),
    )
