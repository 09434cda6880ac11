"""The contract of pair predictors: they say of two frames where the pixels of both lie, in the first frame's camera.

A predictor is a class found by entry point (group ``stereo4d.predictors``). The network is one; what works without any
weights is another. What a predictor finds out about a whole clip (its focal, its optical flow, its encodings) lives in
the ``ClipPredictor`` that it opens, and goes with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import Edge

GROUP = "stereo4d.predictors"


class ClipPredictor(ABC):
    """A predictor at work on one clip."""

    @abstractmethod
    def predict(self, edges: Sequence[Edge]) -> PairPrediction:
        """What the pairs show.

        Args:
            edges: positions of (view 0, view 1) in the clip, some of those it was opened with, in their order.

        Returns:
            E pairs, float32, finite everywhere, confidence at least 1; on any device.
        """

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user about this clip (no parallax, a focal that cannot be told); none by default."""
        return ()


class Predictor(ABC):
    """Predicts pairs of any clip."""

    @abstractmethod
    def open(
        self,
        clip: Clip,
        edges: Sequence[Edge],
        *,
        intrinsics: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> ClipPredictor:
        """Begin with a clip.

        Args:
            clip: N frames.
            edges: all pairs that will be asked for, as ``pair_graph`` orders them.
            intrinsics: (N, 3, 3) at the resolution of the clip's images where they are known, rows of NaN where not;
                None where nothing is known.
            seed: same seed, same answer.
            progress: told about work on the whole clip.
        """
