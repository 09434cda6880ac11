"""Training a completion network (CroCo) as a LightningModule: what every network of the family starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch
from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.completion_loss import CompletionLoss
from stereo4d.network.completion_pictures import imagenet_input
from stereo4d.network.patches import draw_mask
from stereo4d.training.network_module import NetworkModule
from stereo4d.training.optimizers import OptimizerRecipe
from stereo4d.training.schedules import Schedule


class CompletionModule(NetworkModule):
    """Trains a network to complete view 0 of every pair from view 1; any pairs of images will do, no truth is asked.

    Each image of a pair has its colours changed on its own, as CroCo v2 (Weinzaepfel et al. 2023) does.

    Args:
        network: options of the network.
        colour_jitter: how much brightness, contrast and saturation may change: factors in [1 - j, 1 + j].
        learning_rate: peak of the schedule.
        weight_decay: of matrices; vectors are not decayed.
        optimizer: by default ``stereo4d.training.optimizers.AdamW()``; the other is ``Muon``.
        schedule: of the learning rate; by default ``stereo4d.training.schedules.Plateau()``.
        recompute: keep only what enters each block, and compute the rest once more for the gradient.
        draws_seed: of masks and colours.
    """

    network: CompletionNetwork

    def __init__(
        self,
        network: CompletionConfig,
        *,
        colour_jitter: float = 0.4,
        learning_rate: float = 3e-4,
        weight_decay: float = 0.05,
        optimizer: OptimizerRecipe | None = None,
        schedule: Schedule | None = None,
        recompute: bool = False,
        draws_seed: int = 0,
    ) -> None:
        from torchvision.transforms import v2

        super().__init__(
            CompletionNetwork(network),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            optimizer=optimizer,
            schedule=schedule,
            recompute=recompute,
            draws_seed=draws_seed,
        )
        self.loss = CompletionLoss()
        self.jitter = v2.ColorJitter(brightness=colour_jitter, contrast=colour_jitter, saturation=colour_jitter)

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss over the hidden patches of view 0."""
        loss = self.loss_of(batch)
        self.log("train/loss", loss.detach(), batch_size=len(batch.image0), prog_bar=True)
        return loss

    def loss_of(self, batch: PairBatch) -> Tensor:
        """The training loss of a batch, nothing logged; masks and colours are drawn."""
        return self.loss(self.network(self._jittered(batch.image0), self._jittered(batch.image1)))

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        """Loss of held-out pairs in their own colours; a batch is always hidden alike."""
        self._measure("val", batch, batch_index)

    def test_step(self, batch: PairBatch, batch_index: int) -> None:
        """As validation, of the test data."""
        self._measure("test", batch, batch_index)

    def _measure(self, stage: str, batch: PairBatch, batch_index: int) -> None:
        config = self.network.config
        count = batch.image0.shape[2] * batch.image0.shape[3] // config.patch_size**2
        generator = torch.Generator().manual_seed(batch_index)
        hidden = draw_mask(len(batch.image0), count, config.mask_ratio, generator=generator, device=self.device)
        loss = self.loss(
            self.network(*(imagenet_input(_unit(image)) for image in (batch.image0, batch.image1)), hidden)
        )
        self.log(f"{stage}/loss", loss, batch_size=len(batch.image0), prog_bar=True, sync_dist=True)

    def _jittered(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] as the network takes them, the colours of each changed on its own."""
        return torch.stack([imagenet_input(self.jitter(image)) for image in _unit(images)])


def _unit(images: Tensor) -> Tensor:
    return (images + 1) / 2
