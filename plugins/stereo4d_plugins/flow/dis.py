"""Dense inverse search (Kroeger et al. 2016), as OpenCV has it: optical flow without weights."""

from __future__ import annotations

import cv2
import numpy as np

from stereo4d.video.flow import Flow


class Dis(Flow):
    """Dense inverse search with a thorough variational refinement."""

    def __init__(self, *, finest_scale: int = 1, refinement_steps: int = 10, smoothness: float = 40.0) -> None:
        """Choose what precision costs.

        Args:
            finest_scale: patches are matched down to images halved this many times. 0 takes three times as long for a
                fifth less error.
            refinement_steps: variational steps on each scale.
            smoothness: weight of smoothness in the variational steps; OpenCV's own choice is 20.
        """
        self._engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._engine.setFinestScale(finest_scale)
        self._engine.setVariationalRefinementIterations(refinement_steps)
        self._engine.setVariationalRefinementAlpha(smoothness)

    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        """See ``Flow.flow``."""
        grey0, grey1 = (cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in (image0, image1))
        return self._engine.calc(grey0, grey1, None)
