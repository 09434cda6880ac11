"""The contract of viewers: they turn a scene, or its alignment, into a file that a person can look at.

A viewer is a class found by entry point (group ``stereo4d.viewers``), built without arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stereo4d import registry
from stereo4d.errors import InputError, UsageError
from stereo4d.types import Scene

if TYPE_CHECKING:
    from stereo4d.alignment.watching import AlignmentStep
    from stereo4d.data.pair_batch import PairBatch

GROUP = "stereo4d.viewers"


@dataclass(frozen=True)
class Sighting:
    """What can be seen of a run at some time."""

    name: str
    """Of the part of the clip."""
    scene: Scene
    """Its frames; parts that are not finished share one world, in the order in which they come."""
    finished: bool = False
    """Whether nothing more will come of it."""
    shot: str = ""
    """Which shot of the clip it is of; parts of different shots have nothing to do with one another."""


class Viewer(ABC):
    """Shows scenes."""

    suffix: str
    """What its files end in, for example ``".rrd"``."""

    @abstractmethod
    def write(self, scene: Scene, path: Path) -> Path:
        """Write a file that shows a scene, whole or not at all.

        Args:
            scene: what to show; its arrays may be memory-mapped.
            path: the file to write, ending in ``suffix``.

        Returns:
            The path written.

        Raises:
            OutputError: the file cannot be written.
        """

    def write_alignment(self, steps: Sequence[AlignmentStep], path: Path, *, rgb: np.ndarray | None = None) -> Path:
        """Write a file that shows how an alignment went, whole or not at all.

        Args:
            steps: every state that ``align(problem, watch=steps.append)`` told of, in order; at least one.
            path: the file to write, ending in ``suffix``.
            rgb: (N, H, W, 3) uint8, the frames that were aligned, at the resolution of the pairs.

        Returns:
            The path written.

        Raises:
            UsageError: there is no step, or this viewer shows scenes only (the default).
            ShapeError: ``rgb`` does not fit the steps.
            OutputError: the file cannot be written.
        """
        raise UsageError(f"{type(self).__name__} shows scenes only, so {path} cannot be written; take another viewer")

    def write_pairs(self, pairs: Sequence[PairBatch], path: Path) -> Path:
        """Write a file that shows training pairs with their truth, whole or not at all.

        Args:
            pairs: one batch or more, of any sizes.
            path: the file to write, ending in ``suffix``.

        Returns:
            The path written.

        Raises:
            UsageError: there is no pair, or this viewer does not show pairs (the default).
            OutputError: the file cannot be written.
        """
        raise UsageError(f"{type(self).__name__} does not show pairs, so {path} cannot be written; take another viewer")

    def check(self, path: Path) -> None:
        """See that a written file is whole, as far as this viewer can tell; by default, that there is something in it.

        Args:
            path: a file that ``write`` or ``write_alignment`` made.

        Raises:
            InputError: it is not.
        """
        if not path.is_file() or not path.stat().st_size:
            raise InputError(f"{path} is not there, or empty; write it again")

    def show(self, path: Path, *, web: bool = False) -> int:
        """Open a written file for a person to look at, wait until they close it, and return an exit code.

        Args:
            path: a file that ``write`` or ``write_alignment`` made.
            web: in the browser rather than in a window.

        Raises:
            UsageError: this viewer cannot show (the default).
        """
        raise UsageError(f"{type(self).__name__} only writes files; open {path} with a program that reads it")

    def follow(self, sightings: Iterable[Sighting | None], *, address: str | None = None) -> int:
        """Show a run while it works, until it is finished and the person closes it; returns an exit code.

        Args:
            sightings: what can be seen of it, as it comes; None whenever there is nothing new.
            address: of a viewer that is open already; None opens one.

        Raises:
            UsageError: this viewer shows finished files only (the default).
        """
        raise UsageError(f"{type(self).__name__} shows finished scenes only; leave --follow out when the run has ended")

    def screenshot(self, path: Path, picture: Path, *, frame: int | None = None) -> Path:
        """Render a written file to a PNG without a window, and return the picture's path.

        Args:
            path: a file that ``write`` or ``write_alignment`` made.
            picture: the PNG to write.
            frame: which frame index of the input to show, by default the middle one; of an alignment, which iteration,
                by default the last.

        Raises:
            UsageError: this viewer cannot render (the default).
        """
        raise UsageError(f"{type(self).__name__} cannot render {path} to a picture")


def load_viewer(name: str = "rerun") -> Viewer:
    """The viewer of that name.

    Raises:
        PluginError: no such viewer is installed, or what the entry point names is not a viewer.
    """
    return registry.load_class(GROUP, name, Viewer)()
