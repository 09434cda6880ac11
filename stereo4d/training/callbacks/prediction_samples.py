"""Predictions to look at while training goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch

from stereo4d.data.pair_batch import PairBatch
from stereo4d.errors import UsageError
from stereo4d.training.module import PairModule
from stereo4d.training.pair_scene import predicted_scene, true_scene
from stereo4d.viewing import load_viewer

log = logging.getLogger(__name__)


class PredictionSamples(L.Callback):
    """Writes a few pairs of the batch at hand, as the network sees them and as they are, for the viewer.

    Files: ``FOLDER/step-S/pair-I-predicted.rrd`` and ``pair-I-truth.rrd``, at the same scale.

    Args:
        every: optimiser steps between two samples.
        pairs: of the batch, how many.
        folder: by default ``samples`` in the trainer's root folder.
        viewer: entry point of group ``stereo4d.viewers``.
    """

    def __init__(self, every: int = 1000, pairs: int = 2, folder: str | None = None, viewer: str = "rerun") -> None:
        if every < 1 or pairs < 1:
            raise UsageError(f"PredictionSamples needs every (now {every}) and pairs (now {pairs}) of at least 1")
        self.every = every
        self.pairs = pairs
        self.folder = folder
        self.viewer = load_viewer(viewer)
        self._written = -1

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        """Write when it is time; one process does."""
        step = trainer.global_step
        if step % self.every or step == self._written or not trainer.is_global_zero:
            return
        self._written = step
        if not isinstance(module, PairModule):
            raise UsageError(f"PredictionSamples shows what a PairModule predicts, not a {type(module).__name__}")
        folder = Path(self.folder or Path(trainer.default_root_dir) / "samples") / f"step-{step:07d}"
        for number in range(min(self.pairs, len(batch.names))):
            self._write(module, batch.sample(number), folder, number)

    def _write(self, module: PairModule, pair: PairBatch, folder: Path, number: int) -> None:
        with torch.no_grad():
            prediction = module.predict_step(pair, number)
        known = pair.to("cpu")
        scenes = {"predicted": predicted_scene(known, prediction), "truth": true_scene(known)}
        for name, scene in scenes.items():
            path = folder / f"pair-{number}-{name}{self.viewer.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.viewer.write(scene, path)
        log.info("samples of step %s are in %s", folder.name.removeprefix("step-"), folder)
