"""The contract of optical flow: where the pixels of one image went in another, and where that is to be believed.

A flow is a class found by entry point (group ``stereo4d.flow``). ``--flow NAME`` makes it without arguments,
``--flow FILE`` makes the one named ``raft`` with the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d import registry
from stereo4d.errors import PluginError, UsageError

GROUP = "stereo4d.flow"
DEFAULT = "dis"
_FROM_FILE = "raft"
_TOLERANCE = 1.0  # pixels that the way there and back may miss by
_RELATIVE_TOLERANCE = 0.02  # and per pixel of displacement


class Flow(ABC):
    """Finds where pixels went."""

    seconds_per_pixel: float = 0.3e-6
    """What one flow takes on one core of a 2020s server, for the estimates of ``--dry-run``."""

    @abstractmethod
    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        """The displacement of every pixel.

        Args:
            image0: (H, W, 3) uint8 RGB.
            image1: (H, W, 3) uint8 RGB.

        Returns:
            (H, W, 2) float32 pixels (right, down): what is at ``p`` in ``image0`` is at ``p + flow[p]`` in ``image1``.
            Finite everywhere; where nothing can be told, a guess.
        """


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


def load_flow(name: str = DEFAULT) -> Flow:
    """The flow that ``--flow`` means: an installed one by its name, or RAFT from a weights file.

    Raises:
        UsageError: neither.
        PluginError: the entry point names something else.
        CheckpointError: the file cannot be used.
    """
    known = registry.installed(GROUP)
    from_file = name not in known and Path(name).is_file()
    if name not in known and not from_file:
        raise UsageError(
            f"--flow {name!r} is neither installed ({', '.join(known)}) nor a file; give one of these names, or a file "
            "of RAFT weights as torchvision saves them"
        )
    make: Any = registry.load_class(GROUP, _FROM_FILE if from_file else name, Flow)
    try:
        return make(name) if from_file else make()
    except TypeError as error:
        raise UsageError(f"--flow {name}: cannot be made without a file ({error}); give the weights file") from error


def flow_pair(flow: Flow, image0: np.ndarray, image1: np.ndarray) -> FlowPair:
    """Find the flow between two images both ways.

    Args:
        flow: which flow.
        image0: (H, W, 3) uint8 RGB.
        image1: (H, W, 3) uint8 RGB.

    Raises:
        PluginError: the flow is of the wrong size.
    """
    return checked_both_ways(_right_size(flow, image0, image1), _right_size(flow, image1, image0))


def checked_both_ways(forward: np.ndarray, backward: np.ndarray) -> FlowPair:
    """Flow with its validity: the way there and back must end where it began, within 1 px and 2 % of its length.

    Args:
        forward: (H, W, 2) pixels; what is not finite is not valid.
        backward: (H, W, 2), of the other image.
    """
    lost0, lost1 = (~np.isfinite(flow).all(-1) for flow in (forward, backward))
    forward, backward = (np.nan_to_num(flow, posinf=0, neginf=0).astype(np.float32) for flow in (forward, backward))
    error0, error1 = round_trip_error(forward, backward), round_trip_error(backward, forward)
    valid0, valid1 = _agrees(error0, forward) & ~lost0, _agrees(error1, backward) & ~lost1
    return FlowPair(forward, backward, valid0, valid1, error0, error1)


def round_trip_error(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(H, W) pixels by which going there and back misses the beginning; the image's diagonal for who leaves the image.

    Args:
        there: (H, W, 2) float32 flow.
        back: (H, W, 2) float32 flow of the other image.
    """
    import cv2

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


def _right_size(flow: Flow, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
    found = flow.flow(image0, image1)
    if found.shape != (*image0.shape[:2], 2):
        raise PluginError(
            f"{type(flow).__name__}: flow is {found.shape}, but images of {image0.shape[1]}x{image0.shape[0]} (width x "
            f"height) need {(*image0.shape[:2], 2)}; mend the flow, or take another (--flow {DEFAULT})"
        )
    return found


def _agrees(error: np.ndarray, there: np.ndarray) -> np.ndarray:
    length = np.sqrt(there[..., 0] ** 2 + there[..., 1] ** 2)
    return error < _TOLERANCE + _RELATIVE_TOLERANCE * length
