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

    Weights say how much of each stride is kept: the stride of the largest weight wholly, another at most in proportion,
    chosen once and evenly over the data set. MonST3R: strides 1 ... 9 with weights rising from 1 to 2.
    """

    strides: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8, 9)
    weights: Sequence[float] | None = None
    """One per stride; None: all pairs are kept."""
    every: int = 1
    """First frames are 0, ``every``, 2 ``every``, ..."""

    def __post_init__(self) -> None:
        """Refuse what pairs nothing, or a frame with itself."""
        if not self.strides or min(self.strides) < 1 or self.every < 1:
            raise UsageError(f"strides={list(self.strides)} every={self.every}: give strides, all >= 1")
        if self.weights is not None and (len(self.weights) != len(self.strides) or min(self.weights) <= 0):
            raise UsageError(f"weights={list(self.weights)}: give one above 0 for each of {len(self.strides)} strides")

    def table(self, frames: PosedFrames) -> PairTable:
        """Pairs of all scenes, scene by scene."""
        scenes = tuple(frames.scenes())
        counts = [len(frames.times(scene)) for scene in scenes]
        by_stride = [self._of_stride(counts, stride) for stride in self.strides]
        rows = np.concatenate(by_stride if self.weights is None else _thinned(by_stride, self.weights))
        if not len(rows):
            raise InputError(
                f"{frames.name}: no two frames are {', '.join(map(str, self.strides))} apart; its {len(scenes)} scenes "
                f"have at most {max(counts, default=0)} frames"
            )
        return PairTable(scenes, rows[np.lexsort(rows.T[::-1])])

    def _of_stride(self, counts: Sequence[int], stride: int) -> np.ndarray:
        firsts = [np.arange(0, max(0, count - stride), self.every) for count in counts]
        scene = np.repeat(np.arange(len(counts)), [len(some) for some in firsts])
        first = np.concatenate([*firsts, np.zeros(0, int)])
        return np.stack([scene, first, first + stride], 1).astype(np.int32)


def _thinned(by_stride: Sequence[np.ndarray], weights: Sequence[float]) -> list[np.ndarray]:
    """Rows of each stride, without those that are too many for its weight."""
    rng = np.random.default_rng(THINNING_SEED)
    heaviest = int(np.argmax(weights))
    kept = []
    for rows, weight in zip(by_stride, weights, strict=True):
        count = min(len(rows), int(weight / weights[heaviest] * len(by_stride[heaviest])))
        kept.append(rows[rng.permutation(len(rows))[:count]])
    return kept


@dataclass(frozen=True)
class Within(Pairing):
    """Any two frames at most so many apart, drawn anew each time: Stereo4D's rule.

    The data set counts ``per_scene`` pairs for each of its scenes.
    """

    most: int = 60
    least: int = 1
    per_scene: int = 1

    def __post_init__(self) -> None:
        """Refuse what pairs nothing."""
        if not 1 <= self.least <= self.most or self.per_scene < 1:
            raise UsageError(f"{self}: give 1 <= least <= most, and per_scene >= 1")

    def table(self, frames: PosedFrames) -> PairTable:
        """``per_scene`` undrawn pairs for each scene; no file is opened."""
        scenes = tuple(frames.scenes())
        rows = np.full((len(scenes) * self.per_scene, 3), -1, dtype=np.int32)
        rows[:, 0] = np.repeat(np.arange(len(scenes)), self.per_scene)
        return PairTable(scenes, rows)

    def settle(self, frames: PosedFrames, pair: FramePair, rng: np.random.Generator) -> FramePair:
        """First frame, then the gap, uniform among those that the scene has.

        Raises:
            InputError: the scene is too short for any.
        """
        count = len(frames.times(pair.scene))
        if count <= self.least:
            raise InputError(
                f"{frames.name}, scene {pair.scene}: none of its {count} frames are {self.least} apart; leave the "
                "scene out, or lower least"
            )
        first = int(rng.integers(count - self.least))
        second = first + int(rng.integers(self.least, min(self.most, count - 1 - first) + 1))
        return FramePair(pair.scene, first, second)


@dataclass(frozen=True)
class SameImage(Pairing):
    """Another rule's pairs, of which a share shows its first frame twice: depth from single images is learned too."""

    of: Pairing
    share: float = 0.005

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 <= self.share <= 1:
            raise UsageError(f"share={self.share} must be within 0 ... 1")

    def table(self, frames: PosedFrames) -> PairTable:
        """The other rule's."""
        return self.of.table(frames)

    def settle(self, frames: PosedFrames, pair: FramePair, rng: np.random.Generator) -> FramePair:
        """The other rule's pair, or its first frame twice."""
        settled = self.of.settle(frames, pair, rng)
        return FramePair(settled.scene, settled.first, settled.first) if rng.random() < self.share else settled
