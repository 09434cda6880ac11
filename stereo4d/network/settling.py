"""Weights laid out for prediction: same values and keys, in the order and format that the processor reads."""

from __future__ import annotations

import torch
from torch import nn

from stereo4d.network.head import Head, TimedHead
from stereo4d.network.precision import Precision
from stereo4d.network.stereo import StereoNetwork


def settle(network: StereoNetwork, precision: Precision) -> StereoNetwork:
    """Prepare a network that is on its device for predicting in one precision from now on; training it is over.

    Args:
        network: changed in place. In a reduced format its encoder and decoder keep their matrices in that format, which
            changes no prediction in it: autocast would round the same values again for every batch.
        precision: how it will compute.
    """
    network.precision = precision
    for part in network.children():
        if isinstance(part, (Head, TimedHead)):
            if not precision.fewer_products:  # NNPACK reads kernels as they are; all others, channels last
                part.to(memory_format=torch.channels_last)
        elif precision.reduced is not None:
            _round_products(part, precision.reduced)
    return network


def _round_products(part: nn.Module, reduced: torch.dtype) -> None:
    for module in part.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(reduced)
