"""Draw how motion is learned, with and without re-weighting: ``python docs/make_motion_curves.py``.

Reads ``docs/training/motion_tiny.csv`` and writes ``docs/pictures/motion_curves.png``. ``--from APART COUNTS
CONFIDENCE`` first renews the table from the CSV logs of three runs of ``stereo4d fit``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

DOCS = Path(__file__).parent
TABLE = DOCS / "training" / "motion_tiny.csv"
PICTURE = DOCS / "pictures" / "motion_curves.png"
RUNS = ("moving apart", "moving counts", "by confidence")
COLUMNS = (
    "train/motion0_moving_error",
    "train/motion0_moving_confidence",
    "train/motion0_static_confidence",
    "val/motion_epe3d_moving",
    "val/motion_epe3d_moving_zero_motion",
    "val/motion_epe3d_all",
    "val/motion_epe3d_all_zero_motion",
    "val/motion_delta005_moving",
    "val/motion_delta010_moving",
    "val/absrel",
)


def renew(logs: list[Path]) -> None:
    """Put the figures of the runs into the table."""
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["run", "step", *COLUMNS])
        writer.writeheader()
        for run, log in zip(RUNS, logs, strict=True):
            with log.open() as source:
                for row in csv.DictReader(source):
                    known = {name: f"{float(row[name]):.4f}" for name in COLUMNS if row.get(name)}
                    if known:
                        writer.writerow({"run": run, "step": int(row["step"]) + 1} | known)


def draw() -> None:
    """Draw the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with TABLE.open() as file:
        rows = list(csv.DictReader(file))

    def curve(run: str, name: str) -> tuple[list[int], list[float]]:
        points = [(int(row["step"]), float(row[name])) for row in rows if row["run"] == run and row[name]]
        return [step for step, _ in points], [value for _, value in points]

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for run, colour in zip(RUNS, ("tab:green", "tab:blue", "tab:orange"), strict=True):
        left.plot(*curve(run, "val/motion_epe3d_moving"), label=run, color=colour)
        moving, static = (curve(run, f"train/motion0_{kind}_confidence") for kind in ("moving", "static"))
        right.plot(moving[0], [m / s for m, s in zip(moving[1], static[1], strict=True)], label=run, color=colour)
    left.plot(*curve(RUNS[0], "val/motion_epe3d_moving_zero_motion"), label="no motion", color="0.6", linestyle="--")
    left.set(title="EPE3D of moving pixels, held-out pairs (m)", xlabel="optimiser step")
    right.set(title="confidence of moving over static pixels (training)", xlabel="optimiser step", ylim=(0, None))
    for axis in (left, right):
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="logs", type=Path, nargs=3)
    chosen = parser.parse_args()
    if chosen.logs:
        renew(chosen.logs)
    draw()
