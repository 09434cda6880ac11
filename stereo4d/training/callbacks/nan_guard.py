"""Ends training at the first value that is no number, keeps the batch it came with, and names the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch
from stereo4d.errors import TrainingError
from stereo4d.storage import save_arrays
from stereo4d.training.network_module import NetworkModule


class NanGuard(L.Callback):
    """Looks at every batch, every loss and every gradient before they reach the weights.

    What it finds is written as ``FOLDER/step-S-rank-R.safetensors``: the tensors of the batches of that step by name
    (``0/image0``: of the first micro-batch), and the names of their samples.

    Args:
        folder: where to write; by default ``not-finite`` in the trainer's root folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._since_step: list[PairBatch] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: PairBatch, index: int) -> None:
        """Stop at truth or images that are no numbers."""
        self._since_step.append(batch)
        if wrong := not_finite(batch):
            told = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in wrong.items())
            raise self._stopped(trainer, f"the data are not finite ({told})")

    def on_before_backward(self, trainer: L.Trainer, module: L.LightningModule, loss: Tensor) -> None:
        """Stop at a loss that is no number, and find the samples that make it so."""
        if loss.isfinite():
            return
        batch = self._since_step[-1]
        names = _samples_at_fault(module, batch)
        raise self._stopped(trainer, f"the loss is {loss.item()}, by sample {', '.join(names)}")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop at a gradient that is no number."""
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        if torch.nn.utils.get_total_norm(list(gradients.values())).isfinite():
            self._since_step.clear()
            return
        first = next((name for name, gradient in gradients.items() if not gradient.isfinite().all()), "their norm")
        names = [name for batch in self._since_step for name in batch.names]
        raise self._stopped(
            trainer, f"the loss is finite, its gradient is not (first in {first}), among samples {', '.join(names)}"
        )

    def _stopped(self, trainer: L.Trainer, reason: str) -> TrainingError:
        folder = Path(self.folder or Path(trainer.default_root_dir) / "not-finite")
        path = folder / f"step-{trainer.global_step:07d}-rank-{trainer.global_rank}.safetensors"
        arrays = {
            f"{number}/{name}": value
            for number, batch in enumerate(self._since_step)
            for name, value in vars(batch).items()
            if isinstance(value, Tensor)
        }
        names = [list(batch.names) for batch in self._since_step]
        save_arrays(path, arrays, {"names": json.dumps(names)})
        return TrainingError(
            f"step {trainer.global_step}: {reason}; the batch is in {path}; mend the data, or resume from the last "
            "checkpoint with a lower learning_rate"
        )


def not_finite(batch: PairBatch) -> dict[str, list[str]]:
    """The samples of a batch that hold what is no number, by name: which of their fields do.

    Where truth is said not to be valid it may be anything, and matches are NaN where there is none.
    """
    found = {}
    for name, fine in _fine(batch).items():
        found[name] = fine.flatten(1).all(1)
    # one glance at the device, in the ordinary case
    if torch.stack(list(found.values())).all():
        return {}
    wrong: dict[str, list[str]] = {}
    for name, fine in found.items():
        for sample in (~fine).nonzero().flatten().tolist():
            wrong.setdefault(batch.names[sample], []).append(name)
    return wrong


def _fine(batch: PairBatch) -> dict[str, Tensor]:
    """(B, ...) bool by field: the value is a number, or nobody asks for it."""
    plain = ("image0", "image1", "intrinsics0", "intrinsics1", "relative", "times")
    fine = {name: getattr(batch, name).isfinite() for name in plain}
    for view in ("0", "1"):
        for name, valid in (("pointmap", "valid"), ("motion", "motion_valid")):
            values, known = getattr(batch, name + view), getattr(batch, valid + view)
            fine[name + view] = values.isfinite().all(-1) | ~known
    return {name: value for name, value in fine.items() if value.numel()}


def _samples_at_fault(module: Any, batch: PairBatch) -> list[str]:
    """Names of the samples whose own loss is no number; of all, where it takes several together."""
    if not isinstance(module, NetworkModule):
        return list(batch.names)
    with torch.no_grad():
        losses = [module.loss_of(batch.sample(number)) for number in range(len(batch.names))]
    return [name for name, loss in zip(batch.names, losses, strict=True) if not loss.isfinite()] or list(batch.names)
