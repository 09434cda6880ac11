"""Less memory for more time: what a block computes inside is computed once more when the gradient needs it.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stereo4d.network.decoder import DecoderBlock
from stereo4d.network.encoder import EncoderBlock
from stereo4d.network.head import Head, TimedHead


def recompute_activations(network: nn.Module) -> None:
    """Keep only what enters each block and each head, in place; parameters, their names and all results stay.

    Args:
        network: any of the family; predicting, where no gradient is asked for, is not slowed down.
    """
    for module in network.modules():
        if isinstance(module, EncoderBlock | DecoderBlock | Head | TimedHead):
            module.forward = _recomputed(module.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False)

    return run
