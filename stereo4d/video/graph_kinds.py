"""The kinds of pair graphs, each a small class found by the word its name begins with."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from stereo4d.errors import GraphError
from stereo4d.video.retrieval import most_retrieval_pairs, retrieval_pairs

Edge = tuple[int, int]
"""(first view, second view), positions in the selection of frames."""

DEFAULT_WINDOW = 3


class GraphKind(ABC):
    """A rule for which frames are looked at together."""

    by_similarity = False
    """Whether it asks how alike frames look."""
    one_way = False
    """Whether pairs are looked at from their first frame only."""

    @abstractmethod
    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> Iterable[Edge]:
        """The pairs, at least one way; some may come twice.

        Args:
            num_frames: N, at least 2.
            similarity: (N, N), larger is more alike; given where ``by_similarity`` asks for it.
        """

    def most_pairs(self, num_frames: int) -> int:
        """The most unordered pairs there can be, whatever frames look like."""
        return len({frozenset(pair) for pair in self.pairs(num_frames, None)})


@dataclass(frozen=True)
class Complete(GraphKind):
    """Every frame with every other."""

    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> list[Edge]:
        """See ``GraphKind.pairs``."""
        return [(i, j) for i in range(num_frames) for j in range(i)]


@dataclass(frozen=True)
class Offsets(GraphKind):
    """Frames at certain distances; around a ring if cyclic."""

    offsets: tuple[int, ...]
    cyclic: bool

    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> list[Edge]:
        """See ``GraphKind.pairs``; never of a frame with itself, however far a window reaches around the ring."""
        ends = [(i, i + offset) for offset in self.offsets for i in range(num_frames)]
        if self.cyclic:
            ends = [(i, j % num_frames) for i, j in ends]
        return [(i, j) for i, j in ends if j < num_frames and i != j]


@dataclass(frozen=True)
class OneReference(GraphKind):
    """One frame with every other."""

    reference: int

    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> list[Edge]:
        """See ``GraphKind.pairs``.

        Raises:
            GraphError: there is no such frame.
        """
        if self.reference >= num_frames:
            raise GraphError(
                f"pair graph oneref-{self.reference}: there are frames 0 to {num_frames - 1}; name one of them"
            )
        return [(self.reference, j) for j in range(num_frames) if j != self.reference]


@dataclass(frozen=True)
class Anchor(GraphKind):
    """One frame with every other, seen from there only: what an anchored alignment asks for."""

    frame: int | None
    """None takes the middle one."""
    one_way = True

    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> list[Edge]:
        """See ``GraphKind.pairs``.

        Raises:
            GraphError: there is no such frame.
        """
        anchor = num_frames // 2 if self.frame is None else self.frame
        if anchor >= num_frames:
            raise GraphError(f"pair graph anchor-{anchor}: there are frames 0 to {num_frames - 1}; name one of them")
        return [(anchor, j) for j in range(num_frames) if j != anchor]


@dataclass(frozen=True)
class Retrieval(GraphKind):
    """Frames that look alike; see the module ``retrieval``."""

    anchors: int
    neighbours: int
    by_similarity = True

    def pairs(self, num_frames: int, similarity: np.ndarray | None) -> Iterable[Edge]:
        """See ``GraphKind.pairs``.

        Raises:
            GraphError: nobody says how alike frames are.
        """
        if similarity is None or len(similarity) != num_frames:
            raise GraphError(
                f"pair graph retrieval-{self.anchors}-{self.neighbours} goes by how alike frames look, which is not "
                "known here; stereo4d reconstruct finds out, elsewhere take swin-3-noncyclic or complete"
            )
        return retrieval_pairs(similarity, self.anchors, self.neighbours)

    def most_pairs(self, num_frames: int) -> int:
        """See ``GraphKind.most_pairs``."""
        return most_retrieval_pairs(num_frames, self.anchors, self.neighbours)


@dataclass(frozen=True)
class _Written:
    """How the rest of a kind's name is written, and the kind that its parts make."""

    shown: str
    pattern: str
    build: Callable[..., GraphKind]


def _window(offsets: Callable[[int], Iterable[int]]) -> _Written:
    def build(window: str | None, open_end: str | None) -> GraphKind:
        """The graph that the two parts of the text, W and -noncyclic, ask for."""
        return Offsets(tuple(offsets(int(window or DEFAULT_WINDOW))), cyclic=open_end is None)

    return _Written("[-W][-noncyclic]", r"(?:-(\d+))?(-noncyclic)?", build)


KINDS: dict[str, _Written] = {
    "complete": _Written("", "", Complete),
    "oneref": _Written("[-R]", r"(?:-(\d+))?", lambda reference: OneReference(int(reference or 0))),
    "swin": _window(lambda window: range(1, window + 1)),
    "logwin": _window(lambda window: (2**k for k in range(window))),
    "swinstride": _window(lambda window: range(1, 2 * window, 2)),
    "swin2stride": _window(lambda window: range(1, 3 * window - 1, 3)),
    "swinskip_start": _window(lambda window: range(2, window + 2)),
    "anchor": _Written("[-R]", r"(?:-(\d+))?", lambda frame: Anchor(None if frame is None else int(frame))),
    # Without an anchor frames need not hang together.
    "retrieval": _Written("-A-K", r"-([1-9]\d*)-(\d+)", lambda a, k: Retrieval(int(a), int(k))),
}


def parse_kind(text: str) -> GraphKind | None:
    """The kind that a name without filters means; None where it means nothing."""
    word, *_ = text.split("-", 1)
    written = KINDS.get(word)
    match = re.fullmatch(written.pattern, text[len(word) :]) if written else None
    return written.build(*match.groups()) if written and match else None


def known_names() -> str:
    """How names are written, for people."""
    return ", ".join(word + written.shown for word, written in KINDS.items())
