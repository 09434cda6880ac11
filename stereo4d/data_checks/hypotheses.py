"""What the files of a data set may mean, tried on some pairs: the convention under which the truth agrees best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product

import numpy as np

from stereo4d.data.conventions import Axes, Conventions, DepthKind, PixelOrigin, PoseKind
from stereo4d.data_checks.agreement import Agreement, Points, TrackViews, agreement, track_agreement

UNITS = (1.0, 10.0, 100.0, 1000.0, 5.0, 5000.0, 256.0, 1000 / 256)
"""By these, or parts of one of these, units of depth files differ from what they are taken for (5000 and 256: TUM's and
KITTI's)."""
_EACH_CHANGE = 0.1  # by how much a meaning that differs in one point more must fit better, to be believed
_CLEARLY = 0.6  # what is left of the misfit where another meaning is the right one
_LEAST = 0.03  # misfit that is not worth a word
_FINER = 0.7  # what is left of the distance of returning points where a meaning that shows little is right
_NO_DISTANCE = 1e-3  # pixels; less than that is rounding

Trial = Callable[[Conventions, Conventions], Agreement]
"""How one pair agrees: what files are taken for, what they may mean."""


@dataclass(frozen=True)
class Verdict:
    """What fits."""

    said: Conventions
    best: Conventions
    """``said`` itself, unless another meaning fits clearly better."""
    as_said: Agreement
    """Of all pairs' points together."""
    as_best: Agreement

    def wrong(self) -> dict[str, object]:
        """What is to be said instead: name of the convention -> value."""
        names = [field.name for field in fields(Conventions)]
        return {name: new for name in names if (new := getattr(self.best, name)) != getattr(self.said, name)}


def trial(pair: Points | TrackViews) -> Trial:
    """How to try a pair."""
    return partial(agreement, pair) if isinstance(pair, Points) else partial(track_agreement, pair)


def judged(trials: Sequence[Trial], said: Conventions, *, depth: bool) -> Verdict:
    """Which meaning of the files fits some pairs.

    Args:
        trials: pairs; at least one.
        said: what the data set takes its files to mean.
        depth: the pairs have depth maps, whose meaning can be told.
    """
    as_said = _together(trials, said, said)
    best, as_best, cost = said, as_said, as_said.misfit().mean()
    for tried in candidates(said, depth=depth):
        result = _together(trials, said, tried)
        changes = sum(getattr(tried, field.name) != getattr(said, field.name) for field in fields(Conventions))
        if (tried_cost := result.misfit().mean() * (1 + _EACH_CHANGE * changes)) < cost:
            best, as_best, cost = tried, result, tried_cost
    if not _clearly_better(as_best, as_said):
        best, as_best = said, as_said
    if depth:
        best, as_best = _finer(trials, said, best, as_best)
    return Verdict(said, best, as_said, as_best)


def candidates(said: Conventions, *, depth: bool) -> list[Conventions]:
    """Other meanings of the files, as far as they show much."""
    units = sorted({said.depth_unit * unit**sign for unit in UNITS for sign in (1, -1)}) if depth else [said.depth_unit]
    return [
        replace(said, pose_kind=pose, axes=axes, depth_unit=unit) for pose, axes, unit in product(PoseKind, Axes, units)
    ]


def _finer(
    trials: Sequence[Trial], said: Conventions, best: Conventions, as_best: Agreement
) -> tuple[Conventions, Agreement]:
    """What depth is measured along, and half a pixel: they show little, but to all points alike."""
    for kind, origin in product(DepthKind, PixelOrigin):
        tried = replace(best, depth_kind=kind, pixel_origin=origin)
        result = _together(trials, said, tried)
        if _distance(as_best.pixels) > _NO_DISTANCE and _distance(result.pixels) < _FINER * _distance(as_best.pixels):
            best, as_best = tried, result
    return best, as_best


def _clearly_better(best: Agreement, said: Agreement) -> bool:
    """Of the points that the better meaning keeps inside: those that leave an image are nobody's fault."""
    if not best.inside.any():
        return False
    left, before = best.misfit()[best.inside].mean(), said.misfit()[best.inside].mean()
    return bool(left < _CLEARLY * before and before - left > _LEAST)


def _together(trials: Sequence[Trial], said: Conventions, tried: Conventions) -> Agreement:
    """The agreement of all pairs' points."""
    results = [one(said, tried) for one in trials]
    joined = {field.name: np.concatenate([getattr(one, field.name) for one in results]) for field in fields(Agreement)}
    return Agreement(**joined)


def _distance(values: np.ndarray) -> float:
    """What most returning points keep below: walls seen straight on come back always, hidden points never."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, 0.75)) if len(known) else float("nan")
