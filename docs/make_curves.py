"""Draw the training curves of the embedded checkpoint: ``python docs/make_curves.py``.

Reads ``docs/training/embedded_v0.csv`` (Lightning's CSV log, runs appended) and writes
``docs/pictures/training_curve.png``. ``--from LOG ...`` first renews the table from logs of ``stereo4d fit``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

DOCS = Path(__file__).parent
TABLE = DOCS / "training" / "embedded_v0.csv"
PICTURE = DOCS / "pictures" / "training_curve.png"
COLUMNS = ("train/loss", "train/error0", "train/error1", "train/attention_hit", "val/absrel", "val/loss", "val/delta1")


def renew(logs: list[Path], last: int) -> None:
    """Join the logs of one training run and its resumptions, up to a step, into the table; later logs win."""
    steps: dict[int, dict[str, str]] = {}
    for log in logs:
        with log.open() as file:
            for row in csv.DictReader(file):
                known = {name: row[name] for name in COLUMNS if row.get(name)}
                if int(row["step"]) < last:
                    steps.setdefault(int(row["step"]) + 1, {}).update(known)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *COLUMNS])
        writer.writeheader()
        for step in sorted(steps):
            writer.writerow({"step": step} | {name: f"{float(v):.4f}" for name, v in steps[step].items()})


def draw() -> None:
    """Draw the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with TABLE.open() as file:
        rows = list(csv.DictReader(file))

    def curve(name: str) -> tuple[list[int], list[float]]:
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        return [step for step, _ in points], [value for _, value in points]

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, label in (("train/error0", "pointmap of view 0"), ("train/error1", "pointmap of view 1")):
        left.plot(*curve(name), label=label, linewidth=1)
    left.plot(*curve("train/attention_hit"), label="patches matched by attention", linewidth=1, color="0.6")
    left.set(title="training (each point one batch)", xlabel="optimiser step", ylim=(0, 1.2))
    right.plot(*curve("val/absrel"), label="depth AbsRel (median scale)")
    right.plot(*curve("val/delta1"), label="depth delta < 1.25")
    right.set(title="held-out pairs, averaged weights", xlabel="optimiser step", ylim=(0, 1))
    for axis in (left, right):
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the training curves of the embedded checkpoint.")
    parser.add_argument("--from", dest="logs", nargs="+", type=Path, help="metrics.csv files, oldest first")
    parser.add_argument("--last", type=int, default=10**9, help="steps beyond this one were not kept")
    chosen = parser.parse_args()
    if chosen.logs:
        renew(chosen.logs, chosen.last)
    draw()
