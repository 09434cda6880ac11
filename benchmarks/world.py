"""Pairs a second that the synthetic worlds make, with all truth and motion at one query time, and their ratio.

    python benchmarks/world.py [--height 160] [--width 224] [--batch 16] [--workers 2] [--device auto] ...

On the CPU each of the workers is a process with one thread, as a data loader's are; on a GPU there is one. Both worlds
take turns, so that other work on the machine meets them alike.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import torch

from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.rich import RichWorlds
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.data.synthetic.worlds import Worlds
from stereo4d.network.precision import resolve_device

WORLDS: dict[str, Worlds] = {"rooms": WorldConfig(), "rich": RichWorlds()}


def spend(kind: str, options: argparse.Namespace, first: int) -> tuple[float, float]:
    """Seconds on the clock and of the processor for some batches."""
    begin, busy = time.perf_counter(), time.process_time()
    for seed in range(first, first + options.batches):
        batch = sample_pairs(
            WORLDS[kind],
            options.batch,
            options.height,
            options.width,
            seed=seed,
            device=options.device,
            query_times=1,
        )
    batch.image0[0, 0, 0, 0].item()  # waits for a GPU
    return time.perf_counter() - begin, time.process_time() - busy


def work(number: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """One worker's seconds for each world."""
    torch.set_num_threads(1)
    totals = {kind: (0.0, 0.0) for kind in WORLDS}
    for kind in WORLDS:
        spend(kind, options, 10_000)  # warm
    for turn in range(options.turns):
        for kind, (clock, busy) in totals.items():
            one, other = spend(kind, options, (number * options.turns + turn) * options.batches)
            totals[kind] = (clock + one, busy + other)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    defaults = {"height": 160, "width": 224, "batch": 16, "batches": 1, "turns": 3, "workers": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.device = resolve_device(options.device).type
    workers = options.workers if options.device == "cpu" else 1
    if workers > 1:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            results = pool.starmap(work, [(number, options) for number in range(workers)])
    else:
        results = [work(0, options)]
    pairs = options.batch * options.batches * options.turns
    rates = {
        kind: tuple(sum(pairs / result[kind][column] for result in results) for column in (0, 1)) for kind in WORLDS
    }
    print(f"{options.width}x{options.height}, {options.device}, {workers} worker(s), batches of {options.batch}")
    print("world   pairs/s   pairs/s of processor time")
    for kind, (clock, busy) in rates.items():
        print(f"{kind:6} {clock:8.1f}   {busy:8.1f}")
    print(f"ratio  {rates['rich'][0] / rates['rooms'][0]:8.2f}   {rates['rich'][1] / rates['rooms'][1]:8.2f}")


if __name__ == "__main__":
    main()
