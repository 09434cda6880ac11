"""A pair predictor that is told the exact truth of a synthetic clip, motion and maps of further heads included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from stereo4d.data.synthetic.clip import SyntheticTruth, load_truth, synthesize_clip
from stereo4d.network.head import Output
from stereo4d.types import DYNAMICS, PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.head_maps import MOTION, HeadMaps, WrittenMaps
from stereo4d.video.pair_graph import Edge
from stereo4d.video.predictor import ClipPredictor, Predictor, Traits

HEADS = {
    MOTION: HeadMaps(
        (Output("displacement", (3,), frame="view 0", shown_as="arrows"), Output("confidence", shown_as="heat")),
        timed=True,
    ),
    DYNAMICS: HeadMaps((Output("moving", activation="0 ... 1", shown_as="mask"),)),
    "upright": HeadMaps((Output("normal", (3,), frame="view 0", activation="unit length", shown_as="normals"),)),
    "middle": HeadMaps((Output("offset", (3,), frame="view 0", shown_as="heat"), Output("share", shown_as="heat"))),
    "words": HeadMaps((Output("descriptor", (5,)),)),
}
DOWN = np.array([0.0, 1.0, 0.0])


class TruthOnClip(ClipPredictor):
    """Says of every pair what is true, in a unit of the pair's own."""

    batch_size = 4

    def __init__(self, truth: SyntheticTruth, clip: Clip, query_times: Sequence[float]) -> None:
        assert clip.rgb.shape[:3] == truth.clip.depth.shape
        self.truth, self.query_times = truth, tuple(query_times)
        heads = {name: head for name, head in HEADS.items() if query_times or not head.timed}
        self.written = WrittenMaps(heads, self.query_times)

    def predict(self, edges: Sequence[Edge]) -> PairPrediction:
        said = [self._pair(first, second) for first, second in edges]

        def of_all(name: str) -> torch.Tensor:
            return torch.tensor(np.stack([one[name] for one in said]), dtype=torch.float32)

        extras = {head: self._extras(of_all, head, maps) for head, maps in self.written.heads.items()}
        names = ("pointmap0", "confidence0", "pointmap1", "confidence1")
        return PairPrediction(*(of_all(name) for name in names), extras=extras)

    def _extras(self, of_all: Any, head: str, maps: HeadMaps) -> dict[str, torch.Tensor]:
        names = [f"{output.name}{view}" for output in maps.outputs for view in (0, 1)]
        return {name: of_all(f"{head}/{name}") for name in names}

    def _pair(self, *frames: int) -> dict[str, np.ndarray]:
        clip = self.truth.clip
        times, unit = clip.times[list(frames)], unit_of(*frames)
        to_view0 = np.linalg.inv(clip.cam2world[frames[0]].astype(np.float64))
        said: dict[str, np.ndarray] = {}
        for view, frame in enumerate(frames):

            def seen(time: float, frame: int = frame) -> np.ndarray:
                return unit * (self.truth.positions(frame, time) @ to_view0[:3, :3].T + to_view0[:3, 3])

            points = seen(times[view])
            said[f"pointmap{view}"] = points
            said[f"confidence{view}"] = np.full(points.shape[:2], 3.0)
            moved = [seen(times[0] + share * (times[1] - times[0])) - points for share in self.query_times]
            if moved:
                said[f"{MOTION}/displacement{view}"] = np.stack(moved)
                said[f"{MOTION}/confidence{view}"] = np.full((len(moved), *points.shape[:2]), 2.0)
            said[f"{DYNAMICS}/moving{view}"] = np.asarray(clip.dynamic[frame], np.float64)
            said[f"upright/normal{view}"] = np.broadcast_to(to_view0[:3, :3] @ DOWN, points.shape)
            said[f"middle/offset{view}"] = points
            said[f"middle/share{view}"] = np.full(points.shape[:2], float(frames[1]))
            said[f"words/descriptor{view}"] = np.zeros((*points.shape[:2], 5))
        return said


def unit_of(first: int, second: int) -> float:
    """How long the world's unit is in a pair: networks know no scale."""
    return 1.0 + 0.13 * ((3 * first + 5 * second) % 7)


class Truthful(Predictor):
    """Knows the truth that ``install`` was given."""

    truth: ClassVar[SyntheticTruth]
    traits = Traits(size=64, graph="swin-2-noncyclic", steered=False, takes_times=True)

    def open(self, clip: Clip, edges: Sequence[Edge], **told: Any) -> TruthOnClip:  # type: ignore[override]
        return TruthOnClip(self.truth, clip, told.get("query_times", ()))


def install(folder: Path, patch: pytest.MonkeyPatch, truth: SyntheticTruth) -> None:
    """Make ``--weights truthful`` say this truth, for as long as the patch lasts."""
    patch.setattr(Truthful, "truth", truth, raising=False)
    metadata = folder / "truthful-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: truthful\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[stereo4d.predictors]\ntruthful = tests.truthful_predictor:Truthful\n")
    patch.syspath_prepend(str(folder))


def truthful_clip(folder: Path, *, seed: int = 0, frames: int = 5) -> tuple[Path, SyntheticTruth]:
    """The frames of a small synthetic clip, as large as they will be predicted, and the truth about them."""
    synthesize_clip(folder, seed=seed, frames=frames, height=48, width=64)
    return folder / "frames", load_truth(folder)
