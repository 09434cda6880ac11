"""The weight-free predictor against the bars that it has to reach, beside COLMAP, in one run on one machine.

    python benchmarks/classical.py [ROW ...] [--clips 8] [--out DIR] [--again] [--json FILE] [--quick]

Rows: speed, path, depth, moving. All of them rest on the same held-out synthetic clips, 24 frames of 512x288: static
ones, static ones that are hard for feature matchers (``slow``, ``grainy``), and dynamic ones, so many of each. A clip
takes minutes on two cores, most of them for rendering it; what is done is kept in ``--out`` and not done again.
``--again`` measures ours anew, on clips and with answers of COLMAP that are there already. Needs pycolmap.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from alignment_measuring import Line, show
from classical_look import look

from stereo4d.evaluation.clip_runs import Ours, Record, SyntheticClip, measure_clip
from stereo4d.evaluation.clip_table import compare, one_line, ours, table, trajectory_ratio

PEER = "colmap"
STATIC = ("static", "slow", "grainy")
KINDS = (*STATIC, "dynamic")
CORES = 2
QUICK = {"frames": 6, "width": 192, "height": 128}


def speed(records: Sequence[Record]) -> list[Line]:
    """Pairs a second, whatever is found out about the whole clip included."""
    records = [record for record in records if record.pairs]  # the others failed; the row of paths counts them
    rates = [record.pairs / record.stages["predictions"] for record in records]
    return [
        Line("speed", "directed pairs a second, median over clips", median(rates), ">= 3", median(rates) >= 3),
        Line("speed", "directed pairs a second, slowest clip", min(rates)),
        Line("speed", "seconds of predictions, median", median(record.stages["predictions"] for record in records)),
        Line("speed", "seconds of alignment, median", median(record.stages["alignment"] for record in records)),
        Line("speed", "seconds of COLMAP, median", median(record.errors[PEER].seconds for record in records)),
    ]


def path(records: Sequence[Record]) -> list[Line]:
    """The camera path where nothing moves, beside COLMAP's."""
    still = _of(records, *STATIC)
    found = compare(still, PEER)
    ratios = [r for record in still if record.errors[PEER].usable and (r := trajectory_ratio(record, PEER)) is not None]
    lines = [Line("path", "static clips where COLMAP succeeds", found.succeeded)]
    if ratios:
        middle, worst = median(ratios), max(ratios)
        lines += [
            Line("path", "ATE, of COLMAP's there, median", middle, "<= 2", middle <= 2),
            Line("path", "ATE, of COLMAP's there, worst clip", worst, "<= 2", worst <= 2),
            Line("path", "share of these clips with at most twice COLMAP's ATE", found.within_two / len(ratios)),
        ]
    lines.append(Line("path", "static clips where COLMAP fails", found.failed))
    if found.failed:
        share = found.rescued / found.failed
        lines.append(Line("path", "share of these where ours is usable", share, ">= 0.9", share >= 0.9))
    for kind in KINDS:
        some = _of(records, kind)
        errors = [ours(record) for record in some]
        lines.append(Line("path", f"{kind}: ATE, share of the path, median", _middle([e.trajectory for e in errors])))
        lines.append(Line("path", f"{kind}: usable, of {len(some)}", sum(e.usable for e in errors)))
        lines.append(Line("path", f"{kind}: COLMAP usable", sum(record.errors[PEER].usable for record in some)))
    return lines


def depth(records: Sequence[Record]) -> list[Line]:
    """Depth on static, textured pixels that a camera of the clip sees from another side."""
    found = [record.more["textured depth"] for record in _of(records, "static") if "textured depth" in record.more]
    lines = []
    if found:
        middle = median(found)
        lines += [
            Line("depth", "AbsRel, textured static pixels, >= 2 degrees, median", middle, "<= 0.10", middle <= 0.1),
            Line("depth", "the same, worst static clip", max(found)),
        ]
    hard = [
        record.more["textured depth"]
        for record in _of(records, "slow", "grainy", "dynamic")
        if "textured depth" in record.more
    ]
    shares = [record.more["textured share"] for record in records if record.more]
    return [
        *lines,
        *([Line("depth", "the same, median of slow, grainy and dynamic clips", median(hard))] if hard else []),
        Line("depth", "share of pixels that counts, median", median(shares)),
        Line("depth", "AbsRel at COLMAP's points, median", _middle([ours(r).depth for r in records])),
        Line("depth", "AbsRel of COLMAP there, median", _middle([r.errors[PEER].depth for r in records])),
    ]


def moving(records: Sequence[Record]) -> list[Line]:
    """How sure it is where things move."""
    seen = [record.more for record in _of(records, "dynamic") if record.more.get("moving share", 0) > 0.005]
    if not seen:
        return []
    lines = [Line("moving", "share of pixels that move, mean", sum(m["moving share"] for m in seen) / len(seen))]
    for what in ("pairs", "scene"):
        sure = sum(m[f"{what}: confidence moving"] * m["moving share"] for m in seen)
        sure /= sum(m["moving share"] for m in seen)
        static = sum(m[f"{what}: confidence static"] for m in seen) / len(seen)
        ratio = sure / static
        worst = max(m[f"{what}: confidence moving"] / m[f"{what}: confidence static"] for m in seen)
        lines += [
            Line("moving", f"{what}: mean confidence on static pixels", static),
            Line("moving", f"{what}: mean confidence on moving ones, of that", ratio, "<= 1/3", ratio <= 1 / 3),
            Line("moving", f"{what}: the same, worst clip", worst),
        ]
    wrong = max(m["moving: confident and wrong"] for m in seen)
    return [*lines, Line("moving", "scene: moving pixels both sure and off by a quarter, worst clip", wrong)]


ROWS: dict[str, Callable[[Sequence[Record]], list[Line]]] = {
    work.__name__: work for work in (speed, path, depth, moving)
}


def _of(records: Sequence[Record], *kinds: str) -> list[Record]:
    return [record for record in records if record.clip.kind in kinds]


def _middle(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else float("nan")


def measured(options: argparse.Namespace, folder: Path) -> list[Record]:
    """All clips, the first of every kind first; a line on stderr for each."""
    if options.again:
        for kept in folder.glob("*.json"):
            kept.unlink()
    records = []
    more = QUICK if options.quick else {}
    for number in range(1 if options.quick else options.clips):
        for kind in KINDS:
            clip = SyntheticClip(kind, number, **more)
            records.append(measure_clip(clip, Ours(options.weights, device="cpu"), (PEER,), folder, look=look))
            print(f"... {one_line(records[-1])}", file=sys.stderr, flush=True)
            _show(records, options.rows, options.json)
    return records


def _show(records: Sequence[Record], rows: Sequence[str], file: Path | None) -> list[Line]:
    """The lines so far, written to a file if there is one."""
    if {record.clip.kind for record in records} < set(KINDS):
        return []
    lines = [line for name in rows or ROWS for line in ROWS[name](records)]
    if file is not None:
        file.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none means all")
    parser.add_argument("--clips", type=int, default=8, help=f"of each kind: {', '.join(KINDS)}")
    parser.add_argument("--weights", default="classical")
    parser.add_argument("--out", type=Path, help="keep clips and measurements here, and go on from those kept")
    parser.add_argument("--again", action="store_true", help="measure ours again")
    parser.add_argument("--json", type=Path, help="write the table to this file too, after every clip")
    parser.add_argument("--quick", action="store_true", help="tiny clips: does it run? The numbers mean nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        records = measured(options, folder)
    print(table(records) + "\n")
    show(_show(records, options.rows, options.json))


if __name__ == "__main__":
    main()
