"""What a completion network is trained for: the values of the patches that it did not see.

Source: CroCo (Weinzaepfel et al. 2022), section 3; targets normalised by patch as in masked autoencoders (He et
al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.network.completion import Completion
from stereo4d.network.patches import patch_statistics
from stereo4d.network.pooling import masked_mean


@dataclass(frozen=True)
class CompletionLoss:
    """Mean squared error of patches."""

    normalise: bool = True
    """Compare with patches less their own mean, divided by their own deviation."""
    masked: bool = True
    """Over the hidden patches of the batch, that of all processes, only; otherwise over all patches."""

    def __call__(self, completion: Completion) -> Tensor:
        """The loss, a scalar; 0 where only hidden patches count and none is."""
        target = completion.target
        if self.normalise:
            mean, deviation = patch_statistics(target)
            target = (target - mean) / deviation
        errors = (completion.prediction - target).square().mean(-1)  # (B, T)
        counted = completion.hidden if self.masked else torch.ones_like(completion.hidden)
        return masked_mean(errors, counted)
