"""Pairs of the synthetic world as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from stereo4d.data.synthetic.pairs import PairBatch, sample_pairs
from stereo4d.data.synthetic.world import WorldConfig

HELD_OUT = 2**40
"""Seeds from here on are never trained on."""


class BatchSeeds(IterableDataset[Tensor]):
    """An endless (or counted) stream of requests (seed, height, width); the pairs are made on the training device."""

    def __init__(self, sizes: list[tuple[int, int]], first_seed: int, count: int | None) -> None:
        self.sizes = sizes
        self.first_seed = first_seed
        self.count = count

    def __iter__(self) -> Iterator[Tensor]:
        """Requests as int64 tensors (3,); the size is a function of the seed alone."""
        seed = self.first_seed
        while self.count is None or seed < self.first_seed + self.count:
            choice = torch.Generator().manual_seed(seed)
            height, width = self.sizes[int(torch.randint(len(self.sizes), (), generator=choice))]
            yield torch.tensor([seed, height, width])
            seed += 1


class SyntheticPairs(L.LightningDataModule):
    """Endless pairs of random worlds, never the same twice, drawn on the device that trains.

    A resumed run goes on with the batch after the last one it saw: a batch's seed is its number.

    Args:
        world: knobs of the random world.
        batch_size: pairs a batch; training sees each in both orders.
        sizes: (height, width) choices in pixels; one is drawn per batch.
        seed: of the whole stream.
        val_batches: held-out batches, always the same.
    """

    def __init__(
        self,
        world: WorldConfig | None = None,
        *,
        batch_size: int = 16,
        sizes: list[tuple[int, int]] | None = None,
        seed: int = 0,
        val_batches: int = 4,
    ) -> None:
        super().__init__()
        self.world = world or WorldConfig()
        self.batch_size = batch_size
        self.sizes = sizes or [(96, 144)]
        self.seed = seed
        self.val_batches = val_batches

    def train_dataloader(self) -> DataLoader[Tensor]:
        """An endless loader; ``trainer.max_steps`` ends training."""
        # Lightning restores the trainer's counters before it asks for loaders, so this is where a resumed run goes on.
        seen = self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0
        return DataLoader(BatchSeeds(self.sizes, (self.seed << 24) + seen, None), batch_size=None)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The held-out batches."""
        return DataLoader(BatchSeeds(self.sizes, HELD_OUT, self.val_batches), batch_size=None)

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> PairBatch:
        """Make the requested pairs where the request has arrived."""
        seed, height, width = batch.tolist()
        return sample_pairs(self.world, self.batch_size, height, width, seed=seed, device=batch.device)
