"""How well a predictor does on image pairs with exact truth, beside what a guess would score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stereo4d.evaluation.metrics import depth_errors, rotation_error, translation_direction_error
from stereo4d.geometry.camera import pinhole, unproject
from stereo4d.geometry.pnp import pnp_of_pointmap
from stereo4d.geometry.pointmap import estimate_focal
from stereo4d.network.objective import PairTruth
from stereo4d.types import PairPrediction


class TruePairs(PairTruth, Protocol):
    """What is known of B pairs; shapes as in the synthetic world's ``PairBatch``."""

    @property
    def intrinsics0(self) -> Tensor:
        """(B, 3, 3) pixels."""

    @property
    def relative(self) -> Tensor:
        """(B, 4, 4) pose of camera 1 in view 0's camera."""


STILL = 1e-3
"""Cameras closer to each other than this share of the median distance of what they see have no direction between."""


@dataclass(frozen=True)
class Figure:
    """One number per pair, predicted and guessed."""

    title: str
    unit: str
    predicted: Tensor
    """(B,); NaN where a pair has nothing to measure."""
    guess: Tensor
    """(B,)."""
    guess_name: str
    larger_is_better: bool = False

    def row(self) -> dict[str, float | str]:
        """Means and medians over the pairs that have the figure."""
        return {
            "figure": self.title,
            "unit": self.unit,
            "mean": float(self.predicted.nanmean()),
            "median": float(self.predicted.nanmedian()),
            "guess": self.guess_name,
            "guess mean": float(self.guess.nanmean()),
            "guess median": float(self.guess.nanmedian()),
        }


def pair_figures(prediction: PairPrediction, truth: TruePairs) -> dict[str, Figure]:
    """Errors of B predicted pairs.

    Depth is scaled by its median. Points of view 1 are scaled by the median distance of view 0's points and compared
    relative to their true distance. The relative pose comes from PnP on view 1's pointmap with the focal that view 0's
    pointmap implies: nothing of the truth is used. Pixels without a measurement do not count; nor do pairs whose camera
    stays where it is, for the direction of travel.
    """
    depth, true_depth = prediction.pointmap0[..., 2], truth.pointmap0[..., 2]
    errors = depth_errors(depth, true_depth, truth.valid0)
    flat = depth_errors(torch.ones_like(depth), true_depth, truth.valid0)
    relative = torch.stack([_relative_pose(prediction, pair) for pair in range(len(depth))])
    identity = torch.eye(4, dtype=relative.dtype).expand_as(relative)
    true_relative = truth.relative.to(relative.dtype).cpu()
    focal = estimate_focal(prediction.pointmap0, prediction.confidence0)
    true_focal = truth.intrinsics0[:, 0, 0]
    typical = true_focal.median()
    static = "identity pose"
    travelled = (truth.relative[:, :3, 3].norm(dim=-1) > STILL * median_norm(truth.pointmap0, truth.valid0)).cpu()
    return {
        "absrel": Figure("depth AbsRel", "", errors.abs_rel, flat.abs_rel, "constant depth"),
        "delta1": Figure("depth delta < 1.25", "", errors.delta_125, flat.delta_125, "constant depth", True),
        "points1": Figure(
            "pointmap of view 1, relative error",
            "",
            _point_error(prediction.pointmap0, prediction.pointmap1, truth),
            _point_error(*_flat_points(truth), truth),
            "constant depth, identity pose",
        ),
        "rotation": Figure(
            "relative rotation error",
            "deg",
            rotation_error(relative, true_relative),
            rotation_error(identity, true_relative),
            static,
        ),
        "translation": Figure(
            "translation direction error",
            "deg",
            torch.where(travelled, translation_direction_error(relative, true_relative), torch.nan),
            torch.where(travelled, translation_direction_error(identity, true_relative), torch.nan),
            static,
        ),
        "focal": Figure(
            "focal error", "", (focal / true_focal - 1).abs(), (typical / true_focal - 1).abs(), "median focal"
        ),
    }


def _relative_pose(prediction: PairPrediction, pair: int) -> Tensor:
    """(4, 4) pose of camera 1 in view 0's camera, by PnP."""
    height, width = prediction.confidence1.shape[1:]
    one = slice(pair, pair + 1)
    focal = estimate_focal(prediction.pointmap0[one], prediction.confidence0[one])
    intrinsics = pinhole(focal, height, width)[0]
    return torch.as_tensor(
        pnp_of_pointmap(prediction.pointmap1[pair], intrinsics, prediction.confidence1[pair]).cam2world
    )


def _point_error(pointmap0: Tensor, pointmap1: Tensor, truth: TruePairs) -> Tensor:
    """(B,) mean distance of view 1's points to the truth, each relative to the point's true distance."""
    error = relative_point_error(pointmap1, truth.pointmap1, relative_scale(pointmap0, truth))
    return torch.where(truth.valid1, error, torch.nan).flatten(1).nanmean(1)


def relative_scale(pointmap0: Tensor, truth: TruePairs) -> Tensor:
    """(B,) factor that brings the median distance of view 0's points (B, H, W, 3) to the truth's."""
    return median_norm(truth.pointmap0, truth.valid0) / median_norm(pointmap0, truth.valid0)


def relative_point_error(pointmap: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """(B, H, W) distance of scaled points (B, H, W, 3) to the true ones, relative to the true distance."""
    return (pointmap * scale[:, None, None, None] - truth).norm(dim=-1) / truth.norm(dim=-1)


def _flat_points(truth: TruePairs) -> tuple[Tensor, Tensor]:
    """What someone would say who knows the lens but sees nothing: constant depth, no motion."""
    points = unproject(torch.ones_like(truth.pointmap0[..., 2]), truth.intrinsics0)
    return points, points


def median_norm(pointmap: Tensor, valid: Tensor) -> Tensor:
    """(B,) median distance of the points (B, H, W, 3) where valid (B, H, W); NaN where nothing is."""
    return torch.where(valid, pointmap.norm(dim=-1), torch.nan).flatten(1).nanmedian(1).values


def join_figures(batches: Sequence[Mapping[str, Figure]]) -> dict[str, Figure]:
    """Figures of several batches as one."""
    first = batches[0]
    return {
        key: Figure(
            one.title,
            one.unit,
            torch.cat([batch[key].predicted for batch in batches]),
            torch.cat([batch[key].guess for batch in batches]),
            one.guess_name,
            one.larger_is_better,
        )
        for key, one in first.items()
    }


def table(figures: Mapping[str, Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | mean | median | guess | its mean | its median |", "|---|---|---|---|---|---|"]
    for figure in figures.values():
        row = figure.row()
        title = f"{figure.title} ({figure.unit})" if figure.unit else figure.title
        digits = 1 if figure.unit == "deg" else 3
        mean, median, guess, guess_median = (
            f"{row[name]:.{digits}f}" for name in ("mean", "median", "guess mean", "guess median")
        )
        lines.append(f"| {title} | {mean} | {median} | {figure.guess_name} | {guess} | {guess_median} |")
    return "\n".join(lines)
