"""The checks of a mixture's parts, in the order in which one makes sense after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.parts import FromFrames, Part, Shape
from stereo4d.data_checks.cameras import check_cameras
from stereo4d.data_checks.depths import check_depth, check_tracks
from stereo4d.data_checks.files import check_files, chosen_pairs
from stereo4d.data_checks.finding import Finding
from stereo4d.data_checks.truth import check_truth
from stereo4d.errors import Stereo4DError

SEED = 0


@dataclass(frozen=True)
class Looked:
    """A part's findings, and pairs of it to look at."""

    findings: list[Finding]
    pairs: list[PairBatch]


def check_parts(
    parts: Mapping[str, Sequence[Part]],
    shape: Shape,
    *,
    pairs: int | None,
    keep: int = 0,
    tell: Callable[[Finding], None] = lambda finding: None,
) -> Looked:
    """Check all parts of a mixture.

    Args:
        parts: by what they are for: train, val, test.
        shape: of the pairs that are made.
        pairs: how many of each part are looked at, spread evenly over all; None: all.
        keep: pairs of each part to return.
        tell: told of every finding at once.
    """
    findings: list[Finding] = []
    kept: list[PairBatch] = []
    for stage, listed in parts.items():
        for number, part in enumerate(listed):
            for found in _check_part(part, shape, pairs, f"{stage} {number} ({part.name})", kept, keep):
                findings.append(found)
                tell(found)
    return Looked(findings, kept)


def _check_part(
    part: Part, shape: Shape, pairs: int | None, label: str, kept: list[PairBatch], keep: int
) -> Iterator[Finding]:
    rng = np.random.default_rng(SEED)
    try:
        numbers = chosen_pairs(len(part), pairs)
        yield Finding(label, "pairs", "ok", _pairs_said(part))
    except Stereo4DError as error:
        yield Finding(label, "pairs", "failed", str(error))
        return
    if isinstance(part, FromFrames):
        files, opened = check_files(part, numbers, label, rng)
        yield files
        if not opened.pairs:
            return
        yield from check_depth(opened, label)
        yield from check_tracks(opened, label)
        yield from check_cameras(opened, label, rng)
        numbers = opened.numbers
    truth, made = check_truth(part, numbers, shape, label, rng, keep)
    yield truth
    kept.extend(made)


def _pairs_said(part: Part) -> str:
    count = len(part)
    epoch = part.repeat * count if part.count is None else part.count
    said = f"{count} pairs, {epoch} seen an epoch"
    if not isinstance(part, FromFrames):
        return said
    rows = part.table.rows
    drawn = rows[(rows[:, 1:] >= 0).all(1)]
    gaps = np.abs(drawn[:, 2] - drawn[:, 1])
    apart = f", frames {gaps.min()} to {gaps.max()} apart" if len(gaps) else ", frames drawn when asked for"
    return f"{said}, in {len(np.unique(rows[:, 0]))} scenes{apart}"
