"""Do the cameras fit what they see; if not, which convention would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stereo4d.data.posed_frames import Frame
from stereo4d.data_checks.agreement import Agreement, Points, TrackViews, points_of
from stereo4d.data_checks.files import Opened
from stereo4d.data_checks.finding import Finding
from stereo4d.data_checks.hypotheses import Verdict, judged, trial

POINTS = 300
"""Looked at in each pair."""
PAIRS = 12
_NO_FIT = 0.2  # share of points that find themselves in the other view, under which nothing fits
_DEPTH_AGREES, _COLOUR_AGREES = 0.05, 40.0


def check_cameras(opened: Opened, label: str, rng: np.random.Generator) -> Iterator[Finding]:
    """How far points of one view are from themselves when seen from the other, and what the files mean if it is far."""
    said = opened.frames.conventions
    views: list[Points | TrackViews] = []
    for pair, first, second in opened.pairs[:PAIRS]:
        if first.depth is not None and second.depth is not None:
            points = points_of(first, second, said, POINTS, rng)
            views.extend([points] if len(points.stored) else [])
        else:
            views.extend(_tracks(opened, pair.scene, (pair.first, first), (pair.second, second), rng))
    if not views:
        yield Finding(label, "cameras", "note", "no pair has depth or tracks at both frames, so none can be judged")
        return
    depth = all(isinstance(view, Points) for view in views)
    yield _said(judged([trial(view) for view in views], said, depth=depth), label, len(views))
    yield from _middle([first for _, first, _ in opened.pairs], opened, label)


def _tracks(
    opened: Opened, scene: str, first: tuple[int, Frame], second: tuple[int, Frame], rng: np.random.Generator
) -> list[Points | TrackViews]:
    """Some tracks that both frames of a pair know."""
    places = [opened.frames.tracks(scene, index) for index, _ in (first, second)]
    if places[0] is None or places[1] is None:
        return []
    both = np.flatnonzero(np.isfinite(places[0]).all(1) & np.isfinite(places[1]).all(1))
    chosen = rng.permutation(both)[:POINTS]
    return [TrackViews(first[1], second[1], places[0][chosen], places[1][chosen])] if len(chosen) else []


def _said(verdict: Verdict, label: str, pairs: int) -> Finding:
    if wrong := verdict.wrong():
        options = ", ".join(f"{name}: {_value(value)}" for name, value in wrong.items())
        now = ", ".join(f"{name}: {_value(getattr(verdict.said, name))}" for name in wrong)
        return Finding(
            label,
            "cameras",
            "failed",
            f"the files fit as {options}, and are read as {now}: set conventions: {{{options}}} of the data set, or "
            f"mend its code; {_measured(verdict.as_best)} then, against {_measured(verdict.as_said)} now",
        )
    share = _agreeing(verdict.as_said)
    if share < _NO_FIT:
        return Finding(
            label,
            "cameras",
            "failed",
            f"the views of {pairs} pairs do not fit, nor under any other convention that is known here: "
            f"{_measured(verdict.as_said)}; are poses, depth and images of the same frames, in the same order?",
        )
    return Finding(label, "cameras", "ok", f"{_measured(verdict.as_said)}, over {pairs} pairs")


def _middle(frames: list[Frame], opened: Opened, label: str) -> Iterator[Finding]:
    """A principal point that gives away from where it was counted."""
    halves = [np.array([frame.rgb.shape[1], frame.rgb.shape[0]]) / 2 for frame in frames]
    centres = [frame.intrinsics[:2, 2] for frame in frames]
    if all(np.array_equal(*both) for both in zip(halves, centres, strict=True)):
        yield Finding(
            label,
            "pixels",
            "note",
            "principal points are exactly half the width and height, as is usual where the image's corner is (0, 0); "
            "here the first pixel's centre is: if they were counted from the corner, say pixel_origin: corner",
        )


def _measured(found: Agreement) -> str:
    """What was measured, in words."""
    colour = f"{_median(found.colour):.0f} of 255 in colour (median)"
    where = f"{found.inside.mean():.0%} of points lie inside the other view"
    if np.isnan(found.depth).all():
        return f"{where} and differ there by {colour}"
    agree = (found.depth[~np.isnan(found.depth)] < _DEPTH_AGREES).mean()
    return (
        f"{where}, come back to within {_median(found.pixels):.3f} pixels (median) of themselves, {agree:.0%} of "
        f"them agree in depth within {_DEPTH_AGREES:.0%}, and differ by {colour}"
    )


def _agreeing(found: Agreement) -> float:
    """Share of points inside that find themselves there."""
    if not found.inside.any():
        return 0.0
    inside = found.inside
    depth = np.isnan(found.depth[inside]) | (found.depth[inside] < _DEPTH_AGREES)
    return float((depth & (found.colour[inside] < _COLOUR_AGREES)).mean())


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
