"""Parts of a mixture: where pairs come from, and how many an epoch has of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from stereo4d.data.augmentation import NONE, Augmentation
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.pair_making import make_pair
from stereo4d.data.pair_truth import TruthOptions
from stereo4d.data.pairing import ByStride, Pairing, PairTable
from stereo4d.data.posed_frames import PosedFrames
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.data.synthetic.worlds import Worlds
from stereo4d.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """What the pairs of a batch have in common."""

    size: tuple[int, int]
    """(H, W) in pixels."""
    query_times: int = 0
    """Q."""
    portraits: bool = False
    """Portrait images are stored transposed; else all are cropped to ``size``."""


class Part(ABC):
    """A source of pairs, and how many of them an epoch has."""

    count: int | None
    """Pairs an epoch: ``10_000 @ A`` is a part A with count 10 000. None: each pair ``repeat`` times."""
    repeat: int
    """``3 * A`` is a part A with repeat 3: each pair three times in succession."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For messages."""

    @abstractmethod
    def __len__(self) -> int:
        """Different pairs, before ``count`` and ``repeat``.

        Raises:
            InputError: there are none.
        """

    @abstractmethod
    def pair(self, number: int, shape: Shape, rng: np.random.Generator, *, augmented: bool) -> PairBatch:
        """The pair of that number, 0 <= number < len; what is drawn comes from ``rng``.

        Raises:
            InputError: it cannot be read; names data set, scene and frame.
        """

    def check_numbers(self) -> None:
        """Refuse numbers that leave no pair.

        Raises:
            UsageError: count or repeat is below 1.
        """
        if self.repeat < 1 or (self.count is not None and self.count < 1):
            raise UsageError(f"{self.name}: count={self.count} repeat={self.repeat} must be at least 1")


@dataclass(frozen=True)
class FromFrames(Part):
    """Pairs of a data set's frames."""

    frames: PosedFrames
    count: int | None = None
    repeat: int = 1
    pairing: Pairing = field(default_factory=ByStride)
    truth: TruthOptions = field(default_factory=TruthOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuse numbers that leave no pair."""
        self.check_numbers()

    @property
    def name(self) -> str:
        """The data set's."""
        return self.frames.name

    @cached_property
    def table(self) -> PairTable:
        """All pairs, found when first asked for."""
        return self.pairing.table(self.frames)

    def __len__(self) -> int:
        """Pairs found."""
        return len(self.table)

    def pair(self, number: int, shape: Shape, rng: np.random.Generator, *, augmented: bool) -> PairBatch:
        """Read, crop and augment a pair."""
        chosen = self.pairing.settle(self.frames, self.table[number], rng)
        return make_pair(
            self.frames,
            chosen,
            shape.size,
            rng=rng,
            query_times=shape.query_times,
            options=self.truth,
            augmentation=self.augmentation if augmented else NONE,
            portraits=shape.portraits,
        )


@dataclass(frozen=True)
class FromWorlds(Part):
    """Pairs of a synthetic world, made when asked for."""

    count: int | None = None
    repeat: int = 1
    world: WorldConfig | Worlds = field(default_factory=WorldConfig)
    """Knobs of the plain rooms, or whatever draws worlds, by class path."""
    worlds: int = 2**20
    """Different pairs."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that leave no pair."""
        self.check_numbers()
        if self.worlds < 1:
            raise UsageError(f"worlds={self.worlds} must be at least 1")

    @property
    def name(self) -> str:
        """For messages."""
        return "synthetic"

    def __len__(self) -> int:
        """Different pairs."""
        return self.worlds

    def pair(self, number: int, shape: Shape, rng: np.random.Generator, *, augmented: bool) -> PairBatch:
        """Draw and render a world; the same number is always the same pair."""
        height, width = shape.size
        # seeds of different parts lie far apart, as those of ``SyntheticPairs``
        seed = (self.seed << 24) + int(number)
        return sample_pairs(self.world, 1, height, width, seed=seed, query_times=shape.query_times)
