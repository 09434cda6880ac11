"""What training adds to a network's forward and backward, and whether what it promises holds; ratios of one run.

    python benchmarks/training.py [ROW ...] [--threads 1] [--repeats 3] [--batch 4]

Rows: step, wait, processes, memory; all without names. Seconds are of the processor, which other work on the machine
does not lengthen, but for ``wait``, which is a share of the clock: workers need free cores.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from network import _machine
from stereo4d_plugins.datasets.posed_folder import PosedFolder
from training_work import SIZE, TINY, bare_steps, module_of, pairs, trained, trainer, whole_steps, write_files

from stereo4d.data.conventions import Conventions
from stereo4d.data.mixed_pairs import MixedPairs
from stereo4d.data.module import SyntheticPairs
from stereo4d.data.parts import FromFrames, Shape
from stereo4d.training.callbacks import Throughput

DPT: dict[str, Any] = {
    **dict(img_size=(224, 224), enc_embed_dim=384, enc_depth=12, enc_num_heads=6),
    **dict(dec_embed_dim=384, dec_depth=8, dec_num_heads=6, landscape_only=False, head_type="dpt"),
    "head_options": {"feature_dim": 64, "last_dim": 32, "layer_dims": [48, 96, 192, 384]},
}
"""Depths nearer to those of the family."""
NETWORKS = {"tiny": (TINY, SIZE), "deep": (DPT, (160, 224))}


def step(options: argparse.Namespace) -> None:
    """A whole training step against the forward and backward of its network."""
    for weight in (0.0, 0.1):
        module, batch = module_of(matching_weight=weight), pairs(options.batch)
        best = dict.fromkeys(("network", "objective", "step"), float("inf"))
        for _ in range(options.repeats):  # in turn: other work on the machine meets all alike
            best["network"] = min(best["network"], bare_steps(module, batch, options.steps, objective=False))
            best["objective"] = min(best["objective"], bare_steps(module, batch, options.steps, objective=True))
            best["step"] = min(best["step"], whole_steps(module, batch, options.steps))
        print(
            f"step       tiny, {options.batch} pairs, matching_weight {weight}: network {best['network']:.3f} s, with "
            f"its objective {best['objective']:.3f} s, whole step {best['step']:.3f} s: "
            f"{best['step'] / best['objective']:.3f}x and, without its objective, {best['step'] / best['network']:.3f}x"
        )


def wait(options: argparse.Namespace) -> None:
    """How long training waits for data."""
    with tempfile.TemporaryDirectory() as folder:
        part = FromFrames(
            PosedFolder(
                str(write_files(Path(folder))),
                poses="poses.npy",
                moving="masks",
                conventions=Conventions(depth_unit=0.001),
            ),
            count=1000,
        )
        sources: dict[str, L.LightningDataModule] = {
            f"files, {options.workers} workers": MixedPairs(
                [part], sizes=[SIZE], batch_size=options.batch, workers=options.workers
            ),
            "synthetic world, 1 worker": SyntheticPairs(sizes=[SIZE], batch_size=options.batch, workers=1),
        }
        for name, data in sources.items():
            fitting = trainer(4 * options.steps, Throughput(every=2 * options.steps), limit_val_batches=0)
            fitting.fit(module_of(), data)
            found = {key: float(value) for key, value in fitting.callback_metrics.items()}
            print(
                f"wait       tiny, {options.batch} pairs, {name}: waits {100 * found['speed/data_wait']:.1f} % of a "
                f"step, {found['speed/pairs_per_second']:.2f} pairs/s"
            )
        for size in (SIZE, (384, 512)):
            spent = min(_pair_seconds(part, size) for _ in range(options.repeats))
            print(f"wait       a pair of 640x480 files at {size[1]}x{size[0]}: {1000 * spent:.0f} ms of a worker")


def _pair_seconds(part: FromFrames, size: tuple[int, int]) -> float:
    begin = time.process_time()
    for number in range(len(part)):
        part.pair(number, Shape(size), np.random.default_rng(number), augmented=True)
    return (time.process_time() - begin) / len(part)


def processes(options: argparse.Namespace) -> None:
    """Two processes against one with twice the batch."""
    with tempfile.TemporaryDirectory() as folder:
        one = trained(Path(folder) / "one.ckpt")
        two = trained(Path(folder) / "two.ckpt", devices=2, strategy="ddp_spawn_find_unused_parameters_true")
    shares = {name: float((two[name] - value).abs().max() / value.abs().max()) for name, value in one.items()}
    worst = max(shares, key=lambda name: shares[name])
    print(
        f"processes  2 against 1 over 20 steps: weights differ by at most {shares[worst]:.1e} of their tensor ({worst})"
    )


def memory(options: argparse.Namespace) -> None:
    """Recomputing activations: memory and time; a process each, for a peak is never forgotten."""
    for name in NETWORKS:
        found = {}
        for flag in ("kept", "recomputed"):
            command = [sys.executable, __file__, "--one", f"{name} {flag}", "--batch", str(options.batch)]
            command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[flag] = [float(word) for word in done.stdout.split()[-3:]]
        (peak, kept, spent), (low, few, long) = found["kept"], found["recomputed"]
        print(
            f"memory     {name}, {options.batch} pairs: peak over weights and gradients {peak:.0f} MB, "
            f"recomputing {low:.0f} MB ({low / peak:.2f}x); "
            f"kept after forward {kept:.0f} MB, {few:.0f} MB ({few / kept:.2f}x); "
            f"time {spent:.2f} s, {long:.2f} s ({long / spent:.2f}x)"
        )


def one(options: argparse.Namespace) -> None:
    """Peak and kept megabytes, and seconds, of forward and backward of one network."""
    name, flag = options.one.split()
    widths, size = NETWORKS[name]
    batch = pairs(options.batch, size)
    module = module_of(widths, recompute=flag == "recomputed").train()
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    before = _resident()
    kept = _kept(module, batch)
    spent = []
    for _ in range(options.repeats):
        begin = time.process_time()
        module.loss_of(batch).backward()
        spent.append(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(peak / 1e6, kept / 1e6, min(spent))


def _resident() -> float:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kept(module: Any, batch: Any) -> int:
    """Bytes that a forward pass keeps for the gradient, weights aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module.loss_of(batch)
    del loss
    return sum(found.values())


ROWS = {"step": step, "wait": wait, "processes": processes, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    for name, default in {"threads": 1, "repeats": 3, "batch": 4, "steps": 4, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    if options.one:
        one(options)
        return
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"no row {name!r}; there are {', '.join(ROWS)}")
    load = os.getloadavg()[0]
    machine = _machine(torch.device("cpu"))
    print(f"{date.today()}, torch {torch.__version__}, {machine}, {os.cpu_count()} cores, load {load:.1f}")
    for name in options.rows or ROWS:
        ROWS[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
