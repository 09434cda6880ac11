"""What a camera does over a clip, by optical flow: it moves, it only turns, or it stands still."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np

_STILL = 0.35  # pixels: flow of a camera on a tripod, noise included
_TURNS = 0.5  # pixels that a pure turn may leave unexplained, and
_TURNS_SHARE = 0.06  # this share of the flow
_LEAST_CELLS = 20
_ROUNDS = 5


class CameraKind(Enum):
    """What a camera does."""

    MOVES = "moves"
    TURNS = "only turns"
    STILL = "stands still"

    def words(self) -> str:
        """What that means for the scene."""
        if self is CameraKind.MOVES:
            return "the camera moves"
        return f"the camera {self.value}: there is no parallax, and how far things are is the predictor's guess alone"


def camera_kind(
    looks: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]],
    intrinsics: np.ndarray,
    moving: np.ndarray,
    side: int,
) -> CameraKind:
    """What the camera of a clip does.

    Args:
        looks: for pairs of frames, flow (h, w, 2) in pixels on squares of pixels, and its weight (h, w).
        intrinsics: (3, 3) pixels.
        moving: (N, H, W) bool: pixels that are not heard.
        side: of the squares, in pixels.
    """
    lengths, left = [], []
    for (first, _), (flow, weight) in looks.items():
        rows, columns = weight.shape
        pixels = (np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1) + 0.5) * side - 0.5
        still = ~moving[first, side // 2 :: side, side // 2 :: side][:rows, :columns]
        heard = still & (weight > 0.5)
        if heard.sum() < _LEAST_CELLS:
            continue
        lengths.append(float(np.median(np.linalg.norm(flow[heard], axis=-1))))
        left.append(float(np.quantile(_beyond_turning(pixels[heard], flow[heard], intrinsics), 0.8)))
    if not lengths or max(lengths) < _STILL:
        return CameraKind.STILL if lengths else CameraKind.MOVES
    turns = all(rest < max(_TURNS, _TURNS_SHARE * length) for rest, length in zip(left, lengths, strict=True))
    return CameraKind.TURNS if turns else CameraKind.MOVES


def _beyond_turning(pixels: np.ndarray, flow: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(P,) pixels between flow and the turn of the camera that explains most of it."""
    there = pixels + flow
    inverse = np.linalg.inv(intrinsics)
    first, second = (np.c_[ends, np.ones(len(ends))] @ inverse.T for ends in (pixels, there))
    unit = [rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (first, second)]
    weight = np.ones(len(pixels))
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd((unit[1] * weight[:, None]).T @ unit[0])
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        turned = first @ turn.T @ intrinsics.T
        away = np.linalg.norm(turned[:, :2] / turned[:, 2:] - there, axis=1)
        weight = 1 / np.maximum(away, 0.1)
    return away
