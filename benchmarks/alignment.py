"""Global alignment against the bars that it has to reach, beside the family's own way, in one run on one machine.

    python benchmarks/alignment.py [ROW ...] [--threads 1 2] [--seeds 5] [--out DIR] [--json FILE] [--quick]

Rows: golden, consistent, wrong, large, cost, garbage; all of them take about half an hour on two idle cores. Every
measurement runs in a process of its own, ours and the baseline in turn; scenes are made by others still, so that
neither their time nor their memory counts. With ``--out`` what was measured is kept and not measured again.

The baseline is Adam with the family's constants (``stereo4d_plugins.solvers.adam``) on the same objective. Its seconds
are those of its start and its steps; ours are those of ``align``, from pairs to dense depth. Its start is our own on
all pairs: the family never drops a pair. "From trusted pairs" starts it from the cameras that the pairs we trust give,
all pairs still taking part. It is timed twice: with PyTorch's derivatives over all pairs at once, as the family
computes it, and with derivatives written out by hand, a few pairs at a time; the bars are held against the former.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

WORKER = Path(__file__).parent / "alignment_work.py"
CONSISTENT = {"frames": 20, "height": 96, "width": 128, "graph": "swin-3-noncyclic"}
LARGE = {"frames": 60, "height": 288, "width": 512, "graph": "swinstride-5-noncyclic", "dtype": "float16"}
SMALL = {"frames": 20, "height": 48, "width": 64}
QUICK = {"frames": 5, "height": 15, "width": 20}
GIGABYTE = 1e9
Measured = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    measured: float | str
    bar: str = ""
    met: bool | None = None
    """None where nothing has to be reached."""


@dataclass(frozen=True)
class Bench:
    """How to measure."""

    out: Path
    threads: list[int]
    seeds: int
    quick: bool

    def measure(self, work: str, **request: Any) -> Measured:
        """Do a piece of work in a fresh process, or read what was measured before."""
        asked = json.dumps({"work": work, **request}, sort_keys=True)
        kept = self.out / f"{work}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
        if kept.exists():
            return json.loads(kept.read_text())["measured"]
        print(f"... {asked}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, str(WORKER), asked], stdout=subprocess.PIPE, text=True, check=True)
        measured = json.loads(done.stdout.splitlines()[-1])
        kept.write_text(json.dumps({"asked": json.loads(asked), "measured": measured}, indent=1))
        return measured

    def scene(self, **scene: Any) -> tuple[str, Measured]:
        """The folder of a scene, made if need be, and what there is to say of it."""
        if self.quick:
            scene |= {name: min(value, scene[name]) for name, value in QUICK.items()}
        name = hashlib.sha256(json.dumps(scene, sort_keys=True).encode()).hexdigest()[:12]
        folder = str((self.out / f"scene-{name}").resolve())
        return folder, self.measure("make", folder=folder, **scene)

    def steps(self, count: int) -> int:
        return count // 50 if self.quick else count


def golden(bench: Bench) -> list[Line]:
    """The stored scene: five frames, 24 x 32."""
    found = bench.measure("ours", folder="golden")
    reference = bench.measure("adam", folder="golden", steps=bench.steps(300))
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
    folder, made = bench.scene(**CONSISTENT)
    lines, found, short = _speed(bench, "consistent", folder, made)
    threads = bench.threads[-1]
    long = bench.measure("adam", folder=folder, steps=bench.steps(3000), threads=threads)
    share = found["loss"] / long["loss"]
    ours, theirs = found["trajectory error"], short["trajectory error"]
    return [
        *lines,
        Line("consistent", "loss, of Adam's after 3000 steps", share, "<= 1.005", share <= 1.005),
        Line("consistent", "trajectory error (share of path)", ours, f"<= Adam-300: {theirs:.3g}", ours <= theirs),
        _centres("consistent", found, short, 1.0),
        Line("consistent", "trajectory error of the start", short["start errors"]["trajectory error"]),
        Line("consistent", "trajectory error of Adam-3000", long["trajectory error"]),
    ]


def wrong(bench: Bench) -> list[Line]:
    """The same with a fifth of the pairs confidently wrong in scale, field of view and shear."""
    lines: list[Line] = []
    for both_ways, name in ((True, "wrong, pairs"), (False, "wrong, directed")):
        ours, theirs, helped = [], [], []
        for seed in range(min(bench.seeds, 3)):
            folder, made = bench.scene(**CONSISTENT, wrong=0.2, both_ways=both_ways, seed=seed)
            if seed == 0 and both_ways:
                lines += _speed(bench, name, folder, made)[0]
            request = {"folder": folder, "threads": bench.threads[-1]}
            ours.append(bench.measure("ours", **request))
            theirs.append(bench.measure("adam", **request, steps=bench.steps(300)))
            helped.append(bench.measure("adam", **request, steps=bench.steps(300), start="trusted pairs"))
        for what in ("trajectory error", "centre error"):
            found, bar = (median(m[what] for m in several) for several in (ours, theirs))
            lines.append(Line(name, f"{what}, median", found, f"<= a third of {bar:.3g}", found <= bar / 3))
        shares = [a["trajectory error"] / b["trajectory error"] for a, b in zip(ours, theirs, strict=True)]
        lines.append(Line(name, "worst share of Adam's trajectory error", max(shares), "<= 1/3", max(shares) <= 1 / 3))
        lines.append(Line(name, "Adam from trusted pairs", median(m["trajectory error"] for m in helped)))
    return lines


def large(bench: Bench) -> list[Line]:
    """Sixty frames of 288 x 512, predictions in half precision in mapped files."""
    folder, made = bench.scene(**LARGE)
    found = bench.measure("ours", folder=folder, threads=bench.threads[-1])
    memory = found["peak memory"] / GIGABYTE
    steps = bench.measure("adam", folder=folder, threads=bench.threads[-1], steps=5)
    return [
        Line("large", "directed edges", made["edges"]),
        Line("large", "peak memory, GB", memory, "<= 6", memory <= 6),
        Line("large", "seconds", found["seconds"]),
        *(Line("large", f"seconds: {part}", seconds) for part, seconds in found["parts"].items()),
        Line("large", "iterations", found["iterations"]),
        Line("large", "trajectory error (share of path)", found["trajectory error"]),
        Line("large", "Adam, written out: seconds of 300 steps, from 5", 60 * steps["parts"]["steps"]),
        Line("large", "Adam, written out: peak memory, GB", steps["peak memory"] / GIGABYTE),
    ]


def cost(bench: Bench) -> list[Line]:
    """Ten to eighty frames in a window graph."""
    edges, seconds, lines = [], [], []
    counts = (4, 5, 6) if bench.quick else (10, 20, 40, 80)
    for frames in counts:
        folder, made = bench.scene(**{**SMALL, "frames": frames}, graph="swin-3-noncyclic")
        runs = [bench.measure("ours", folder=folder, run=run) for run in range(2)]
        edges.append(made["edges"])
        seconds.append(min(run["seconds"] for run in runs))
        lines.append(Line("cost", f"seconds for {frames} frames, {edges[-1]} directed edges", seconds[-1]))
    logs = np.log(edges), np.log(seconds)
    fitted, last = float(np.polyfit(*logs, 1)[0]), float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1])
    return [
        *lines,
        Line("cost", "exponent of edges, fitted", fitted, "<= 1.2", fitted <= 1.2),
        Line("cost", f"exponent from {counts[-2]} to {counts[-1]} frames", last, "<= 1.2", last <= 1.2),
    ]


def garbage(bench: Bench) -> list[Line]:
    """Three edges in ten show something else, with high confidence."""
    lines: list[Line] = []
    for graph in ("swin-3-noncyclic", "swinstride-5-noncyclic"):
        seeds = range(bench.seeds)
        clean = [bench.measure("ours", folder=bench.scene(**SMALL, graph=graph, seed=seed)[0]) for seed in seeds]
        usual = median(run["trajectory error"] for run in clean)
        lines.append(Line("garbage", f"{graph}: trajectory error of clean runs, median", usual))
        for kind in ("surface", "noise"):
            for both_ways in (True, False):
                spoiled = {"garbage": 0.3, "garbage_kind": kind, "both_ways": both_ways}
                scenes = [bench.scene(**SMALL, graph=graph, seed=seed, **spoiled) for seed in seeds]
                errors = [bench.measure("ours", folder=folder)["trajectory error"] for folder, _ in scenes]
                joined = sum(made["good pairs join all frames"] for _, made in scenes)
                share = median(errors) / usual
                where = "pairs" if both_ways else "directed"
                name = f"{kind}, {where}: of clean, median (worst {max(errors) / usual:.3g}; joined {joined})"
                lines.append(Line("garbage", name, share, "<= 3", share <= 3))
    return lines


def _speed(bench: Bench, row: str, folder: str, made: Measured) -> tuple[list[Line], Measured, Measured]:
    """Seconds against Adam's on every number of threads; what ours and Adam's 300 steps by autograd found at last."""
    lines = [Line(row, "directed edges", made["edges"])]
    for threads in bench.threads:
        request = {"folder": folder, "threads": threads}
        steps = bench.steps(300)
        # In turn, ours first and last: other work on the machine meets both alike.
        first = bench.measure("ours", **request)
        common = bench.measure("adam", **request, steps=steps, terms="by autograd")
        between = bench.measure("ours", **request, run=1)
        written = bench.measure("adam", **request, steps=steps, terms="written out")
        last = bench.measure("ours", **request, run=2)
        found = min((first, between, last), key=lambda run: run["seconds"])
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        ratio = common["seconds"] / found["seconds"]
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["parts"].items() if seconds > 5e-3)
        lines += [
            Line(row, f"seconds, {label} ({parts})", found["seconds"]),
            Line(row, f"seconds of Adam-300 by autograd, {label}", common["seconds"]),
            Line(row, f"faster than Adam-300 by autograd, {label}", ratio, ">= 40", ratio >= 40),
            Line(row, f"faster than Adam-300 written out, {label}", written["seconds"] / found["seconds"]),
        ]
    return lines, found, common


def _centres(row: str, ours: Measured, theirs: Measured, share: float) -> Line:
    found, bar = ours["centre error"], share * theirs["centre error"]
    return Line(row, "mean centre error", found, f"<= {bar:.3g}", found <= bar)


ROWS: dict[str, Callable[[Bench], list[Line]]] = {
    work.__name__: work for work in (golden, consistent, wrong, large, cost, garbage)
}


def show(lines: list[Line]) -> None:
    width = max(len(line.what) for line in lines)
    print(f"{'row':16} {'what':{width}} {'measured':>11}  {'bar':28} met")
    for line in lines:
        value = line.measured if isinstance(line.measured, str) else f"{line.measured:.4g}"
        met = {None: "", True: "yes", False: "NO"}[line.met]
        print(f"{line.row:16} {line.what:{width}} {value:>11}  {line.bar:28} {met}", flush=True)


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
        bench = Bench(out, options.threads, options.seeds, options.quick)
        lines: list[Line] = []
        for name in options.rows or ROWS:
            lines += ROWS[name](bench)
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    show(lines)


if __name__ == "__main__":
    main()
