"""Which pixels of two images show the same: those that are each other's nearest, by descriptor or by 3D point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from stereo4d.downstream.nearest import nearest, nearest_both_ways
from stereo4d.downstream.pixel_sets import PixelSet, inside, pixel_sets
from stereo4d.errors import UsageError
from stereo4d.types import PairPrediction, PixelMap

DESCRIPTORS = "descriptors"
"""The name in ``PairPrediction.extras`` of ``descriptors0``, ``descriptors1`` and their confidences."""


@dataclass(frozen=True)
class Matches:
    """M pixels of image 0 and the pixels of image 1 that show the same, in reading order of image 0."""

    pixels0: np.ndarray
    """(M, 2) float32 (x, y), pixel centres at integers."""
    pixels1: np.ndarray
    """(M, 2) float32 (x, y)."""
    score: np.ndarray
    """(M,) float32, more is better: the dot product of the descriptors, or less the distance of the points."""

    def __len__(self) -> int:
        return len(self.score)

    def to_original(self, map0: PixelMap, map1: PixelMap) -> Matches:
        """The same matches in pixels of the original images.

        Args:
            map0: from the pixels here to those of the original image 0: ``View.to_original`` of view 0.
            map1: likewise of view 1.
        """
        return replace(self, pixels0=_mapped(self.pixels0, map0), pixels1=_mapped(self.pixels1, map1))


Matcher = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Matches]
"""Matches two maps of features, of those pixels that two masks leave: ``reciprocal_matches`` is one."""


def reciprocal_matches(
    features0: Tensor,
    features1: Tensor,
    usable0: Tensor | None = None,
    usable1: Tensor | None = None,
    *,
    tolerance: float = 0.0,
) -> Matches:
    """All pixels that are each other's most similar, by dot product of their features; of equals the first is taken.

    The work grows with the product of both images' pixels, the memory with their sum.

    Args:
        features0: (H, W, K) of image 0, of unit length if the dot product shall mean nearness.
        features1: (H', W', K) of image 1.
        usable0: (H, W) bool: the pixels that take part; None: all.
        usable1: (H', W') bool.
        tolerance: a pixel matches, too, where the way to the other image and back ends at most this many pixels off.

    Raises:
        ShapeError: the shapes do not fit.
        UsageError: a usable feature is not finite, or the tolerance is negative.
    """
    side0, side1 = pixel_sets(features0, features1, usable0, usable1)
    if not len(side0) or not len(side1):
        return _matches(side0, side1, _no_pairs(features0), features0.new_empty(0))
    there, back = nearest_both_ways(side0.features, side1.features)
    pairs = _cycles(there, back, side0, side1, tolerance)
    return _matches(side0, side1, pairs, _dot_products(side0, side1, pairs))


def fast_reciprocal_matches(
    features0: Tensor,
    features1: Tensor,
    usable0: Tensor | None = None,
    usable1: Tensor | None = None,
    *,
    stride: int = 8,
    rounds: int = 16,
) -> Matches:
    """Some of ``reciprocal_matches``, found in a small part of the time, and spread over image 0.

    A sparse grid of pixels goes to its nearest in the other image, from there back, and on: every step finds pixels at
    least as similar, and the way ends at a pair of each other's nearest (MASt3R, Leroy et al. 2024, section 3.3).

    Args:
        features0: see ``reciprocal_matches``, likewise the next three.
        features1: (H', W', K).
        usable0: (H, W) bool.
        usable1: (H', W') bool.
        stride: of the grid in image 0, in pixels.
        rounds: ways that have not ended after so many rounds are given up.

    Raises:
        ShapeError: the shapes do not fit.
        UsageError: a usable feature is not finite, or the stride or the number of rounds is not positive.
    """
    if stride < 1 or rounds < 1:
        raise UsageError(f"stride {stride} and rounds {rounds} must both be at least 1")
    side0, side1 = pixel_sets(features0, features1, usable0, usable1)
    ended = [_no_pairs(features0)]
    at0 = side0.on_grid(stride) if len(side1) else _no_pairs(features0)[:, 0]
    arrived = torch.zeros(len(side0), dtype=torch.bool, device=at0.device)
    for _ in range(rounds):
        if not len(at0):
            break
        at1 = nearest(side0.features[at0], side1.features)
        back = nearest(side1.features[at1], side0.features)
        stays = back == at0
        ended.append(torch.stack([at0[stays], at1[stays]], dim=1))
        arrived[at0[stays]] = True
        at0 = back[~arrived[back]].unique()  # ways that have met go on as one
    pairs = torch.cat(ended)
    pairs = pairs[pairs[:, 0].argsort()]
    return _matches(side0, side1, pairs, _dot_products(side0, side1, pairs))


def matching_points(
    points0: Tensor,
    points1: Tensor,
    usable0: Tensor | None = None,
    usable1: Tensor | None = None,
    *,
    tolerance: float = 0.0,
) -> Matches:
    """All pixels whose 3D points are each other's nearest.

    Args:
        points0: (H, W, 3) of the pixels of image 0.
        points1: (H', W', 3) of the pixels of image 1, in the same frame and unit.
        usable0: see ``reciprocal_matches``, likewise the next two.
        usable1: (H', W') bool.
        tolerance: in pixels.

    Raises:
        ShapeError: the shapes do not fit.
        UsageError: a usable point is not finite, or the tolerance is negative.
    """
    side0, side1 = pixel_sets(points0, points1, usable0, usable1)
    if not len(side0) or not len(side1):
        return _matches(side0, side1, _no_pairs(points0), points0.new_empty(0))
    numbers0, numbers1 = side0.features.cpu().numpy(), side1.features.cpu().numpy()
    workers = torch.get_num_threads()
    there = torch.from_numpy(cKDTree(numbers1).query(numbers0, workers=workers)[1]).to(points0.device)
    back = torch.from_numpy(cKDTree(numbers0).query(numbers1, workers=workers)[1]).to(points0.device)
    pairs = _cycles(there, back, side0, side1, tolerance)
    apart = side0.features[pairs[:, 0]] - side1.features[pairs[:, 1]]
    return _matches(side0, side1, pairs, -apart.norm(dim=-1))


def match_pair(
    prediction: PairPrediction,
    pair: int = 0,
    *,
    minimum_confidence: float = 0.0,
    border: int = 0,
    descriptor_matcher: Matcher = reciprocal_matches,
) -> Matches:
    """Match the two views of a predicted pair: by descriptors where the network makes them, else by 3D points.

    Args:
        prediction: of E pairs.
        pair: which of them.
        minimum_confidence: only pixels of at least this confidence take part; of the descriptors' where there are
            descriptors, else of the points'.
        border: pixels nearer than this to the edge of their image do not take part.
        descriptor_matcher: how descriptors are matched: ``reciprocal_matches`` or, faster and sparser,
            ``fast_reciprocal_matches``; ``functools.partial`` sets their options.

    Returns:
        Matches in network pixels; ``to_original`` brings them to the images' own.

    Raises:
        UsageError: there is no such pair, the border is negative, or what the pixels are matched by is not finite.
    """
    if not 0 <= pair < len(prediction.pointmap0):
        raise UsageError(f"pair {pair}: the prediction holds pairs 0 to {len(prediction.pointmap0) - 1}")
    by_descriptors = DESCRIPTORS in prediction.extras
    maps = prediction.extras[DESCRIPTORS] if by_descriptors else vars(prediction)
    features, confidence = ("descriptors", "descriptor_confidence") if by_descriptors else ("pointmap", "confidence")
    usable = [inside(maps[f"{confidence}{view}"][pair] >= minimum_confidence, border) for view in (0, 1)]
    matcher = descriptor_matcher if by_descriptors else matching_points
    return matcher(maps[f"{features}0"][pair], maps[f"{features}1"][pair], *usable)


def _cycles(there: Tensor, back: Tensor, side0: PixelSet, side1: PixelSet, tolerance: float) -> Tensor:
    """(M, 2) pairs that come back, from either image: with no tolerance both ways say the same."""
    if tolerance < 0:
        raise UsageError(f"tolerance {tolerance} must be at least 0 pixels")
    from0, from1 = (torch.arange(len(way), device=way.device) for way in (there, back))
    pairs = [torch.stack(pair, dim=1) for pair in ((from0, there), (back, from1))]
    off = [
        (side0.pixels(from0) - side0.pixels(back[there])).norm(dim=1),
        (side1.pixels(from1) - side1.pixels(there[back])).norm(dim=1),
    ]
    kept = [found[distance <= tolerance] for found, distance in zip(pairs, off, strict=True)]
    return torch.cat(kept).unique(dim=0)


def _matches(side0: PixelSet, side1: PixelSet, pairs: Tensor, score: Tensor) -> Matches:
    found = (side0.pixels(pairs[:, 0]), side1.pixels(pairs[:, 1]), score)
    pixels0, pixels1, scores = (value.float().cpu().numpy() for value in found)
    return Matches(pixels0, pixels1, scores)


def _dot_products(side0: PixelSet, side1: PixelSet, pairs: Tensor) -> Tensor:
    return (side0.features[pairs[:, 0]] * side1.features[pairs[:, 1]]).sum(1)


def _no_pairs(features: Tensor) -> Tensor:
    return torch.empty(0, 2, dtype=torch.int64, device=features.device)


def _mapped(pixels: np.ndarray, pixel_map: PixelMap) -> np.ndarray:
    scale = np.array([pixel_map.scale_u, pixel_map.scale_v])
    return (pixels * scale + [pixel_map.offset_u, pixel_map.offset_v]).astype(np.float32)
