"""Figures of one predictor on several kinds of pairs, a column of a table each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from stereo4d.data.module import HELD_OUT
from stereo4d.data.pair_batch import PairBatch
from stereo4d.evaluation.calibration import Calibration, calibration, calibration_table, confident_errors
from stereo4d.evaluation.motion import motion_figures
from stereo4d.evaluation.pairs import Figure, join_figures, pair_figures, table
from stereo4d.progress import SILENT, Progress
from stereo4d.video.head_maps import MOTION
from stereo4d.video.predictor import Predictor

FIRST = HELD_OUT + 1_000_000
"""Batch numbers from here on are measured; training never sees them, nor does its validation."""
MOTION_TIMES = (0.0, 0.5, 1.0)
"""Query times at which motion is measured: of each view the other's time, and half of the way."""


class PairSource(Protocol):
    """Makes batches of pairs from their numbers alone; ``BatchRecipe`` does."""

    def make(self, number: int, device: torch.device | str) -> PairBatch:
        """The batch of that number."""


@dataclass(frozen=True)
class Column:
    """What was measured on pairs of one kind."""

    name: str
    pairs: int
    figures: dict[str, Figure]
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = {key: figure.row() for key, figure in self.figures.items()}
        return {"pairs": self.pairs, "figures": rows, "calibration": self.calibration.as_dict()}


def measure_column(
    predictor: Predictor,
    name: str,
    source: PairSource,
    batches: int,
    *,
    times: Sequence[float] = (),
    progress: Progress = SILENT,
) -> Column:
    """Predict batches ``FIRST``, ``FIRST + 1``, ... of a source and compare them with their truth.

    Args:
        predictor: takes every pair by itself, as two images.
        name: of the column.
        source: always the same batch for the same number; with motion at ``times``.
        batches: how many, at least 1.
        times: that motion is asked for; empty for predictors without motion.
        progress: told about batches.
    """
    measured, samples, pairs = [], [], 0
    with progress.stage(name, batches, "batch") as stage:
        for number in range(FIRST, FIRST + batches):
            batch = source.make(number, "cpu")
            asked: dict[str, Any] = {"query_times": tuple(times)} if times else {}
            prediction = predictor.predict_images(batch.image0, batch.image1, **asked)
            figures = pair_figures(prediction, batch)
            if MOTION in prediction.extras:
                figures |= motion_figures(prediction.extras[MOTION], prediction, batch)
            measured.append(figures)
            samples.append(confident_errors(prediction, batch))
            pairs += len(batch.image0)
            stage.advance()
    return Column(name, pairs, join_figures(measured), calibration(samples))


def column_table(columns: Sequence[Column]) -> str:
    """Figures and calibration of one column or more as Markdown tables."""
    deciles = calibration_table({column.name: column.calibration for column in columns})
    if len(columns) == 1:
        return f"{table(columns[0].figures)}\n\n{deciles}"
    lines = [
        "mean / median, in brackets those of the guess",
        "",
        "| figure | " + " | ".join(column.name for column in columns) + " | guess |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for key, figure in columns[0].figures.items():
        title = f"{figure.title} ({figure.unit})" if figure.unit else figure.title
        cells = " | ".join(_cell(column.figures[key]) for column in columns)
        lines.append(f"| {title} | {cells} | {figure.guess_name} |")
    return "\n".join([*lines, "", deciles])


def _cell(figure: Figure) -> str:
    row, digits = figure.row(), 1 if figure.unit == "deg" else 3
    mean, median, guess, other = (f"{row[k]:.{digits}f}" for k in ("mean", "median", "guess mean", "guess median"))
    return f"{mean} / {median} ({guess} / {other})"
