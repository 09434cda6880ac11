"""Whether confidence says how wrong points are: error against confidence, by deciles of all pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from stereo4d.errors import MissingDependencyError
from stereo4d.evaluation.pairs import TruePairs, relative_point_error, relative_scale
from stereo4d.types import PairPrediction

DECILES = 10
PIXELS = 512
"""Pixels of each image that take part; as many pairs as a table has make the rest superfluous."""


@dataclass(frozen=True)
class Calibration:
    """Pixels sorted by confidence in ten parts of one size, the least confident first."""

    confidence: tuple[float, ...]
    """Medians."""
    mean_error: tuple[float, ...]
    """Distance to the true point relative to its distance, after one scale for each pair."""
    median_error: tuple[float, ...]

    def as_dict(self) -> dict[str, tuple[float, ...]]:
        """Plain values."""
        return asdict(self)


def confident_errors(prediction: PairPrediction, truth: TruePairs) -> Tensor:
    """(2, P) confidence and relative error of some pixels of both views, always the same ones."""
    scale = relative_scale(prediction.pointmap0, truth)
    chosen = torch.randperm(prediction.confidence0[0].numel(), generator=torch.Generator().manual_seed(0))[:PIXELS]
    views = (
        (prediction.confidence0, prediction.pointmap0, truth.pointmap0, truth.valid0),
        (prediction.confidence1, prediction.pointmap1, truth.pointmap1, truth.valid1),
    )
    parts = []
    for confidence, points, true_points, valid in views:
        both = torch.stack([confidence, relative_point_error(points, true_points, scale)]).flatten(2)[..., chosen]
        parts.append(both[:, valid.flatten(1)[:, chosen] & both.isfinite().all(0)])
    return torch.cat(parts, 1)


def calibration(samples: Sequence[Tensor]) -> Calibration:
    """Deciles of (2, P) confidences and errors of several batches."""
    confidence, error = torch.cat(list(samples), 1).double()
    order = confidence.argsort(stable=True)
    parts = order.tensor_split(DECILES)

    def each(values: Tensor, mean: bool) -> tuple[float, ...]:
        """Mean or median of each decile."""
        return tuple(float(values[part].mean() if mean else values[part].median()) for part in parts)

    return Calibration(each(confidence, False), each(error, True), each(error, False))


def calibration_table(columns: Mapping[str, Calibration]) -> str:
    """Mean errors by decile as a Markdown table."""
    header = " | ".join(str(number + 1) for number in range(DECILES))
    lines = [f"| relative error by decile of confidence | {header} |", "|---" * (DECILES + 1) + "|"]
    for name, found in columns.items():
        lines.append(f"| {name} | " + " | ".join(f"{error:.3f}" for error in found.mean_error) + " |")
    return "\n".join(lines)


def check_plot() -> None:
    """Make sure that a plot can be drawn, before the work.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependencyError("--plot draws with matplotlib: pip install matplotlib") from None


def draw_calibration(path: Path, columns: Mapping[str, Calibration]) -> None:
    """Draw error against confidence into a picture file."""
    check_plot()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.4, 3.6), layout="constrained")
    for name, found in columns.items():
        (line,) = axis.plot(found.confidence, found.mean_error, marker="o", markersize=4, label=name)
        axis.plot(found.confidence, found.median_error, linestyle=":", color=line.get_color())
    axis.set(xscale="log", yscale="log", xlabel="confidence (median of each decile)", ylabel="relative error of points")
    axis.set_title("mean (line) and median (dots) by decile of confidence", fontsize="medium")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
