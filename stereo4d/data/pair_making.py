"""From two frames of a scene to a pair with its truth, at the size that a network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stereo4d.data.augmentation import NONE, Augmentation
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.pairing import FramePair
from stereo4d.data.posed_frames import Frame, PosedFrames


@dataclass(frozen=True)
class TruthOptions:
    """What of a data set's truth is believed."""

    farthest: float = math.inf
    """Depth from here on is no measurement, in the scene's unit; MonST3R: 80."""
    static: bool = False
    """Scenes stand still: no pixel moves, and motion is zero wherever there is a point."""
    moving_above: float = 0.05
    """Tracks that move further than this, in the scene's unit, mark their pixels as moving, where no mask is given."""
    drop_background: float = 0.0
    """Share of pairs whose background has no truth; 1: all, 0: none."""


def make_pair(
    frames: PosedFrames,
    pair: FramePair,
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    query_times: int = 0,
    options: TruthOptions = TruthOptions(),
    augmentation: Augmentation = NONE,
    portraits: bool = False,
) -> PairBatch:
    """Read two frames, crop them, and work out the truth between them.

    Args:
        frames: the data set.
        pair: which two frames; the same one twice is a pair, too.
        size: (H, W) in pixels of what is returned.
        rng: all that is drawn comes from it.
        query_times: Q times at which motion is known where tracks tell; half an end, half a frame between.
        options: what of the truth is believed.
        augmentation: of colours and crops.
        portraits: crop portrait images to (W, H), and store them transposed; else every image is cropped to ``size``.

    Returns:
        A batch of one.

    Raises:
        InputError: a frame cannot be read, or what it says is no truth; names data set, scene and frame.
    """
    raise NotImplementedError


def read_frame(frames: PosedFrames, scene: str, index: int) -> Frame:
    """A frame of a data set, checked: shapes agree, the pose is rigid, the intrinsics are those of a pinhole.

    Raises:
        InputError: names data set, scene, frame, and what is wrong.
    """
    raise NotImplementedError
