"""Which pairs an epoch has, in which order and at which size, and which process trains on them.

The meaning is that of DUSt3R's data sets and sampler: ``10_000 @ A + 3 * B``, one aspect ratio a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.data.parts import Part
from stereo4d.errors import UsageError

FIRST_SEED = 777
"""Added to the number of an epoch wherever its order is drawn."""


def part_order(size: int, *, count: int | None, repeat: int, epoch: int, seed: int) -> np.ndarray:
    """Which of a part's pairs an epoch has.

    Args:
        size: pairs of the part.
        count: how many an epoch has; more than there are go round, in the same order again. None: all, in their order.
        repeat: each this many times in succession.
        epoch: another one draws others.
        seed: of the run.

    Returns:
        (repeat * count,) int64.
    """
    chosen = np.arange(size)
    if count is not None:
        chosen = np.resize(drawn(epoch, seed).permutation(size), count)
    return np.repeat(chosen, repeat)


def drawn(epoch: int, seed: int, *more: int) -> np.random.Generator:
    """Random numbers of an epoch; of one place in it, if given more."""
    return np.random.default_rng([FIRST_SEED + epoch, seed, *more])


@dataclass(frozen=True)
class Mixture:
    """Parts that are trained on together."""

    parts: Sequence[Part]
    seed: int = 0

    def epoch_length(self) -> int:
        """Pairs an epoch.

        Raises:
            InputError: a part's data set is missing, or holds no pair.
        """
        # asked of every part, counted or not: a data set that is not there is found before training
        sizes = [len(part) for part in self.parts]
        counts = [size if part.count is None else part.count for part, size in zip(self.parts, sizes, strict=True)]
        return sum(part.repeat * count for part, count in zip(self.parts, counts, strict=True))

    def places(self, epoch: int) -> np.ndarray:
        """(N, 2) int64: part and number of each pair of an epoch, part by part."""
        found = [np.zeros((0, 2), np.int64)]
        for which, part in enumerate(self.parts):
            order = part_order(len(part), count=part.count, repeat=part.repeat, epoch=epoch, seed=self.seed)
            found.append(np.stack([np.full_like(order, which), order], 1))
        return np.concatenate(found)


@dataclass(frozen=True)
class BatchOrder:
    """How an epoch of N pairs is shuffled, cut into batches of one size each, and dealt to processes."""

    pairs: int
    """N; what fills no batch of every process is left out."""
    batch_size: int
    """Pairs a batch and process."""
    sizes: int
    """How many sizes there are."""
    world: int = 1
    """Processes."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what gives no batch."""
        if min(self.batch_size, self.sizes, self.world) < 1 or not len(self):
            raise UsageError(
                f"an epoch of {self.pairs} pairs is less than one batch of {self.batch_size} for each of {self.world} "
                "processes; raise a part's count, or lower batch_size"
            )

    def __len__(self) -> int:
        """Batches an epoch and process."""
        return self.pairs // (self.batch_size * self.world)

    def epoch(self, epoch: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """What a process trains on in an epoch.

        Returns:
            (L, batch_size) int64 numbers of pairs, and (L,) int64 numbers of sizes.
        """
        rng = drawn(epoch, self.seed)
        order = np.arange(len(self) * self.world * self.batch_size)
        rng.shuffle(order)
        sizes = rng.integers(0, self.sizes, size=len(self) * self.world)
        mine = slice(rank * len(self), (rank + 1) * len(self))
        return order.reshape(-1, self.batch_size)[mine], sizes[mine]
