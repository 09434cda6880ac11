"""What training has in common whatever is trained: optimiser, schedule, frozen parts, draws, checkpoints."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import lightning as L
import numpy as np
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch
from stereo4d.errors import TrainingError, UsageError
from stereo4d.network.completion import CompletionNetwork
from stereo4d.network.stereo import StereoNetwork
from stereo4d.training.activation_checkpointing import recompute_activations
from stereo4d.training.optimizers import AdamW, OptimizerRecipe
from stereo4d.training.schedules import Plateau, Schedule


class NetworkModule(L.LightningModule):
    """Trains a network on batches of image pairs; derive from it what the loss of a batch is.

    Args:
        network: to be trained; what needs no gradient is left as it is.
        learning_rate: peak of the schedule.
        weight_decay: of matrices; vectors are not decayed.
        optimizer: how gradients become steps; by default ``AdamW()``.
        schedule: of the learning rate; by default ``Plateau()``.
        recompute: keep only what enters each block and head, and compute the rest once more for the gradient: less
            memory for more time.
        draws_seed: of whatever a step draws at random (masks, colours, dropout); it follows from the step's number, so
            that a resumed run draws what an unbroken one does.
    """

    def __init__(
        self,
        network: StereoNetwork | CompletionNetwork,
        *,
        learning_rate: float,
        weight_decay: float,
        optimizer: OptimizerRecipe | None,
        schedule: Schedule | None,
        recompute: bool,
        draws_seed: int,
    ) -> None:
        super().__init__()
        if learning_rate <= 0:
            raise UsageError(f"learning_rate {learning_rate} must be more than 0")
        self.network = network
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer = optimizer or AdamW()
        self.schedule = schedule or Plateau()
        self.draws_seed = draws_seed
        if recompute:
            recompute_activations(network)

    @abstractmethod
    def loss_of(self, batch: PairBatch) -> Tensor:
        """The training loss of a batch, a scalar, nothing logged."""

    def on_train_start(self) -> None:
        """A prolonged run goes on at the rate of its new end; the checkpoint has the one that its old end asked for."""
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate(self.global_step)

    def on_train_batch_start(self, batch: PairBatch, batch_index: int) -> None:
        """Whatever this step draws follows from its number and from the process that draws."""
        numbers = (self.draws_seed, self.global_step, batch_index, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint carries the options that its network is built from."""
        checkpoint["network_config"] = self.network.config.to_json()

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser; the schedule, per optimiser step.

        Raises:
            UsageError: nothing is left to learn, or the schedule needs an end and there is none.
        """
        trainer = self.trainer
        if self.schedule.needs_end and trainer.max_epochs in (-1, None) and trainer.max_steps < 1:
            raise UsageError(
                f"{type(self.schedule).__name__} needs to know the last step: set trainer.max_steps or max_epochs"
            )
        groups = param_groups_weight_decay(self.network, self.weight_decay)  # frozen parts are left out
        if not any(group["params"] for group in groups):
            raise UsageError("every part of the network is frozen: give it a head beside the main one, or freeze less")
        # Lightning cannot clip what a fused optimiser unscales itself
        fused = trainer.precision != "16-mixed"
        optimizer = self.optimizer.build(groups, self.learning_rate, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step) / self.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """The learning rate at an optimiser step."""
        return self.schedule.rate(step, self._last_step() if step else None, self.learning_rate)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop at a gradient that is no number, before it reaches the weights."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not math.isfinite(float(norm)):
            raise TrainingError(
                f"the gradient at step {self.global_step} is not finite; resume from the last checkpoint with a lower "
                "learning_rate; stereo4d.training.callbacks.NanGuard tells which samples"
            )
        self.log("train/gradient_norm", norm)

    def _last_step(self) -> int | None:
        """Optimiser steps that training will take, None when it has no end.

        Not asked before the first step: to count epochs in steps the trainer makes the loaders, which on resuming must
        not happen before it knows where to go on.
        """
        if self.trainer.max_epochs in (-1, None):
            return self.trainer.max_steps if self.trainer.max_steps > 0 else None
        steps = self.trainer.estimated_stepping_batches
        return int(steps) if steps > 0 and math.isfinite(steps) else None
