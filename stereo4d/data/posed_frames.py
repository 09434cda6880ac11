"""What a data set is to training: scenes of posed frames, read by one class.

Choosing pairs, cropping, augmenting, mixing and batching are the same for all data sets, and not theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.data.conventions import Conventions


@dataclass(frozen=True)
class Frame:
    """One image with what is known of it, at the data set's own resolution, upright."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    intrinsics: np.ndarray
    """(3, 3) float64, pixels of ``rgb``, pixel centres at integers, no skew."""
    cam2world: np.ndarray
    """(4, 4) float64, OpenCV axes, the scene's unit."""
    depth: np.ndarray | None = None
    """(H, W) float32 along the optical axis, the scene's unit; not measured where it is <= 0 or NaN. None: the
    geometry is known by the scene's tracks."""
    moving: np.ndarray | None = None
    """(H, W) bool: the surface moves on its own. None: not known, or to be read off the tracks."""
    sky: np.ndarray | None = None
    """(H, W) bool."""
    background: np.ndarray | None = None
    """(H, W) bool: around the object that the scene is about; for data sets that know, and may give it no truth."""


class PosedFrames(ABC):
    """Scenes, each a sequence of frames that share a world.

    Objects are sent to the loader's worker processes: keep them small and picklable, read files when asked.
    """

    name: str
    """Of the data set, for messages and logs."""
    metric: bool = False
    """Lengths are metres."""
    conventions: Conventions = Conventions()
    """What its files say, where users can choose; ``check-data`` names the one that is wrong."""

    @abstractmethod
    def scenes(self) -> Sequence[str]:
        """Names of all scenes, in a fixed order.

        Raises:
            InputError: the root is missing, or holds none; says where it looked and what for.
        """

    @abstractmethod
    def times(self, scene: str) -> np.ndarray:
        """(T,) float64 seconds of the scene's frames, ascending."""

    @abstractmethod
    def frame(self, scene: str, index: int) -> Frame:
        """A frame of a scene, 0 <= index < T.

        Raises:
            InputError: a file of it is missing, damaged, or of another size than the image; names the file.
        """

    def tracks(self, scene: str, index: int) -> np.ndarray | None:
        """(N, 3) float64: where the scene's tracked surface points are in the world at that frame; NaN where unknown.

        Row n is the same surface point in every frame. None: the data set has no tracks.
        """
        return None
