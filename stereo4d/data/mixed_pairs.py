"""Mixtures of data sets as a LightningDataModule."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.parts import Part


class MixedPairs(L.LightningDataModule):
    """Pairs of several data sets in chosen numbers, one size a batch.

    What is seen follows from seed, epoch and rank alone, not from the number of workers; a resumed run goes on with the
    batch after the last one that it trained on.

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
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """The mixture, from the batch on that comes next."""
        raise NotImplementedError

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """The parts to validate on, one after the other."""
        raise NotImplementedError

    def test_dataloader(self) -> DataLoader[PairBatch]:
        """The parts to test on."""
        raise NotImplementedError

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        """The same."""
        raise NotImplementedError
