"""Recipes of tiny runs, as ``stereo4d fit`` takes them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import yaml

NETWORK = {
    **dict(img_size=[32, 48], enc_embed_dim=32, enc_depth=1, enc_num_heads=2),
    **dict(dec_embed_dim=32, dec_depth=2, dec_num_heads=2),
}
SYNTHETIC = {
    "class_path": "stereo4d.data.module.SyntheticPairs",
    "init_args": {"batch_size": 1, "sizes": [[32, 48], [48, 32]], "val_batches": 1},
}
COMPLETION = {
    "class_path": "stereo4d.training.completion_module.CompletionModule",
    "init_args": {"network": NETWORK},
}
PAIRS = {
    "class_path": "stereo4d.training.module.PairModule",
    "init_args": {"network": NETWORK | {"landscape_only": False}},
}


class KilledAt(L.Callback):
    """Kills the process as a power cut would, when a batch of that number is about to be trained on."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: object, index: int) -> None:
        if index == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def mixed(folder: Path, *, sizes: list[list[int]], **settings: object) -> dict[str, Any]:
    """Files of a folder of scenes and worlds filmed on the fly, in one mixture."""
    files = {
        "class_path": "stereo4d_plugins.datasets.posed_folder.PosedFolder",
        "init_args": {"root": str(folder), "moving": "masks", "conventions": {"depth_unit": 0.001}},
    }
    worlds = {"class_path": "tests.posed_worlds.WorldFrames", "init_args": {"count": 1, "length": 3}}
    parts = [
        {"class_path": "stereo4d.data.parts.FromFrames", "init_args": {"frames": frames, "count": count}}
        for frames, count in ((files, 3), (worlds, 2))
    ]
    given = {"train": parts, "sizes": sizes, "batch_size": 1, **settings}
    return {"class_path": "stereo4d.data.mixed_pairs.MixedPairs", "init_args": given}


def write_recipe(
    path: Path, model: dict[str, Any], data: dict[str, Any], *callbacks: dict[str, Any], **trainer: object
) -> Path:
    """A recipe that leaves its checkpoints in ``FOLDER/NAME/checkpoints``."""
    root = path.parent / path.stem
    keep = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": str(root / "checkpoints"), "every_n_train_steps": 2, "save_last": True},
    }
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = {
        **dict(accelerator="cpu", devices=1, max_epochs=-1, max_steps=4, log_every_n_steps=1, num_sanity_val_steps=0),
        **dict(limit_val_batches=0, default_root_dir=str(root), callbacks=[*callbacks, keep]),
        **quiet,
        **trainer,
    }
    path.write_text(yaml.safe_dump({"model": model, "data": data, "trainer": settings}))
    return path
