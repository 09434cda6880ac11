"""How the learning rate goes over training, per optimiser step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from stereo4d.errors import UsageError


class Schedule(ABC):
    """The learning rate at every optimiser step; a new one is one small class, named in YAML by its class path."""

    needs_end: bool = False
    """Whether training must say how long it will be."""

    @abstractmethod
    def rate(self, step: int, last: int | None, peak: float) -> float:
        """The learning rate of a step.

        Args:
            step: optimiser steps taken so far.
            last: steps that training will take; None where it is not known, as in the very first step.
            peak: the learning rate that the module was given.
        """


@dataclass(frozen=True)
class Plateau(Schedule):
    """Linear warm-up, then the peak, then linearly to zero.

    In between the rate is constant, so that a run can be stopped, or prolonged, without having planned for it.
    """

    warmup_steps: int = 200
    cooldown_share: float = 0.3
    """Share of all steps at the end over which the rate falls; without a known end it never does."""

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        if not 0 <= self.cooldown_share <= 1:
            raise UsageError(f"cooldown_share {self.cooldown_share} must be a share of the steps, 0 to 1")

    def rate(self, step: int, last: int | None, peak: float) -> float:
        """See ``Schedule.rate``."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if last is None:
            return peak * warm
        left = (last - step) / max(1.0, self.cooldown_share * last)
        return peak * min(warm, max(0.0, left))


@dataclass(frozen=True)
class HalfCosine(Schedule):
    """Linear warm-up from zero, then half a cosine down to ``min_rate`` at the last step (the family's own)."""

    warmup_steps: int = 0
    min_rate: float = 1e-6
    """The learning rate that training ends with."""
    needs_end = True

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        if self.min_rate < 0:
            raise UsageError(f"min_rate {self.min_rate} must not be negative")

    def rate(self, step: int, last: int | None, peak: float) -> float:
        """See ``Schedule.rate``."""
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        if last is None:
            return peak
        done = min(1.0, (step - self.warmup_steps) / max(1, last - self.warmup_steps))
        return self.min_rate + 0.5 * (peak - self.min_rate) * (1 + math.cos(math.pi * done))


def _check_warmup(steps: int) -> None:
    if steps < 0:
        raise UsageError(f"warmup_steps {steps} must be 0 or more optimiser steps")
