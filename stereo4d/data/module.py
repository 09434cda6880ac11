"""Pairs of the synthetic world as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.data.synthetic.worlds import Worlds

HELD_OUT = 2**40
"""Batch numbers from here on are never trained on."""


@dataclass(frozen=True)
class BatchRecipe:
    """How a batch is made from its number alone."""

    world: Worlds
    batch_size: int
    sizes: tuple[tuple[int, int], ...]
    """(height, width) choices; one is drawn per batch."""
    query_times: int = 0
    """Times at which motion is known, drawn for each pair."""
    at_times: tuple[float, ...] = ()
    """The same times for every pair, instead of drawn ones."""

    def make(self, number: int, device: torch.device | str) -> PairBatch:
        """The batch of that number, drawn and rendered on the device."""
        choice = torch.Generator().manual_seed(number)
        height, width = self.sizes[int(torch.randint(len(self.sizes), (), generator=choice))]
        return sample_pairs(
            self.world,
            self.batch_size,
            height,
            width,
            seed=number,
            device=device,
            query_times=self.query_times,
            at_times=self.at_times,
        )


class BatchNumbers(IterableDataset[Tensor]):
    """Batch numbers from ``first`` on, as tensors; they travel to the device, the pairs are made there.

    Of several processes that train together, each (``rank`` of ``world``) takes every ``world``-th number.
    """

    def __init__(self, first: int, count: int | None, *, rank: int = 0, world: int = 1) -> None:
        self.first = first
        self.count = count
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Tensor]:
        """``first``, ``first + 1``, ...; worker w of W takes every W-th, so that the loader's order stays the same."""
        worker = get_worker_info()
        place, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = self.first + self.rank + self.world * place
        while self.count is None or number < self.first + self.count:
            yield torch.tensor(number)
            number += self.world * workers


class BatchesMadeAhead(IterableDataset[PairBatch]):
    """The same batches, made in the loader's worker processes while the previous ones are trained on."""

    def __init__(self, numbers: BatchNumbers, recipe: BatchRecipe) -> None:
        self.numbers = numbers
        self.recipe = recipe

    def __iter__(self) -> Iterator[PairBatch]:
        """The batches of ``numbers``."""
        for number in self.numbers:
            yield self.recipe.make(int(number), "cpu")


class SyntheticPairs(L.LightningDataModule):
    """Endless pairs of random worlds, never the same twice.

    A resumed run goes on with the batch after the last one it saw: a batch follows from its number.

    Args:
        world: draws the random worlds: knobs of the plain rooms, or any ``Worlds`` by class path.
        batch_size: pairs a batch; training sees each in both orders.
        sizes: (height, width) choices in pixels; one is drawn per batch.
        seed: of the whole stream.
        val_batches: held-out batches, always the same.
        workers: processes that render ahead on the CPU; 0 renders on the device that trains.
        query_times: times at which motion is known, of each pair; for networks with a motion head.
    """

    def __init__(
        self,
        world: WorldConfig | Worlds | None = None,
        *,
        batch_size: int = 16,
        sizes: list[tuple[int, int]] | None = None,
        seed: int = 0,
        val_batches: int = 4,
        workers: int = 0,
        query_times: int = 0,
    ) -> None:
        super().__init__()
        choices = tuple((height, width) for height, width in sizes or [(96, 144)])
        self.recipe = BatchRecipe(world or WorldConfig(), batch_size, choices, query_times)
        self.seed = seed
        self.val_batches = val_batches
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Tensor] | DataLoader[PairBatch]:
        """An endless loader; ``trainer.max_steps`` ends training."""
        # Lightning restores the trainer's counters before it asks for loaders, so this is where a resumed run goes on.
        rank, world = self._place()
        seen = self.trainer.global_step * self.trainer.accumulate_grad_batches * world if self.trainer else 0
        numbers = BatchNumbers((self.seed << 24) + seen, None, rank=rank, world=world)
        if not self.workers:
            return DataLoader(numbers, batch_size=None)
        return DataLoader(BatchesMadeAhead(numbers, self.recipe), batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The held-out batches."""
        rank, world = self._place()
        return DataLoader(BatchNumbers(HELD_OUT, self.val_batches, rank=rank, world=world), batch_size=None)

    def test_dataloader(self) -> DataLoader[Tensor]:
        """The held-out batches after those of validation."""
        rank, world = self._place()
        numbers = BatchNumbers(HELD_OUT + self.val_batches, self.val_batches, rank=rank, world=world)
        return DataLoader(numbers, batch_size=None)

    def predict_dataloader(self) -> DataLoader[Tensor]:
        """The held-out batches of validation."""
        return self.val_dataloader()

    def _place(self) -> tuple[int, int]:
        """Which process this is, and of how many that train together."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def on_after_batch_transfer(self, batch: Tensor | PairBatch, dataloader_idx: int) -> PairBatch:
        """Make the requested pairs where the request has arrived, unless a worker has made them already."""
        return batch if isinstance(batch, PairBatch) else self.recipe.make(int(batch), batch.device)
