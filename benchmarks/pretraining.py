"""What completion pretraining is worth at a small size: with, without, and with the same view twice in place of pairs.

    python benchmarks/pretraining.py --out out/pretraining [--completion-steps 500] [--pair-steps 500] [--threads 1]

Three networks of the same size learn pointmaps from the same pairs of the plain rooms. The first two complete images
before (CroCo, Weinzaepfel et al. 2022): of pairs, and of the same view twice, which is what a masked autoencoder of
single images sees. The third does not, and may take as many more steps on pairs as completion would have cost. A run
that was stopped goes on where it was; the table is printed at the end, ``curves.csv`` and ``curves.png`` are written.
"""

from __future__ import annotations

import argparse
import csv
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from stereo4d.data.module import SyntheticPairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.network.completion import CompletionConfig
from stereo4d.network.stereo import StereoConfig
from stereo4d.training.completion_module import CompletionModule
from stereo4d.training.module import PairModule
from stereo4d.training.schedules import Plateau

WIDTHS: dict[str, Any] = {
    **dict(enc_embed_dim=192, enc_depth=4, enc_num_heads=3),
    **dict(dec_embed_dim=192, dec_depth=4, dec_num_heads=3),
}
SCHEDULE = Plateau(100, 0.35)
BATCH = 8
SAME_VIEW = (1e-6, 1e-6)
"""Time between the two images of a pair: none."""
FIGURES = {"absrel": "depth AbsRel", "delta1": "delta < 1.25", "error1": "pointmap of view 1"}


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget."""

    name: str
    first: str | None
    """Folder of the completion it starts from."""


ARMS = (
    Arm("completion of pairs first", "completion-pairs"),
    Arm("completion of single images first", "completion-single"),
    Arm("pairs alone", None),
)


def completion(name: str, options: argparse.Namespace) -> None:
    """Complete images of pairs, or of the same view twice."""
    torch.manual_seed(0)
    network = CompletionConfig(img_size=options.size, mask_ratio=options.mask_ratio, **WIDTHS)
    world = WorldConfig(pair_gap=SAME_VIEW) if name.endswith("single") else WorldConfig()
    module = CompletionModule(network, learning_rate=1e-3, schedule=SCHEDULE)
    fit(
        module,
        SyntheticPairs(world, batch_size=BATCH, sizes=[options.size], val_batches=4),
        name,
        options,
        "completion",
    )


def pairs(arm: Arm, steps: int, options: argparse.Namespace) -> Path:
    """Learn pointmaps; returns the log."""
    torch.manual_seed(0)
    network = StereoConfig(img_size=options.size, landscape_only=False, **WIDTHS)
    start = None if arm.first is None else str(options.out / arm.first / "last.ckpt")
    weight = options.matching_weight
    module = PairModule(network, start_from=start, schedule=SCHEDULE, matching_weight=weight)
    data = SyntheticPairs(batch_size=BATCH, sizes=[options.size], val_batches=24, seed=1)
    return fit(module, data, arm.name.replace(" ", "-"), options, "pairs", steps)


def fit(
    module: L.LightningModule, data: SyntheticPairs, name: str, options: argparse.Namespace, kind: str, steps: int = 0
) -> Path:
    """Train to the end, from where it was; returns the folder of its logs."""
    folder = options.out / name
    last = folder / "last.ckpt"
    most = steps or options.completion_steps
    every = max(1, most // 12)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=most,
        max_epochs=-1,
        gradient_clip_val=1.0,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=25,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=CSVLogger(options.out, name=name),
        callbacks=[
            EMAWeightAveraging(decay=0.99),
            ModelCheckpoint(folder, filename="step-{step}", every_n_train_steps=every, save_last=True),
        ],
    )
    trainer.fit(module, data, ckpt_path=last if last.exists() else None)
    return folder


def rate(options: argparse.Namespace) -> float:
    """How many steps on pairs one step of completion costs, in processor time."""
    spent = []
    modules = (
        CompletionModule(CompletionConfig(img_size=options.size, mask_ratio=options.mask_ratio, **WIDTHS)),
        PairModule(StereoConfig(img_size=options.size, landscape_only=False, **WIDTHS)),
    )
    data = SyntheticPairs(batch_size=BATCH, sizes=[options.size])
    for module in modules:
        best = float("inf")
        for number in range(4):  # the pairs are made in the same process, and count
            begin = time.process_time()
            module.loss_of(data.recipe.make(number, "cpu")).backward()
            best = min(best, time.process_time() - begin)
        spent.append(best)
    return spent[0] / spent[1]


def curve(folder: Path) -> dict[int, dict[str, float]]:
    """Held-out figures by step, from all logs of a run."""
    found: dict[int, dict[str, float]] = {}
    for log in sorted(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime):
        with log.open() as file:
            for row in csv.DictReader(file):
                known = {key: row.get(f"val/{key}") or "" for key in FIGURES}
                if known["absrel"]:
                    found[int(row["step"]) + 1] = {key: float(value) for key, value in known.items() if value}
    return found


def report(lead: dict[str, float], options: argparse.Namespace) -> None:
    """Print the table; write the curves. ``lead``: steps on pairs that each arm has spent before it begins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    print("| held-out pairs, at the end | " + " | ".join(FIGURES.values()) + " |")
    print("|---" * (len(FIGURES) + 1) + "|")
    with (options.out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "step", "budget", *FIGURES])
        for name, before in lead.items():
            found = curve(options.out / name.replace(" ", "-"))
            for step, row in found.items():
                writer.writerow([name, step, f"{step + before:.0f}", *(f"{row.get(k, 0):.4f}" for k in FIGURES)])
            last = found[max(found)]
            print(f"| {name} | " + " | ".join(f"{last.get(key, float('nan')):.3f}" for key in FIGURES) + " |")
            axis.plot([step + before for step in found], [row["absrel"] for row in found.values()], label=name)
    axis.set(xlabel="budget, in steps on pairs", ylabel="depth AbsRel, held-out pairs", yscale="log")
    axis.yaxis.set_major_formatter("{x:.2g}")
    axis.yaxis.set_minor_formatter("{x:.2g}")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    figure.savefig(options.out / "curves.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--completion-steps", type=int, default=500)
    parser.add_argument("--pair-steps", type=int, default=500)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 96), help="height and width")
    parser.add_argument("--mask-ratio", type=float, default=0.8)
    parser.add_argument("--matching-weight", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--completion-cost", type=float, help="steps on pairs that one of completion costs; measured")
    options = parser.parse_args()
    options.size = tuple(options.size)
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    options.out.mkdir(parents=True, exist_ok=True)
    share = options.completion_cost or _kept(options.out / "completion_cost.txt", options)
    spent = share * options.completion_steps
    print(f"a step of completion costs {share:.2f} of one on pairs", flush=True)
    for arm in ARMS:
        if arm.first is not None:
            completion(arm.first, options)
        pairs(arm, options.pair_steps + (0 if arm.first else round(spent)), options)
        print(f"{arm.name}: done", flush=True)
    report({arm.name: spent if arm.first else 0.0 for arm in ARMS}, options)


def _kept(path: Path, options: argparse.Namespace) -> float:
    """The measured cost, the same when a run goes on."""
    if not path.exists():
        path.write_text(f"{rate(options):.4f}")
    return float(path.read_text())


if __name__ == "__main__":
    main()
