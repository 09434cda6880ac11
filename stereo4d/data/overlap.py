"""Pairs by how much of the scene both frames see, measured from depth and poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.data.pairing import Pairing, PairTable
from stereo4d.data.posed_frames import PosedFrames


@dataclass(frozen=True)
class ByOverlap(Pairing):
    """Frames that share between ``lowest`` and ``highest`` of what they see.

    Every frame's depth is read once, which takes minutes on large data sets; name a ``cache`` folder to keep what was
    measured.
    """

    lowest: float = 0.1
    highest: float = 0.7
    most_apart: int | None = None
    """Frames further apart are not tried; None: all are."""
    cache: str | None = None
    """A folder of yours; None measures again in every run."""

    def table(self, frames: PosedFrames) -> PairTable:
        """Pairs of all scenes, scene by scene."""
        raise NotImplementedError


def overlaps(frames: PosedFrames, scene: str, *, most_apart: int | None = None) -> np.ndarray:
    """(T, T) float32 shares of frame i's measured points that frame j sees, by a coarse grid of pixels.

    A point is seen where it falls inside the image and the depth there agrees. NaN where not tried.
    """
    raise NotImplementedError
