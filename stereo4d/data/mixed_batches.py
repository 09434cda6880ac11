"""Batches of a mixture by their number, made in worker processes or in this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from stereo4d.data.mixture import FIRST_SEED, BatchOrder, Mixture, drawn
from stereo4d.data.pair_batch import PairBatch, joined
from stereo4d.data.parts import Shape
from stereo4d.errors import Stereo4DError

_SAMPLE = 1
"""Tells the random numbers of a pair from those of its epoch."""


@dataclass(frozen=True)
class Failed:
    """What went wrong in a worker process, on its way to the process that trains."""

    error: Stereo4DError


class TrainingBatches(IterableDataset[PairBatch | Failed]):
    """The batches that one process trains on, without end, from ``first`` on.

    A batch follows from its number; the number of workers has no part in it.
    """

    def __init__(
        self,
        mixture: Mixture,
        order: BatchOrder,
        shapes: Sequence[Shape],
        *,
        rank: int = 0,
        first: int = 0,
    ) -> None:
        self.mixture = mixture
        self.order = order
        self.shapes = tuple(shapes)
        self.rank = rank
        self.first = first

    def __iter__(self) -> Iterator[PairBatch | Failed]:
        """Batch ``first``, ``first + 1``, ...; worker w of W makes every W-th."""
        number, stride = _share(self.first)
        epoch = -1
        while True:
            if number // len(self.order) != epoch:
                epoch = number // len(self.order)
                places = self.mixture.places(epoch)
                chosen, sizes = self.order.epoch(epoch, self.rank)
            row = number % len(self.order)
            yield _tried(self._batch, epoch, row, places[chosen[row]], self.shapes[sizes[row]])
            number += stride

    def _batch(self, epoch: int, row: int, places: np.ndarray, shape: Shape) -> PairBatch:
        before = (self.rank * len(self.order) + row) * self.order.batch_size
        pairs = []
        for position, (part, number) in enumerate(places.tolist(), before):
            rng = drawn(epoch, self.mixture.seed, position, _SAMPLE)
            pairs.append(self.mixture.parts[part].pair(number, shape, rng, augmented=True))
        return joined(pairs)


class HeldOutBatches(IterableDataset[PairBatch | Failed]):
    """Every pair of a mixture's first epoch once, in order, never augmented: the same in every run.

    Processes take turns, and go round at the end so that all have as many batches.
    """

    def __init__(self, mixture: Mixture, batch_size: int, shape: Shape, *, rank: int = 0, world: int = 1) -> None:
        self.mixture = replace(mixture, seed=0)
        self.batch_size = batch_size
        self.shape = shape
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[PairBatch | Failed]:
        """This process's batches; worker w of W makes every W-th."""
        places = self.mixture.places(0)
        batches = -(-len(places) // self.batch_size)
        turns = -(-batches // self.world)
        turn, stride = _share(0)
        while turn < turns:
            number = (turn * self.world + self.rank) % batches
            start = number * self.batch_size
            yield _tried(self._batch, start, places[start : start + self.batch_size])
            turn += stride

    def _batch(self, start: int, places: np.ndarray) -> PairBatch:
        pairs = []
        for position, (part, number) in enumerate(places.tolist(), start):
            rng = np.random.default_rng([FIRST_SEED, position])
            pairs.append(self.mixture.parts[part].pair(number, self.shape, rng, augmented=False))
        return joined(pairs)


class BatchLoader(DataLoader[Any]):
    """A loader that raises what went wrong in a worker as it was raised there, without a traceback in its message."""

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        """Batches.

        Raises:
            Stereo4DError: a pair cannot be made.
        """
        for batch in super().__iter__():
            if isinstance(batch, Failed):
                raise batch.error
            yield batch


def _tried(make: Any, *arguments: Any) -> PairBatch | Failed:
    try:
        return make(*arguments)
    except Stereo4DError as error:
        # Loaders would wrap it into text; it travels as it is, and is raised where it arrives.
        return Failed(error)


def _share(first: int) -> tuple[int, int]:
    """Number of this worker's first batch, and the step to its next."""
    worker = get_worker_info()
    return (first, 1) if worker is None else (first + worker.id, worker.num_workers)
