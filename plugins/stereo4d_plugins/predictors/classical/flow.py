"""Optical flow of a pair both ways, and where the two ways agree."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stereo4d.video.flow import Flow

_TOLERANCE = 1.0  # pixels that the way there and back may miss by
_RELATIVE_TOLERANCE = 0.02  # and per pixel of displacement


@dataclass(frozen=True)
class FlowPair:
    """Flow between two images, (H, W) each, both ways."""

    forward: np.ndarray
    """(H, W, 2) float32 pixels: from view 0 to view 1."""
    backward: np.ndarray
    """(H, W, 2) float32 pixels: from view 1 to view 0."""
    valid0: np.ndarray
    """(H, W) bool: the pixel of view 0 arrives inside view 1 and comes back to where it began."""
    valid1: np.ndarray
    """(H, W) bool: likewise for view 1."""
    error0: np.ndarray
    """(H, W) float32 pixels by which view 0's pixels miss their beginning; the image's diagonal where they leave."""
    error1: np.ndarray
    """(H, W) float32: likewise for view 1."""

    def swapped(self) -> FlowPair:
        """The same flow with the views exchanged."""
        return FlowPair(self.backward, self.forward, self.valid1, self.valid0, self.error1, self.error0)


def flow_pair(flow: Flow, image0: np.ndarray, image1: np.ndarray) -> FlowPair:
    """Find the flow between two images both ways.

    Args:
        flow: which flow.
        image0: (H, W, 3) uint8 RGB.
        image1: (H, W, 3) uint8 RGB.
    """
    forward, backward = flow.flow(image0, image1), flow.flow(image1, image0)
    error0, error1 = round_trip_error(forward, backward), round_trip_error(backward, forward)
    return FlowPair(forward, backward, _agrees(error0, forward), _agrees(error1, backward), error0, error1)


def round_trip_error(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(H, W) pixels by which going there and back misses the beginning; the image's diagonal for who leaves the image.

    Args:
        there: (H, W, 2) float32 flow.
        back: (H, W, 2) float32 flow of the other image.
    """
    height, width = there.shape[:2]
    target = pixel_positions(height, width) + there
    u, v = target[..., 0], target[..., 1]
    returned = cv2.remap(back, target, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = there + returned
    error = np.sqrt(missed[..., 0] ** 2 + missed[..., 1] ** 2)
    outside = (u < 0) | (v < 0) | (u > width - 1) | (v > height - 1)
    return np.where(outside, np.float32(np.hypot(height, width)), error)


def pixel_positions(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32 (u, v) of every pixel."""
    v, u = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([u, v], -1)


def _agrees(error: np.ndarray, there: np.ndarray) -> np.ndarray:
    length = np.sqrt(there[..., 0] ** 2 + there[..., 1] ** 2)
    return error < _TOLERANCE + _RELATIVE_TOLERANCE * length
