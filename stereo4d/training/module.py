"""Training a two-view network as a LightningModule."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch, symmetrised
from stereo4d.errors import UsageError
from stereo4d.evaluation.metrics import depth_errors
from stereo4d.network.encoder import ManyAspectPatchEmbed
from stereo4d.network.objective import LossValue, Objective
from stereo4d.network.stereo import Encoded, StereoConfig, StereoNetwork
from stereo4d.network.weights import start_from as start_from_weights
from stereo4d.training.losses import ConfidenceWeighted, PointmapRegression
from stereo4d.training.matching import AttentionInput, attention_loss, attention_targets, record_cross_attention
from stereo4d.training.network_module import NetworkModule
from stereo4d.training.optimizers import OptimizerRecipe
from stereo4d.training.schedules import Schedule
from stereo4d.training.upright import upright_targets
from stereo4d.types import PairPrediction

log = logging.getLogger(__name__)


class PairModule(NetworkModule):
    """Trains encoder, decoders and heads on image pairs, both orders of every pair at once.

    Args:
        network: options of the network.
        objective: what the main head is trained for; by default DUSt3R's, ``ConfidenceWeighted(PointmapRegression())``.
        head_objectives: what heads beside the main one are trained for, by name, where it is not what they ask for.
        matching_weight: weight of the term that teaches cross-attention where to look; 0 leaves it out.
        start_from: name or path of weights to start from; what does not fit starts fresh, and is said.
        learning_rate: peak of the schedule.
        weight_decay: of matrices; vectors are not decayed.
        optimizer: by default ``stereo4d.training.optimizers.AdamW()``; the other is ``Muon``.
        schedule: of the learning rate; by default ``stereo4d.training.schedules.Plateau()``.
        recompute: keep only what enters each block and head, and compute the rest once more for the gradient.
        draws_seed: of whatever a training step draws at random.
    """

    network: StereoNetwork

    def __init__(
        self,
        network: StereoConfig,
        *,
        objective: Objective | None = None,
        head_objectives: dict[str, Objective] | None = None,
        matching_weight: float = 0.1,
        start_from: str | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        optimizer: OptimizerRecipe | None = None,
        schedule: Schedule | None = None,
        recompute: bool = False,
        draws_seed: int = 0,
    ) -> None:
        built = StereoNetwork(network)
        if start_from is not None:
            log.info("%s", start_from_weights(built, start_from))
        # only completion uses it; that it never gets a gradient would stop training on several processes
        built.mask_token.requires_grad_(False)
        super().__init__(
            built,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            optimizer=optimizer,
            schedule=schedule,
            recompute=recompute,
            draws_seed=draws_seed,
        )
        self.beside = self._objectives_beside(head_objectives or {})
        self.objective = objective or ConfidenceWeighted(PointmapRegression())
        self.matching_weight = matching_weight

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of a symmetrised batch: every image is encoded once and serves as view 0 and as view 1."""
        loss = self._training_loss(batch)
        self._log("train", loss, len(batch.image0))
        return loss.total

    def loss_of(self, batch: PairBatch) -> Tensor:
        """The training loss of a batch, nothing logged."""
        return self._training_loss(batch).total

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        """Loss, depth error and view 1's pointmap error of held-out pairs."""
        self._measure("val", batch)

    def test_step(self, batch: PairBatch, batch_index: int) -> None:
        """The figures of validation, of the test data."""
        self._measure("test", batch)

    def predict_step(self, batch: PairBatch, batch_index: int) -> PairPrediction:
        """What the network says of the pairs in the order they come in, on the CPU."""
        asked = self._asked(batch)
        return self.network(batch.image0, batch.image1, *batch.true_shapes(), times=asked).on_cpu()

    def _training_loss(self, batch: PairBatch) -> LossValue:
        if not self.matching_weight:
            return self._loss(*self._both_orders(batch)[:2])
        with record_cross_attention(self.network) as records:
            prediction, truth, encoded = self._both_orders(batch)
        loss = self._loss(prediction, truth)
        matching, figures = self._matching(records, encoded, truth)
        return LossValue(loss.total + self.matching_weight * matching, loss.parts | figures)

    def _matching(
        self, records: tuple[list[AttentionInput], list[AttentionInput]], encoded: Encoded, truth: PairBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The term that teaches cross-attention where to look, and its figures."""
        patch = self.network.config.patch_size
        grid = encoded.image_size[0] // patch, encoded.image_size[1] // patch
        views = (
            (encoded, truth.match0, truth.portrait0),
            (_other_order(encoded), truth.match1, truth.portrait1),
        )
        losses, hits = [], []
        for record, (own, match, portrait), (other, _, other_portrait) in zip(records, views, views[::-1], strict=True):
            targets = upright_targets(attention_targets(match, patch), grid, portrait, other_portrait)
            loss, hit = attention_loss(record, own.positions, targets, other.positions)
            losses.append(loss)
            hits.append(hit)
        total = torch.stack(losses).sum()
        return total, {"attention_hit": torch.stack(hits).mean(), "attention_loss": total.detach() / 2}

    def _measure(self, stage: str, batch: PairBatch) -> None:
        prediction, truth, _ = self._both_orders(batch)
        self._log(stage, self._loss(prediction, truth), len(batch.image0))
        main = self.network.downstream_head1
        measured = {main.extras_name: main} | {name: heads[0] for name, heads in self.network.heads_beside().items()}
        for name, head in measured.items():
            if name not in prediction.extras:
                continue
            for figure, values in head.measure(name, prediction, truth).items():
                if not values.isnan().all():
                    known = int((~values.isnan()).sum())
                    self.log(f"{stage}/{name}_{figure}", values.nanmean(), batch_size=known)
        depth = depth_errors(prediction.pointmap0[..., 2], torch.where(truth.valid0, truth.pointmap0[..., 2], 0))
        self.log(
            f"{stage}/absrel", depth.abs_rel.nanmean(), batch_size=len(batch.image0), prog_bar=True, sync_dist=True
        )
        self.log(f"{stage}/delta1", depth.delta_125.nanmean(), batch_size=len(batch.image0), sync_dist=True)

    def _both_orders(self, batch: PairBatch) -> tuple[PairPrediction, PairBatch, Encoded]:
        """Predict (0, 1) and (1, 0) of every pair from one encoding of each image."""
        truth = symmetrised(batch)
        turns_upright = isinstance(self.network.patch_embed, ManyAspectPatchEmbed)
        if not turns_upright and truth.portrait0.any():
            raise UsageError(
                "data.portraits stores portrait images transposed, which this network would take as they lie: give it "
                "patch_embed_cls ManyAR_PatchEmbed and landscape_only true, or leave data.portraits out"
            )
        encoded = self.network.encode(truth.image0, truth.true_shapes()[0])  # view 0 of both orders is every image once
        prediction = self.network.predict_encoded(encoded, _other_order(encoded), self._asked(truth))
        return prediction, truth, encoded

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
        shared = stage != "train"  # of held-out pairs every process saw a part; of training, one is sample enough
        figures = {f"{stage}/{name}": value for name, value in loss.parts.items()}
        self.log_dict(figures, batch_size=batch_size, sync_dist=shared)
        self.log(f"{stage}/loss", loss.total.detach(), batch_size=batch_size, prog_bar=True, sync_dist=shared)


def _other_order(encoded: Encoded) -> Encoded:
    """View 1 of a symmetrised batch: its first half, then its second, the other way round."""
    places = torch.arange(len(encoded), device=encoded.tokens.device)
    return encoded.select(places.roll(len(encoded) // 2))
