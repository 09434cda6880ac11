"""Which frames are looked at together: directed pairs (edges) of frame positions, by a graph's name.

The names are those that users of the family know: ``complete``, ``swin-3-noncyclic``, ``logwin-3``, ``oneref-0``,
``swinstride-5``. A number is the window (``oneref``: the reference frame); windows close into a ring unless
``-noncyclic`` is added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from stereo4d.errors import GraphError

Edge = tuple[int, int]
"""(first view, second view), positions in the selection of frames."""

DEFAULT_WINDOW = 3

_OFFSETS: dict[str, Callable[[int], Iterable[int]]] = {
    "swin": lambda window: range(1, window + 1),
    "logwin": lambda window: (2**k for k in range(window)),
    "swinstride": lambda window: range(1, 2 * window, 2),
    "swin2stride": lambda window: range(1, 3 * window - 1, 3),
    "swinskip_start": lambda window: range(2, window + 2),
}
_KNOWN = "complete, oneref[-R], " + ", ".join(f"{name}[-W][-noncyclic]" for name in _OFFSETS)


def pair_graph(name: str, num_frames: int) -> list[Edge]:
    """The directed pairs of a named graph, both ways, every frame in at least one.

    Args:
        name: for example ``"swin-3-noncyclic"``; see the module's docstring.
        num_frames: N; a single frame is paired with itself.

    Returns:
        Edges without repetition, ordered so that frames can be visited from first to last: by the later frame of the
        pair, then by the earlier one.

    Raises:
        GraphError: the name is unknown, the reference is out of range, or a frame is left alone.
    """
    if num_frames == 1:
        return [(0, 0)]
    kind, *fields = name.split("-")
    numbers = [int(field) for field in fields if re.fullmatch(r"\d+", field)]
    words = [field for field in fields if not re.fullmatch(r"\d+", field)]
    if len(numbers) > 1 or words not in ([], ["noncyclic"]):
        raise GraphError(f"pair graph {name!r} is not understood; there are {_KNOWN}")
    if kind == "complete":
        edges = [(i, j) for i in range(num_frames) for j in range(i)]
    elif kind == "oneref":
        edges = one_reference(num_frames, numbers[0] if numbers else 0)
    elif kind in _OFFSETS:
        window = numbers[0] if numbers else DEFAULT_WINDOW
        edges = offset_graph(num_frames, _OFFSETS[kind](window), cyclic=not words)
    else:
        raise GraphError(f"pair graph {name!r} is not understood; there are {_KNOWN}")
    return check_no_frame_alone(both_ways(edges), num_frames, name)


def window_graph(num_frames: int, window: int = DEFAULT_WINDOW) -> list[Edge]:
    """Every frame with the ``window`` frames before and after it, both ways; see ``pair_graph``."""
    return pair_graph(f"swin-{window}-noncyclic", num_frames)


def offset_graph(num_frames: int, offsets: Iterable[int], *, cyclic: bool) -> list[Edge]:
    """Pairs (i, i + offset), one way; modulo N if cyclic, never of a frame with itself."""
    edges = []
    for offset in offsets:
        for i in range(num_frames):
            j = (i + offset) % num_frames if cyclic else i + offset
            if j < num_frames and j != i:
                edges.append((i, j))
    return edges


def one_reference(num_frames: int, reference: int) -> list[Edge]:
    """Pairs of one frame with every other, one way.

    Raises:
        GraphError: there is no such frame.
    """
    if not 0 <= reference < num_frames:
        raise GraphError(f"pair graph oneref-{reference}: there are frames 0 to {num_frames - 1}; name one of them")
    return [(reference, j) for j in range(num_frames) if j != reference]


def both_ways(edges: Iterable[Edge]) -> list[Edge]:
    """The edges and their mirrors, each once, ordered by later frame, then by earlier frame."""
    unique = {edge for i, j in edges for edge in ((i, j), (j, i))}
    return sorted(unique, key=lambda edge: (max(edge), min(edge), edge))


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
            "raise its window, or take swin-3-noncyclic or complete"
        )
    return edges
