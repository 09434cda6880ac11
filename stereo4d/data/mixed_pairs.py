"""Mixtures of data sets as a LightningDataModule."""

from __future__ import annotations

import lightning as L

from stereo4d.data.mixed_batches import BatchLoader, HeldOutBatches, TrainingBatches
from stereo4d.data.mixture import BatchOrder, Mixture
from stereo4d.data.parts import Part, Shape
from stereo4d.errors import UsageError


class MixedPairs(L.LightningDataModule):
    """Pairs of several data sets in chosen numbers, one size a batch.

    What is seen follows from seed, epoch and rank alone, not from the number of workers; a resumed run goes on with the
    batch after the last one that it trained on. Loaders for training have no end, ``trainer.max_steps`` ends training;
    epochs are those of the mixture, with other pairs in another order each.

    Args:
        train: parts of the mixture.
        val: parts to validate on, in order, never augmented.
        test: parts to test on, and to predict.
        sizes: (height, width) choices in pixels; one is drawn per batch. The first is that of validation and test.
        batch_size: pairs a batch and process; training sees each in both orders.
        seed: of all that is drawn.
        workers: processes that prepare batches ahead; 0 prepares them in the process that trains.
        query_times: times at which motion is known, of each pair; for networks with a motion head.
        portraits: portrait images are stored transposed, for networks with ``landscape_only``; else every image is
            cropped to the batch's size.

    Raises:
        UsageError: a number is out of range, or sizes are portrait where ``portraits`` asks for landscape ones.
    """

    def __init__(
        self,
        train: list[Part] | None = None,
        *,
        val: list[Part] | None = None,
        test: list[Part] | None = None,
        sizes: list[tuple[int, int]] | None = None,
        batch_size: int = 4,
        seed: int = 0,
        workers: int = 0,
        query_times: int = 0,
        portraits: bool = False,
    ) -> None:
        super().__init__()
        chosen = [(height, width) for height, width in sizes or [(96, 144)]]
        if any(min(size) < 1 or (portraits and size[0] > size[1]) for size in chosen):
            raise UsageError(
                f"sizes={chosen}: give (height, width) above 0; with portraits, landscape ones: portrait images are "
                "stored transposed"
            )
        if batch_size < 1 or min(workers, query_times, seed) < 0:
            raise UsageError(
                f"batch_size={batch_size} workers={workers} query_times={query_times} seed={seed}: give a batch_size "
                "of at least 1, and none below 0"
            )
        self.shapes = [Shape(size, query_times, portraits) for size in chosen]
        self.parts = {"train": train or [], "val": val or [], "test": test or []}
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> BatchLoader:
        """The mixture without end, from the batch on that comes next."""
        mixture = self._mixture("train")
        # Lightning restores the trainer's counters before it asks for loaders, so this is where a resumed run goes on.
        seen = self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0
        rank, world = self._process()
        order = BatchOrder(mixture.epoch_length(), self.batch_size, len(self.shapes), world, self.seed)
        batches = TrainingBatches(mixture, order, self.shapes, rank=rank, first=seen)
        return BatchLoader(batches, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The parts to validate on, one after the other."""
        return self._held_out("val") if self.parts["val"] else []

    def test_dataloader(self) -> BatchLoader:
        """The parts to test on."""
        return self._held_out("test")

    def predict_dataloader(self) -> BatchLoader:
        """The same."""
        return self._held_out("test")

    def _held_out(self, stage: str) -> BatchLoader:
        mixture = self._mixture(stage)
        mixture.epoch_length()  # finds pairs once, here: what is wrong with a data set is not left to every worker
        rank, world = self._process()
        batches = HeldOutBatches(mixture, self.batch_size, self.shapes[0], rank=rank, world=world)
        return BatchLoader(batches, batch_size=None, num_workers=self.workers)

    def _mixture(self, stage: str) -> Mixture:
        if not self.parts[stage]:
            raise UsageError(f"data.{stage} has no parts; give at least one data set to {stage} on")
        return Mixture(self.parts[stage], self.seed)

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
