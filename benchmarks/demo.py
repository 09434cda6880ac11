"""The demo from command to scene folder: ``python benchmarks/demo.py [CLIP] [--runs 3]``.

Prints, from real runs of ``stereo4d reconstruct``, the seconds of every stage and their ratio to two things measured in
the same minute: starting Python and importing torch (what no reconstruction can go below), and the length of the clip.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = Path(__file__).parents[1] / "stereo4d" / "assets" / "demo" / "clip.mp4"


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    rows = []
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory() as folder:
            floor = timed([sys.executable, "-c", "import torch"])
            scene = Path(folder) / "scene"
            run = [sys.executable, "-m", "stereo4d.cli.main", "reconstruct", str(chosen.clip), "--out", str(scene)]
            wall = timed([*run, "--quiet"])
            manifest = json.loads((scene / "manifest.json").read_text())
        rows.append((wall, floor, manifest))
    wall, floor, manifest = min(rows, key=lambda row: row[0])
    seconds = {name: stage["seconds"] for name, stage in manifest["stages"].items()}
    times = [frame["time"] for frame in manifest["frames"]]
    print(f"best of {chosen.runs}: {wall:.1f} s for {len(times)} frames and {manifest['pairs']['count']} pairs")
    print("stages (s): " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    print(f"ratio to importing torch ({floor:.1f} s): {wall / floor:.1f}")
    print(f"ratio to the length of the clip ({times[-1]:.2f} s): {wall / times[-1]:.1f}")


if __name__ == "__main__":
    main()
