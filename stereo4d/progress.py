"""Progress with time left, one bar per stage, on stderr.

Library code takes a ``Progress`` and says which stage it is in; nothing is shown unless the caller asked for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stage:
    """One running stage: tell it how far it is."""

    def __init__(self, bar: Any = None) -> None:
        self.done = 0
        """Units of work finished so far."""
        self._bar = bar

    def advance(self, count: int = 1) -> None:
        """Say that ``count`` more units of work are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)

    def expect(self, total: int) -> None:
        """Say how many units there are, where it shows only on the way."""
        if self._bar is not None:
            self._bar.total = total

    def note(self, text: str) -> None:
        """Show a few words beside the bar, for example the current loss."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)


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

        # In a log file every update is a line: say less there.
        pause = 0.3 if sys.stderr.isatty() else 10
        settings: dict[str, Any] = {"unit": unit or "it", "unit_scale": unit == "B"}  # bytes come in millions
        with tqdm(total=total, desc=f"{name:<12}", dynamic_ncols=True, mininterval=pause, **settings) as bar:
            yield Stage(bar)


SILENT = Progress(quiet=True)
"""For callers that do not want to hear anything."""
