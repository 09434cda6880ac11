"""Training a two-view network as a LightningModule."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as L
import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch, symmetrised
from stereo4d.errors import UsageError
from stereo4d.evaluation.metrics import depth_errors
from stereo4d.network.objective import LossValue, Objective
from stereo4d.network.stereo import Encoded, StereoConfig, StereoNetwork
from stereo4d.network.weights import start_from as start_from_weights
from stereo4d.training.losses import ConfidenceWeighted, PointmapRegression
from stereo4d.training.matching import attention_loss, attention_targets, record_cross_attention
from stereo4d.types import PairPrediction

log = logging.getLogger(__name__)


class PairModule(L.LightningModule):
    """Trains encoder, decoders and pointmap heads on image pairs, both orders of every pair at once.

    Args:
        network: options of the network.
        learning_rate: peak of the schedule.
        weight_decay: of matrices; vectors are not decayed.
        warmup_steps: optimiser steps of linear warm-up.
        cooldown_share: share of ``trainer.max_steps`` at the end over which the rate falls to zero; between warm-up and
            cool-down it is constant, so that a run can be stopped, or prolonged, without having planned for it.
        alpha: reward for confidence in the loss.
        matching_weight: weight of the term that teaches cross-attention where to look; 0 leaves it out.
        start_from: name or path of weights to start from; what does not fit starts fresh, and is said.
        head_objectives: what heads beside the main one are trained for, by name, where it is not what they ask for.
    """

    def __init__(
        self,
        network: StereoConfig,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 200,
        cooldown_share: float = 0.3,
        alpha: float = 0.2,
        matching_weight: float = 0.1,
        start_from: str | None = None,
        head_objectives: dict[str, Objective] | None = None,
    ) -> None:
        super().__init__()
        self.network = StereoNetwork(network)
        if start_from is not None:
            log.info("%s", start_from_weights(self.network, start_from))
        self.beside = self._objectives_beside(head_objectives or {})
        self.objective = ConfidenceWeighted(PointmapRegression(), alpha)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.cooldown_share = cooldown_share
        self.matching_weight = matching_weight

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of a symmetrised batch: every image is encoded once and serves as view 0 and as view 1."""
        with record_cross_attention(self.network) as (records0, records1):
            prediction, truth, positions = self._both_orders(batch)
        loss = self._loss(prediction, truth)
        self._log("train", loss, len(batch.image0))
        if not self.matching_weight:
            return loss.total
        patch = self.network.config.patch_size
        matching0, hit0 = attention_loss(records0, positions, attention_targets(truth.match0, patch))
        matching1, hit1 = attention_loss(records1, positions, attention_targets(truth.match1, patch))
        self.log("train/attention_hit", (hit0 + hit1) / 2, batch_size=len(batch.image0))
        self.log("train/attention_loss", (matching0 + matching1).detach() / 2, batch_size=len(batch.image0))
        return loss.total + self.matching_weight * (matching0 + matching1)

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        """Loss, depth error and view 1's pointmap error of held-out pairs."""
        prediction, truth, _ = self._both_orders(batch)
        self._log("val", self._loss(prediction, truth), len(batch.image0))
        for name, heads in self.network.heads_beside().items():
            if name not in prediction.extras:
                continue
            for figure, values in heads[0].measure(name, prediction, truth).items():
                if not values.isnan().all():
                    self.log(f"val/{name}_{figure}", values.nanmean(), batch_size=int((~values.isnan()).sum()))
        depth = depth_errors(prediction.pointmap0[..., 2], truth.pointmap0[..., 2])
        self.log("val/absrel", depth.abs_rel.mean(), batch_size=len(batch.image0), prog_bar=True)
        self.log("val/delta1", depth.delta_125.mean(), batch_size=len(batch.image0))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint carries the options that its network is built from."""
        checkpoint["network_config"] = self.network.config.to_json()

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with DUSt3R's betas; warm-up, plateau, linear cool-down, per optimiser step."""
        groups = param_groups_weight_decay(self.network, self.weight_decay)  # frozen parts are left out
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate_share(self, step: int) -> float:
        """Share of the peak learning rate at an optimiser step."""
        last = self.trainer.max_steps
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if last is None or last <= 0:
            return warm
        left = (last - step) / max(1.0, self.cooldown_share * last)
        return min(warm, max(0.0, left))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop at a loss that is no number, before it reaches the weights."""
        squares = [p.grad.square().sum() for p in self.network.parameters() if p.grad is not None]
        norm = float(torch.stack(squares).sum().sqrt())
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"the gradient at step {self.global_step} is not finite; resume from the last checkpoint "
                "with a lower learning_rate"
            )
        self.log("train/gradient_norm", norm)

    def _both_orders(self, batch: PairBatch) -> tuple[PairPrediction, PairBatch, Tensor]:
        """Predict (0, 1) and (1, 0) of every pair from one encoding of each image."""
        truth = symmetrised(batch)
        encoded = self.network.encode(truth.image0)  # view 0 of both orders is every image once
        count = len(batch.image0)
        other = torch.arange(2 * count, device=encoded.tokens.device).roll(count)
        view1: Encoded = encoded.select(other)
        return self.network.predict_encoded(encoded, view1, self._asked(truth)), truth, encoded.positions

    def _asked(self, truth: PairBatch) -> Tensor | None:
        """The query times, if the data have any and a head takes them."""
        return truth.times if self.network.takes_times and truth.times.shape[1] else None

    def _objectives_beside(self, given: dict[str, Objective]) -> dict[str, Objective]:
        known = {name: heads[0] for name, heads in self.network.heads_beside().items()}
        if unknown := sorted(set(given) - set(known)):
            raise UsageError(
                f"head_objectives {', '.join(unknown)}: the network has {', '.join(known) or 'none'} beside"
            )
        asked = {name: given.get(name) or head.objective(name) for name, head in known.items()}
        return {name: objective for name, objective in asked.items() if objective is not None}

    def _loss(self, prediction: PairPrediction, truth: PairBatch) -> LossValue:
        """The main head's loss and those of the heads beside it."""
        values = [self.objective(prediction, truth)]
        values += [term(prediction, truth) for name, term in self.beside.items() if name in prediction.extras]
        parts = {name: value for found in values for name, value in found.parts.items()}
        return LossValue(torch.stack([value.total for value in values]).sum(), parts)

    def _log(self, stage: str, loss: LossValue, batch_size: int) -> None:
        figures = {f"{stage}/{name}": value for name, value in loss.parts.items()}
        self.log_dict(figures, batch_size=batch_size)
        self.log(f"{stage}/loss", loss.total.detach(), batch_size=batch_size, prog_bar=True)
