"""Several kinds of worlds in one stream of training pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stereo4d.data.synthetic.worlds import Scenes, Worlds
from stereo4d.errors import UsageError


@dataclass(frozen=True)
class WorldMixture(Worlds):
    """Each batch is of one of several kinds of worlds, drawn by the batch's seed."""

    worlds: tuple[Worlds, ...]
    shares: tuple[float, ...] = ()
    """How often each is drawn, in any unit; empty for equally often."""

    def __post_init__(self) -> None:
        """Refuse shares that do not fit the worlds."""
        if not self.worlds:
            raise UsageError("worlds of a WorldMixture: name at least one")
        if self.shares and (
            len(self.shares) != len(self.worlds) or min(self.shares) < 0 or not 0 < sum(self.shares) < float("inf")
        ):
            raise UsageError(
                f"shares {list(self.shares)} of a WorldMixture: give one number from 0 on for each of its "
                f"{len(self.worlds)} worlds, or none"
            )

    def drawn(self, seed: int) -> Worlds:
        """The world that the seed draws from, itself drawn if it is a mixture."""
        odds = np.array(self.shares or [1.0] * len(self.worlds))
        # a stream of its own, and another for a mixture inside: worlds draw their content from the seed itself
        draw = np.random.default_rng([seed, 0x317])
        chosen = self.worlds[int(draw.choice(len(odds), p=odds / odds.sum()))]
        return chosen.drawn(int(draw.integers(2**62)))

    def scenes(self, batch: int, *, seed: int, device: torch.device | str) -> Scenes:
        """B worlds of the drawn kind."""
        return self.drawn(seed).scenes(batch, seed=seed, device=device)
