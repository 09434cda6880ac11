"""Draw how the embedded checkpoint, version 1, was trained on the worlds: ``python docs/make_world_curves.py``.

Reads ``docs/training/embedded_v1.csv`` and writes ``docs/pictures/world_curves.png``. ``--from RUN:LOG:FIRST:BATCH``,
any number of them, first renews the table from CSV logs of ``stereo4d fit``: RUN is the name of the curve, FIRST says
how many pairs had been seen at its step 0, BATCH how many each step sees.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

DOCS = Path(__file__).parent
TABLE = DOCS / "training" / "embedded_v1.csv"
PICTURE = DOCS / "pictures" / "world_curves.png"
FIGURES = {"val/absrel": "depth AbsRel", "val/error1": "pointmap of view 1, as trained", "val/delta1": "delta < 1.25"}


def renew(logs: list[str]) -> None:
    """Put the held-out figures of the logs into the table."""
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for entry in logs:
        run, log, first, batch = entry.rsplit(":", 3)
        with Path(log).open() as file:
            for row in csv.DictReader(file):
                known = {name: f"{float(row[name]):.4f}" for name in FIGURES if row.get(name)}
                if known:
                    rows[run, int(first) + (int(row["step"]) + 1) * int(batch)] = known
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["run", "pairs", *FIGURES])
        writer.writeheader()
        for (run, pairs), known in rows.items():
            writer.writerow({"run": run, "pairs": pairs} | known)


def draw() -> None:
    """Draw the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(1, len(FIGURES), figsize=(10, 3.2), layout="constrained")
    for axis, (name, title) in zip(axes, FIGURES.items(), strict=True):
        for run in dict.fromkeys(row["run"] for row in rows):
            points = [(int(row["pairs"]), float(row[name])) for row in rows if row["run"] == run]
            axis.plot(*zip(*points, strict=True), label=run, marker=".")
        axis.set(title=title, xlabel="pairs seen")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw how version 1 of the embedded checkpoint was trained.")
    parser.add_argument("--from", dest="logs", nargs="+", metavar="RUN:LOG:FIRST:BATCH")
    chosen = parser.parse_args()
    if chosen.logs:
        renew(chosen.logs)
    draw()
