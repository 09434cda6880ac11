"""The ways from stored pairs to one world, by the names that ``--align`` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from stereo4d.alignment.windows import Window
from stereo4d.errors import UsageError
from stereo4d.progress import SILENT, Progress
from stereo4d.video import anchored, solving, windowwise
from stereo4d.video.aligning import Aligned
from stereo4d.video.known_files import QUANTITIES, KnownFiles
from stereo4d.video.motion_windows import ClipMotion
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.pair_graph import Edge
from stereo4d.video.solving import Task
from stereo4d.video.windows_plan import plan_windows


class FromPairs(Protocol):
    """Brings stored pairs into one world."""

    def __call__(self, task: Task, *, progress: Progress = SILENT) -> tuple[Aligned, ClipMotion | None]:
        """See ``solving.solve_clip``."""


@dataclass(frozen=True)
class Way:
    """One of them."""

    solve: FromPairs
    graph: str | None = None
    """The pairs that it needs; None takes what the predictor does best with."""
    check_edges: Callable[[Sequence[Edge], int], object] | None = None
    """Raises ``GraphError`` where it cannot work with some pairs of N frames; None works with all."""
    plan: Callable[[AlignmentOptions, int, Sequence[Edge] | np.ndarray, tuple[int, ...]], list[Window]] = plan_windows
    """The windows that it solves; see ``plan_windows``."""
    closes_loops: bool = True
    """Whether pairs far apart in time, which are in no window, tie its windows together."""
    takes: frozenset[str] = frozenset(entry.name for entry in fields(AlignmentOptions))
    """Fields of ``AlignmentOptions`` that mean something to it; others must be left as they are."""
    knows: frozenset[str] = frozenset(QUANTITIES)
    """What may be known beforehand."""


WAYS: Mapping[str, Way] = {
    "joint": Way(solving.solve_clip),
    "anchored": Way(
        anchored.anchor_clip,
        graph=anchored.GRAPH,
        check_edges=anchored.find_anchor,
        plan=lambda options, num_frames, edges, size: [Window(0, num_frames)],
        closes_loops=False,
        takes=frozenset(("align", "shared_focal")),
        knows=frozenset(("intrinsics", "masks")),
    ),
    "window-wise": Way(
        windowwise.solve_window_wise,
        plan=lambda options, num_frames, edges, size: windowwise.overlapping(num_frames, options),
        closes_loops=False,
        knows=frozenset(("intrinsics", "masks")),
    ),
}


def way_of(options: AlignmentOptions, known: KnownFiles | None = None) -> Way:
    """The way that options ask for.

    Args:
        options: of the alignment.
        known: files of what is known beforehand.

    Raises:
        UsageError: there is no such way, or it cannot do what else is asked for.
    """
    if options.align not in WAYS:
        raise UsageError(f"--align {options.align!r}: must be {' or '.join(WAYS)}")
    way, plain = WAYS[options.align], AlignmentOptions()
    asked = [
        name for name in (entry.name for entry in fields(options)) if getattr(options, name) != getattr(plain, name)
    ]
    refused = ["--" + name.replace("_", "-") for name in asked if name not in way.takes]
    refused += [f"--{name}" for name in QUANTITIES if getattr(known, name, None) is not None and name not in way.knows]
    if options.motion == "off" and "--motion" in refused:
        refused.remove("--motion")  # ways that look for no motion are glad to be told
    if refused:
        raise UsageError(f"--align {options.align} goes without {', '.join(refused)}: leave one or the other out")
    return way
