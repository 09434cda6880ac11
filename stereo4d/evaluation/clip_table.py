"""What came out of many clips, in a table: a row for every kind of clip and every program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median

from stereo4d.evaluation.clip_errors import USABLE_PLACED, USABLE_TRAJECTORY, ClipErrors
from stereo4d.evaluation.clip_runs import Record


@dataclass(frozen=True)
class Row:
    """How a program did on clips of one kind. Errors are medians over the clips where there is one, None without."""

    clips: str
    """Their kind."""
    method: str
    """Weights or peer."""
    count: int
    """How many clips."""
    usable: int
    """How many of them have a usable path; see ``ClipErrors.usable``."""
    placed: float
    """Share of all frames whose camera it says."""
    trajectory: float | None
    """ATE after a similarity, as a share of the path's length."""
    rotation: float | None
    """Degrees."""
    focal: float | None
    """Relative."""
    depth: float | None
    """AbsRel where the peer triangulated points."""
    seconds: float
    """Mean."""


@dataclass(frozen=True)
class Comparison:
    """Ours beside a peer on clips of one kind, apart for those where the peer's path is usable and the others."""

    clips: str
    peer: str
    succeeded: int
    """Clips where the peer's path is usable."""
    ratio: float | None
    """Median over these of our ATE over the peer's, on the frames that both place."""
    within_two: int
    """At how many of these ours is at most twice the peer's."""
    failed: int
    """Clips where the peer's path is not usable."""
    rescued: int
    """At how many of these ours is."""


def rows(records: Sequence[Record]) -> list[Row]:
    """One row for every kind and every program."""
    kinds = dict.fromkeys(record.clip.kind for record in records)
    methods = dict.fromkeys(name for record in records for name in record.errors)
    return [_row(kind, method, _errors(records, kind, method)) for kind in kinds for method in methods]


def comparisons(records: Sequence[Record]) -> list[Comparison]:
    """One for every kind and every peer."""
    kinds = dict.fromkeys(record.clip.kind for record in records)
    peers = dict.fromkeys(name for record in records for name in record.common)
    return [
        compare([record for record in records if record.clip.kind == kind], peer) for kind in kinds for peer in peers
    ]


def compare(records: Sequence[Record], peer: str) -> Comparison:
    """Ours beside a peer on some clips of one kind, at least one."""
    succeeded = [record for record in records if record.errors[peer].usable]
    failed = [record for record in records if not record.errors[peer].usable]
    ratios = [ratio for record in succeeded if (ratio := trajectory_ratio(record, peer)) is not None]
    return Comparison(
        clips=records[0].clip.kind,
        peer=peer,
        succeeded=len(succeeded),
        ratio=median(ratios) if ratios else None,
        within_two=sum(ratio <= 2 for ratio in ratios),
        failed=len(failed),
        rescued=sum(ours(record).usable for record in failed),
    )


def ours(record: Record) -> ClipErrors:
    """The errors of what we measure, not of a peer."""
    return next(errors for name, errors in record.errors.items() if name not in record.common)


def trajectory_ratio(record: Record, peer: str) -> float | None:
    """Our ATE over a peer's, on frames the peer placed; infinite where we have none, None where it has none."""
    mine, theirs = record.common[peer], record.errors[peer].trajectory
    if not theirs:
        return None
    return math.inf if mine is None else mine / theirs


def table(records: Sequence[Record]) -> str:
    """All of it as Markdown, with sentences on how ours compares with the peers."""
    head = [
        *("clips", "method", "frames placed", "usable paths", "ATE of path", "rotation (deg)", "focal"),
        *("depth at points", "seconds"),
    ]
    lines = [_line(head), "|" + "---|" * len(head)]
    for row in rows(records):
        lines.append(
            _line(
                [
                    *(row.clips, row.method, f"{row.placed:.0%}", f"{row.usable} of {row.count}"),
                    *(percent(row.trajectory, 2), _number(row.rotation), percent(row.focal)),
                    *(percent(row.depth), f"{row.seconds:.1f}"),
                ]
            )
        )
    lines += [
        "",
        f"Medians over clips, seconds the mean. Usable: at least {USABLE_PLACED:.0%} of the frames placed, ATE at most "
        f"{USABLE_TRAJECTORY:.0%} of the path.",
    ]
    for found in comparisons(records):
        ratio = "" if found.ratio is None else f"ATE {found.ratio:.2f} times {found.peer}'s (median), "
        lines.append(
            f"{found.clips}: where {found.peer} succeeds, {ratio}at most twice it on {found.within_two} of "
            f"{found.succeeded}; where it fails, usable on {found.rescued} of {found.failed}."
        )
    return "\n".join(lines)


def one_line(record: Record) -> str:
    """How a clip came out, in a line."""
    parts = [
        f"{name}: {errors.placed}/{errors.frames} frames, ATE {percent(errors.trajectory, 2)}, "
        f"depth {percent(errors.depth)}, {errors.seconds:.1f} s" + (f" ({errors.failure})" if errors.failure else "")
        for name, errors in record.errors.items()
    ]
    return f"{record.clip.kind} {record.clip.number}: {'; '.join(parts)}"


def as_dict(records: Sequence[Record]) -> dict[str, object]:
    """Everything as plain values."""
    return {
        "rows": [asdict(row) for row in rows(records)],
        "comparisons": [asdict(found) for found in comparisons(records)],
        "clips": [record.as_dict() for record in records],
    }


def percent(value: float | None, digits: int = 1) -> str:
    """A share, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _errors(records: Sequence[Record], kind: str, method: str) -> list[ClipErrors]:
    return [record.errors[method] for record in records if record.clip.kind == kind]


def _row(kind: str, method: str, errors: Sequence[ClipErrors]) -> Row:
    def middle(values: list[float | None]) -> float | None:
        """The median of what is known."""
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return Row(
        clips=kind,
        method=method,
        count=len(errors),
        usable=sum(one.usable for one in errors),
        placed=sum(one.placed for one in errors) / sum(one.frames for one in errors),
        trajectory=middle([one.trajectory for one in errors]),
        rotation=middle([one.rotation for one in errors]),
        focal=middle([one.focal for one in errors]),
        depth=middle([one.depth for one in errors]),
        seconds=mean(one.seconds for one in errors),
    )
