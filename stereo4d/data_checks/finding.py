"""What a check of data found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Finding:
    """One line about a part of a mixture."""

    part: str
    """Which: ``train 0 (name of the data set)``."""
    check: str
    """What was looked at, in a word."""
    verdict: Verdict
    """``note``: worth a person's look, but nothing that training could not do with."""
    said: str
    """What was found; of a failure, what is wrong and the way out."""
