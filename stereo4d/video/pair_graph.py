"""Which frames are looked at together: directed pairs (edges) of frame positions, by a graph's name.

The names are those that users of the family know. W is a window, 3 if left out; windows close into a ring unless
``-noncyclic`` is added.

==================================  ================================================================================
``complete``                        every frame with every other
``oneref[-R]``                      frame R (0 if left out) with every other
``anchor[-R]``                      the same from R's side only (the middle frame if left out), for --align anchored
``swin[-W][-noncyclic]``            frames 1 ... W apart
``logwin[-W][-noncyclic]``          1, 2, 4 ... 2^(W-1) apart
``swinstride[-W][-noncyclic]``      1, 3, 5 ... 2W-1 apart
``swin2stride[-W][-noncyclic]``     1, 4, 7 ... 3W-2 apart
``swinskip_start[-W][-noncyclic]``  2 ... W+1 apart
``retrieval-A-K``                   A anchors with each other, the other frames with their most similar anchor, and
                                    every frame with the K most similar ones
==================================  ================================================================================

After a comma, ``seqD`` keeps only pairs of frames at most D apart, and ``cycD`` counts the distance around the ring:
``complete,seq3``, ``swin-5,cyc4``. Pairs come both ways (but those of ``anchor``), and no frame is paired with itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stereo4d.errors import GraphError
from stereo4d.video.graph_kinds import DEFAULT_WINDOW, Complete, Edge, GraphKind, known_names, parse_kind

__all__ = ["DEFAULT_GRAPH", "Edge", "both_ways", "goes_by_similarity", "most_pairs", "pair_graph", "window_graph"]

DEFAULT_GRAPH = "swin-3-noncyclic"
"""What predictors that do not ask for another graph are given."""


def pair_graph(name: str, num_frames: int, *, similarity: np.ndarray | None = None) -> list[Edge]:
    """The directed pairs of a named graph, every frame in at least one.

    Args:
        name: for example ``"swin-3-noncyclic"``; see the module's docstring.
        num_frames: N; a single frame is paired with itself.
        similarity: (N, N) how alike frames are, larger is more; only ``retrieval`` asks for it.

    Returns:
        Edges without repetition, ordered so that frames can be visited from first to last: by the later frame of the
        pair, then by the earlier one.

    Raises:
        GraphError: the name is unknown, the reference is out of range, or a frame is left alone.
    """
    graph = _parse(name)
    if num_frames == 1:
        return [(0, 0)]
    edges = [edge for edge in graph.kind.pairs(num_frames, similarity) if graph.keeps(edge, num_frames)]
    edges = sorted(edges, key=_by_later_frame) if graph.kind.one_way else both_ways(edges)
    return check_no_frame_alone(edges, num_frames, name)


def most_pairs(name: str, num_frames: int) -> int:
    """The number of directed pairs of a graph; where it goes by similarity, the most there can be.

    Raises:
        GraphError: as ``pair_graph``.
    """
    if num_frames == 1 or not goes_by_similarity(name):
        return len(pair_graph(name, num_frames))
    graph = _parse(name)
    kept = [edge for edge in Complete().pairs(num_frames, None) if graph.keeps(edge, num_frames)]
    check_no_frame_alone(kept, num_frames, name)
    return 2 * min(len(kept), graph.kind.most_pairs(num_frames))


def goes_by_similarity(name: str) -> bool:
    """Whether a graph asks how alike frames are."""
    return _parse(name).kind.by_similarity


def window_graph(num_frames: int, window: int = DEFAULT_WINDOW) -> list[Edge]:
    """Every frame with the ``window`` frames before and after it, both ways; see ``pair_graph``."""
    return pair_graph(f"swin-{window}-noncyclic", num_frames)


def both_ways(edges: Iterable[Edge]) -> list[Edge]:
    """The edges and their mirrors, each once, ordered by later frame, then by earlier frame."""
    unique = {edge for i, j in edges for edge in ((i, j), (j, i))}
    return sorted(unique, key=_by_later_frame)


def _by_later_frame(edge: Edge) -> tuple[int, int, Edge]:
    return max(edge), min(edge), edge


def check_no_frame_alone(edges: list[Edge], num_frames: int, name: str) -> list[Edge]:
    """The edges, if they join all frames into one piece.

    Raises:
        GraphError: a frame, or a group of frames, has no pair with the rest.
    """
    neighbours: dict[int, set[int]] = {frame: set() for frame in range(num_frames)}
    for i, j in edges:
        neighbours[i].add(j)
        neighbours[j].add(i)
    reached, to_visit = {0}, [0]
    while to_visit:
        fresh = neighbours[to_visit.pop()] - reached
        reached |= fresh
        to_visit += fresh
    alone = sorted(set(range(num_frames)) - reached)
    if alone:
        shown = ", ".join(map(str, alone[:8])) + (" ..." if len(alone) > 8 else "")
        raise GraphError(
            f"pair graph {name!r} leaves frames {shown} of {num_frames} without a pair that joins them to frame 0; "
            "raise its window (or filter), or take swin-3-noncyclic or complete"
        )
    return edges


@dataclass(frozen=True)
class _Graph:
    """A graph's name, taken apart."""

    kind: GraphKind
    filters: tuple[tuple[str, int], ...]
    """``seq`` or ``cyc``, and the greatest distance."""

    def keeps(self, edge: Edge, num_frames: int) -> bool:
        """Whether every filter keeps a pair."""
        apart = abs(edge[0] - edge[1])
        around = min(apart, num_frames - apart)
        return all((apart if measure == "seq" else around) <= most for measure, most in self.filters)


def _parse(name: str) -> _Graph:
    text, *filters = name.split(",")
    kind = parse_kind(text)
    parts = [re.fullmatch(r"(seq|cyc)(\d+)", entry) for entry in filters]
    matched = [part for part in parts if part is not None]
    if kind is None or len(matched) < len(parts):
        raise GraphError(
            f"pair graph {name!r} is not understood; there are {known_names()}, and after a comma seqD or cycD"
        )
    return _Graph(kind, tuple((part[1], int(part[2])) for part in matched))
