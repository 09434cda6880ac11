"""Predict the pairs of a clip, batch by batch, whoever predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stereo4d.errors import PluginError
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.pair_graph import Edge
from stereo4d.video.predictor import ClipPredictor


@dataclass(frozen=True)
class PredictedBatch:
    """A batch of pairs with what the predictor says about them."""

    edges: tuple[Edge, ...]
    """Positions of (view 0, view 1) in the clip."""
    prediction: PairPrediction
    """On the CPU, float32, in the order of ``edges``."""


def predict_pairs(
    at_work: ClipPredictor, edges: Sequence[Edge], *, batch_size: int | None = None, progress: Progress = SILENT
) -> Iterator[PredictedBatch]:
    """Predict all pairs, batch by batch, in the order of ``edges``.

    Args:
        at_work: a predictor, opened on the clip and these edges.
        edges: positions of (view 0, view 1) in the clip, as ``pair_graph`` orders them.
        batch_size: pairs at a time; by default as many as the predictor likes.
        progress: told about every pair.

    Raises:
        PluginError: the predictor's answer has the wrong shape.
    """
    batch_size = batch_size or at_work.batch_size
    with progress.stage("pairs", len(edges), "pair") as stage:
        for start in range(0, len(edges), batch_size):
            batch = tuple(edges[start : start + batch_size])
            prediction = at_work.predict(batch).on_cpu()
            _check(prediction, len(batch), at_work)
            yield PredictedBatch(batch, prediction)
            stage.advance(len(batch))


def _check(prediction: PairPrediction, pairs: int, at_work: ClipPredictor) -> None:
    """Stop at an answer that would be stored as something else than it is."""
    shape = tuple(prediction.confidence0.shape)
    expected = {"pointmap0": (*shape, 3), "pointmap1": (*shape, 3), "confidence1": shape}
    found = {name: tuple(getattr(prediction, name).shape) for name in expected}
    if len(shape) != 3 or shape[0] != pairs or found != expected:
        raise PluginError(
            f"{type(at_work).__name__} was asked for {pairs} pairs and gave confidence0 {shape}, "
            + ", ".join(f"{name} {value}" for name, value in found.items())
            + "; it must give (pairs, H, W) and (pairs, H, W, 3)"
        )
