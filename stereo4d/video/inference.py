"""Predict the pairs of a clip, batch by batch, whoever predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stereo4d.errors import PluginError
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.head_maps import WrittenMaps
from stereo4d.video.pair_graph import Edge
from stereo4d.video.predictor import ClipPredictor


@dataclass(frozen=True)
class PredictedBatch:
    """A batch of pairs with what the predictor says about them."""

    edges: tuple[Edge, ...]
    """Positions of (view 0, view 1) in the clip."""
    prediction: PairPrediction
    """On the CPU, float32, in the order of ``edges``."""
    written: WrittenMaps = field(default_factory=WrittenMaps)
    """What its extras are."""


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
        PluginError: the predictor's answer has the wrong shape, or what a head adds is not a number everywhere.
    """
    batch_size = batch_size or at_work.batch_size
    with progress.stage("pairs", len(edges), "pair") as stage:
        for start in range(0, len(edges), batch_size):
            batch = tuple(edges[start : start + batch_size])
            prediction = at_work.predict(batch).on_cpu()
            _check(prediction, len(batch), at_work)
            _check_extras(prediction, batch, at_work)
            yield PredictedBatch(batch, prediction, at_work.written)
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


def _check_extras(prediction: PairPrediction, edges: Sequence[Edge], at_work: ClipPredictor) -> None:
    """Stop at maps of heads that could not be stored, read back or shown as what they are."""
    size, who = tuple(prediction.confidence0.shape[1:]), type(at_work).__name__
    for head, maps in prediction.extras.items():
        for name, value in maps.items():
            shapes = at_work.written.shapes(head, name, len(edges), size, tuple(value.shape))
            if tuple(value.shape) not in shapes:
                raise PluginError(
                    f"head {head!r} of {who} wrote {name} {tuple(value.shape)} for {len(edges)} pairs of "
                    f"{size[0]} x {size[1]} pixels; it must be {' or '.join(map(str, shapes))}: make it follow "
                    "what the head declares as its outputs"
                )
            if not (finite := value.isfinite().flatten(1).all(1)).all():
                first = edges[int((~finite).nonzero()[0])]
                raise PluginError(
                    f"head {head!r} of {who} wrote NaN or infinity into {name} of the pair of frames {first[0]} and "
                    f"{first[1]}; maps must be finite: bound the head's activation, leave its training "
                    "step out that made it so, or predict without the head"
                )
