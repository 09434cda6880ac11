"""Progress with time left, one bar per stage, on stderr.

Library code takes a ``Progress`` and says which stage it is in; nothing is shown unless the caller asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stage:
    """One running stage: tell it how far it is."""

    def __init__(self, show: Callable[[int], None] | None = None, note: Callable[[str], None] | None = None) -> None:
        self.started = time.monotonic()
        self.done = 0
        """Units of work finished so far."""
        self._show = show
        self._note = note

    def advance(self, count: int = 1) -> None:
        """Say that ``count`` more units of work are done."""
        self.done += count
        if self._show is not None:
            self._show(count)

    def note(self, text: str) -> None:
        """Show a few words beside the bar, for example the current loss."""
        if self._note is not None:
            self._note(text)


class Progress:
    """Shows stages as bars with an estimate of the time left, or, when ``quiet``, shows nothing."""

    def __init__(self, *, quiet: bool = True) -> None:
        self.quiet = quiet

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Open a stage.

        Args:
            name: what is being done, for example ``"frames"``.
            total: units of work ahead; None when nobody knows.
            unit: what one unit is called, for example ``"pair"``.
        """
        if self.quiet:
            yield Stage()
            return
        from tqdm import tqdm  # only a shown bar pays for the import

        with tqdm(total=total, desc=f"{name:<12}", unit=unit or "it", dynamic_ncols=True, mininterval=0.5) as bar:
            yield Stage(bar.update, bar.set_postfix_str)


SILENT = Progress(quiet=True)
"""For callers that do not want to hear anything."""
