"""What a check of a head is, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from stereo4d.head_checks.lab import Lab

Verdict: TypeAlias = Literal["ok", "failed", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One thing that a head must hold to."""

    name: str
    rule: str
    """What is demanded, in one sentence."""
    run: Callable[[Lab], str]
    """Tries a head, and tells what was tried; raises ``Fault`` where it does not hold, ``NotApplicable`` where there is
    nothing to try."""
    basic: bool = False
    """Without it the others cannot be tried."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    said: str
    """What was tried; of a failure, what is wrong and the way out."""
