"""Global alignment against the bars that it has to reach, beside the family's own way, in one run on one machine.

    python benchmarks/alignment.py [ROW ...] [--threads 1 2] [--seeds 5] [--out DIR] [--json FILE] [--quick]

Rows: golden, consistent, wrong, large, cost, garbage; all of them take about half an hour on two idle cores. Scenes
are made by processes of their own, so that neither their time nor their memory counts; ours and the baseline run in
turn, alone where memory is measured. With ``--out`` what was measured is kept and not measured again: take a new
folder for changed code.

The baseline is Adam with the family's constants (``stereo4d_plugins.solvers.adam``) on the same objective. Its seconds
are those of its start and its steps; ours are those of ``align``, from pairs to dense depth. Its start is our own on
all pairs: the family never drops a pair. "From trusted pairs" starts it from the cameras that the pairs we trust give,
all pairs still taking part. It is timed twice: with PyTorch's derivatives over all pairs at once, as the family
computes it, and with derivatives written out by hand, a few pairs at a time; bars of speed are held against the former.
Errors and losses of Adam are those of the latter, which takes the same steps up to rounding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from alignment_measuring import Bench, Line, Measured, Request, Workers, adam, ours, show

CONSISTENT: Request = {"frames": 20, "height": 96, "width": 128, "graph": "swin-3-noncyclic"}
LARGE: Request = {"frames": 60, "height": 288, "width": 512, "graph": "swinstride-5-noncyclic", "dtype": "float16"}
SMALL: Request = {"frames": 20, "height": 48, "width": 64}
GIGABYTE = 1e9


def golden(bench: Bench) -> list[Line]:
    """The stored scene: five frames, 24 x 32."""
    found, reference = bench.measure(ours("golden"), adam("golden", bench.steps(300)))
    return [
        Line("golden", "loss", found["loss"], "<= 0.0862", found["loss"] <= 0.0862),
        Line("golden", "mean centre error", found["centre error"], "<= 0.003", found["centre error"] <= 0.003),
        Line("golden", "iterations", found["iterations"], "<= 15", found["iterations"] <= 15),
        Line("golden", "seconds", found["seconds"]),
        Line("golden", "loss of Adam after 300 steps", reference["loss"]),
        Line("golden", "mean centre error of Adam", reference["centre error"]),
    ]


def consistent(bench: Bench) -> list[Line]:
    """Twenty frames whose pairs agree but for noise."""
    [(folder, made)] = bench.scenes(CONSISTENT)
    lines, found, short = _speed(bench, "consistent", folder, made)
    [long] = bench.measure(adam(folder, bench.steps(3000), threads=bench.threads[-1]))
    share = found["loss"] / long["loss"]
    for what in ("trajectory error", "centre error"):
        bar = short[what]
        lines.append(Line("consistent", what, found[what], f"<= Adam-300's {bar:.3g}", found[what] <= bar))
    return [
        *lines,
        Line("consistent", "pairs that took part", found["pairs"]),
        Line("consistent", "loss, of Adam's after 3000 steps", share, "<= 1.005", share <= 1.005),
        Line("consistent", "loss, of Adam's after 300 steps", found["loss"] / short["loss"]),
        Line("consistent", "trajectory error of the start", short["start errors"]["trajectory error"]),
        Line("consistent", "trajectory error of Adam-3000", long["trajectory error"]),
    ]


def wrong(bench: Bench) -> list[Line]:
    """The same with a fifth of the pairs confidently wrong in scale, field of view and shear."""
    lines: list[Line] = []
    for both_ways, name in ((True, "wrong, pairs"), (False, "wrong, directed")):
        spoiled = CONSISTENT | {"wrong": 0.2, "both_ways": both_ways}
        scenes = bench.scenes(*(spoiled | {"seed": seed} for seed in range(min(bench.seeds, 3))))
        if both_ways:
            lines += _speed(bench, name, *scenes[0])[0]
        steps, threads = bench.steps(300), {"threads": bench.threads[-1]}
        found = bench.measure(*(ours(folder, **threads) for folder, _ in scenes))
        theirs = bench.measure(*(adam(folder, steps, **threads) for folder, _ in scenes))
        helped = bench.measure(*(adam(folder, steps, start="trusted pairs", **threads) for folder, _ in scenes))
        for what in ("trajectory error", "centre error"):
            error, bar = (median(run[what] for run in runs) for runs in (found, theirs))
            lines.append(Line(name, f"{what}, median", error, f"<= a third of {bar:.3g}", error <= bar / 3))
        shares = [a["trajectory error"] / b["trajectory error"] for a, b in zip(found, theirs, strict=True)]
        lines.append(Line(name, "worst share of Adam's trajectory error", max(shares), "<= 1/3", max(shares) <= 1 / 3))
        told = "trajectory error of Adam from trusted pairs, median"
        lines.append(Line(name, told, median(run["trajectory error"] for run in helped)))
    return lines


def large(bench: Bench) -> list[Line]:
    """Sixty frames of 288 x 512, predictions in half precision in mapped files."""
    [(folder, made)] = bench.scenes(LARGE)
    # One by one: memory is that of a process that did nothing else.
    [found] = bench.measure(ours(folder, threads=bench.threads[-1]), alone=True)
    [steps] = bench.measure(adam(folder, 5, threads=bench.threads[-1]), alone=True)
    memory = found["peak memory"] / GIGABYTE
    return [
        Line("large", "directed edges", made["edges"]),
        Line("large", "peak memory, GB", memory, "<= 6", memory <= 6),
        Line("large", "seconds", found["seconds"]),
        *(Line("large", f"seconds: {part}", seconds) for part, seconds in found["parts"].items()),
        Line("large", "iterations", found["iterations"]),
        Line("large", "trajectory error", found["trajectory error"]),
        Line("large", "Adam, written out: seconds of 300 steps, from 5", 60 * steps["parts"]["steps"]),
        Line("large", "Adam, written out: peak memory, GB", steps["peak memory"] / GIGABYTE),
    ]


def cost(bench: Bench) -> list[Line]:
    """Ten to eighty frames in a window graph."""
    counts = (4, 5, 6) if bench.quick else (10, 20, 40, 80)
    scenes = bench.scenes(*(SMALL | {"frames": frames, "graph": "swin-3-noncyclic"} for frames in counts))
    runs = [bench.measure(*(ours(folder, run=run) for folder, _ in scenes)) for run in range(3)]
    edges = [made["edges"] for _, made in scenes]
    seconds = [min(run["seconds"] for run in same) for same in zip(*runs, strict=True)]
    sizes = zip(counts, edges, seconds, strict=True)
    logs = np.log(edges), np.log(seconds)
    fitted, last = float(np.polyfit(*logs, 1)[0]), float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1])
    return [
        *(Line("cost", f"seconds for {frames} frames, {count} directed edges", took) for frames, count, took in sizes),
        Line("cost", "exponent of edges, fitted", fitted, "<= 1.2", fitted <= 1.2),
        Line("cost", f"exponent from {counts[-2]} to {counts[-1]} frames", last, "<= 1.2", last <= 1.2),
    ]


def garbage(bench: Bench) -> list[Line]:
    """Three edges in ten show something else, with high confidence."""
    lines: list[Line] = []
    for graph in ("swin-3-noncyclic", "swinstride-5-noncyclic"):
        seeds = [SMALL | {"graph": graph, "seed": seed} for seed in range(bench.seeds)]
        clean = bench.measure(*(ours(folder) for folder, _ in bench.scenes(*seeds)))
        usual = median(run["trajectory error"] for run in clean)
        lines.append(Line("garbage", f"{graph}: trajectory error of clean runs, median", usual))
        for kind, both_ways in product(("surface", "noise"), (True, False)):
            spoiled = {"garbage": 0.3, "garbage_kind": kind, "both_ways": both_ways}
            scenes = bench.scenes(*(seed | spoiled for seed in seeds))
            errors = [run["trajectory error"] for run in bench.measure(*(ours(folder) for folder, _ in scenes))]
            # Where garbage cuts frames off from the others, nobody can place them.
            cut = len(scenes) - sum(made["good pairs join all frames"] for _, made in scenes)
            share, where = median(errors) / usual, "pairs" if both_ways else "directed edges"
            what = f"{kind}, {where}: of clean, median (worst {max(errors) / usual:.3g}; frames cut off in {cut})"
            lines.append(Line("garbage", what, share, "<= 3", share <= 3))
    return lines


def _speed(bench: Bench, row: str, folder: str, made: Measured) -> tuple[list[Line], Measured, Measured]:
    """Seconds against Adam's on every number of threads; what ours and Adam found at last."""
    lines, steps = [Line(row, "directed edges", made["edges"])], bench.steps(300)
    for threads in bench.threads:
        mine = [ours(folder, threads=threads, run=run) for run in range(3)]
        plain, written = (adam(folder, steps, threads=threads, terms=terms) for terms in ("by autograd", "written out"))
        # In turn, ours first and last: other work on the machine meets both alike.
        first, common, between, quick, last = bench.measure(mine[0], plain, mine[1], written, mine[2])
        found = min((first, between, last), key=lambda run: run["seconds"])
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        ratio = common["seconds"] / found["seconds"]
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["parts"].items() if seconds > 5e-3)
        lines += [
            Line(row, f"seconds, {label} ({parts})", found["seconds"]),
            Line(row, f"seconds of Adam-300 by autograd, {label}", common["seconds"]),
            Line(row, f"seconds of Adam-300 written out, {label}", quick["seconds"]),
            Line(row, f"times as fast as Adam-300 by autograd, {label}", ratio, ">= 40", ratio >= 40),
            Line(row, f"times as fast as Adam-300 written out, {label}", quick["seconds"] / found["seconds"]),
        ]
    return lines, found, quick


ROWS: dict[str, Callable[[Bench], list[Line]]] = {
    work.__name__: work for work in (golden, consistent, wrong, large, cost, garbage)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none means all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keep measurements and scenes here, and go on from those kept")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    parser.add_argument("--quick", action="store_true", help="tiny scenes: does it run? The numbers mean nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        workers = Workers()
        bench = Bench(out, options.threads, options.seeds, options.quick, workers)
        lines: list[Line] = []
        try:
            for name in options.rows or ROWS:
                lines += ROWS[name](bench)
                if options.json is not None:
                    options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))
        finally:
            workers.end(makes=True)
            workers.end(makes=False)
    show(lines)


if __name__ == "__main__":
    main()
