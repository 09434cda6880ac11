"""The contract of optical flow: where the pixels of one image went in another.

A flow is a class found by entry point (group ``stereo4d.flow``), made without arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

GROUP = "stereo4d.flow"


class Flow(ABC):
    """Finds where pixels went."""

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
