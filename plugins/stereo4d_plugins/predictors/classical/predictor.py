"""The classical predictor: pairs from dense flow, the clip's cameras and triangulation, without any weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from stereo4d.progress import SILENT, Progress
from stereo4d.types import DYNAMICS, PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.flow import load_flow
from stereo4d.video.pair_graph import Edge
from stereo4d.video.predictor import ClipPredictor, Predictor, Traits
from stereo4d_plugins.predictors.classical.calibration import ClipCalibration, calibrate_clip
from stereo4d_plugins.predictors.classical.clip_depths import ClipDepths
from stereo4d_plugins.predictors.classical.frame_depths import FrameDepth
from stereo4d_plugins.predictors.classical.triangulation import unproject


class ClassicalPredictor(Predictor):
    """Dense flow and two-view geometry."""

    # Pairs further apart than a window reaches tie the ends of a clip together, and depth is a little better for them:
    # 0.067 against 0.070 (AbsRel) on the demo clip, with 162 pairs for 132.
    traits = Traits(licence="Apache-2.0", graph="logwin-4-noncyclic", pair_seconds=1.2e-6, frame_seconds=2e-6)

    def open(
        self,
        clip: Clip,
        edges: Sequence[Edge],
        *,
        intrinsics: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = SILENT,
        query_times: Sequence[float] = (),
    ) -> ClipPredictor:
        """See ``Predictor.open``: finds the cameras of the whole clip; motion is only told to be there."""
        calibration = calibrate_clip(clip.rgb, intrinsics=intrinsics, seed=seed, progress=progress)
        return ClassicalClip(clip, edges, calibration, seed=seed)


class ClassicalClip(ClipPredictor):
    """The classical predictor at work on one clip."""

    def __init__(self, clip: Clip, edges: Sequence[Edge], calibration: ClipCalibration, *, seed: int = 0) -> None:
        """Begin with a clip whose cameras are known as far as they can be."""
        flow = load_flow("dis")
        self._calibration = calibration
        self._depths = ClipDepths(clip.rgb, edges, calibration, flow, seed=seed)
        self._left = Counter(frame for edge in edges for frame in edge)

    def predict(self, edges: Sequence[Edge]) -> PairPrediction:
        """See ``ClipPredictor.predict``."""
        pairs = [self._pair(edge) for edge in edges]
        points0, confidence0, points1, confidence1, moving0, moving1 = (
            torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True)
        )
        moving = {"moving0": moving0, "moving1": moving1}
        return PairPrediction(points0, confidence0, points1, confidence1, {DYNAMICS: moving})

    def remarks(self) -> tuple[str, ...]:
        """See ``ClipPredictor.remarks``."""
        return (*self._calibration.remarks, *self._depths.remarks())

    def _pair(self, edge: Edge) -> tuple[np.ndarray, ...]:
        """Pointmaps and confidences of one pair, as ``PairPrediction`` has them, and what moves in both views."""
        view0, view1, motion = self._depths.pair(edge)
        self._left.subtract(edge)
        self._depths.forget(frame for frame in edge if self._left[frame] <= 0)
        points0 = self._points(edge[0], view0)
        points1 = self._points(edge[1], view1)
        inverse = np.linalg.inv(motion).astype(np.float32)
        points1_in_view0 = points1 @ inverse[:3, :3].T + inverse[:3, 3]
        return points0, view0.confidence, points1_in_view0, view1.confidence, view0.moving, view1.moving

    def _points(self, frame: int, depth: FrameDepth) -> np.ndarray:
        return unproject(depth.inverse_depth, self._calibration.intrinsics[frame])
