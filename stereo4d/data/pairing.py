"""Which two frames of a scene make a pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.data.posed_frames import PosedFrames
from stereo4d.errors import InputError, UsageError

THINNING_SEED = 125
"""Of the choice of pairs where some gaps weigh less: the same in every run."""


@dataclass(frozen=True)
class FramePair:
    """Two frames of one scene."""

    scene: str
    first: int
    second: int


@dataclass(frozen=True)
class PairTable:
    """P pairs in a fixed order, small enough for data sets of millions."""

    scenes: tuple[str, ...]
    rows: np.ndarray
    """(P, 3) int32: which of ``scenes``, first frame, second frame; frames are -1 where drawn when asked."""

    def __len__(self) -> int:
        """P."""
        return len(self.rows)

    def __getitem__(self, number: int) -> FramePair:
        """The pair of that number."""
        scene, first, second = (int(value) for value in self.rows[number])
        return FramePair(self.scenes[scene], first, second)


class Pairing(ABC):
    """A rule for pairs of frames."""

    @abstractmethod
    def table(self, frames: PosedFrames) -> PairTable:
        """All pairs of a data set, in an order that follows from the data set alone."""

    def settle(self, frames: PosedFrames, pair: FramePair, rng: np.random.Generator) -> FramePair:
        """What is drawn of a pair each time it is asked for; nothing, unless the rule says otherwise."""
        return pair


@dataclass(frozen=True)
class ByStride(Pairing):
    """Frames a number of frames apart.

    Weights say how much of each stride is kept: the stride of the largest weight wholly, another in proportion, chosen
    once and evenly over the data set. MonST3R: strides 1 ... 9 with weights rising from 1 to 2.
    """

    strides: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8, 9)
    weights: Sequence[float] | None = None
    """One per stride; None: alike."""
    every: int = 1
    """First frames are 0, ``every``, 2 ``every``, ..."""

    def table(self, frames: PosedFrames) -> PairTable:
        """Pairs of all scenes, scene by scene."""
        raise NotImplementedError


@dataclass(frozen=True)
class Within(Pairing):
    """Any two frames at most so many apart, drawn anew each time: Stereo4D's rule.

    The data set counts ``per_scene`` pairs for each of its scenes.
    """

    most: int = 60
    least: int = 1
    per_scene: int = 1

    def table(self, frames: PosedFrames) -> PairTable:
        """``per_scene`` undrawn pairs for each scene; no file is opened."""
        raise NotImplementedError

    def settle(self, frames: PosedFrames, pair: FramePair, rng: np.random.Generator) -> FramePair:
        """First frame, then the gap, uniform among those that the scene has."""
        raise NotImplementedError


@dataclass(frozen=True)
class SameImage(Pairing):
    """Another rule's pairs, of which a share shows its first frame twice: depth from single images is learned too."""

    of: Pairing
    share: float = 0.005

    def table(self, frames: PosedFrames) -> PairTable:
        """The other rule's."""
        return self.of.table(frames)

    def settle(self, frames: PosedFrames, pair: FramePair, rng: np.random.Generator) -> FramePair:
        """The other rule's pair, or its first frame twice."""
        raise NotImplementedError
