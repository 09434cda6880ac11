"""Means over a batch that stay what they are when several processes share the batch.

A loss is a mean over the valid pixels of the whole batch. Where processes hold parts of it with different counts, the
mean of their means is something else. So counts are summed over processes, and every process's share is scaled such
that the average over processes, which is what data-parallel training takes of gradients, is the mean over all pixels.

Processes meet only where gradients are recorded: then all of them run the same losses in the same order. Elsewhere
(validation, figures to log) a mean is of the process's own part, and nobody waits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as processes


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values where the mask holds, over the batch of all processes.

    Args:
        values: any shape; what lies outside the mask may be anything.
        mask: bool, of the same shape.

    Returns:
        A scalar; 0, attached to the graph, where the mask holds nowhere.
    """
    return pooled_ratio(torch.where(mask, values, 0).sum(), mask.sum())


def pooled_ratio(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``, both summed over all processes; counts below one count as one.

    Args:
        total: scalar, differentiable.
        count: scalar, >= 0, the weight behind the total.

    Returns:
        A scalar of which the average over processes is the ratio; with one process the ratio itself.
    """
    count = count.detach()
    if _shared():
        count = count.clone()
        processes.all_reduce(count)
        total = total * processes.get_world_size()
    return total / count.clamp(min=1)


def pooled_max(values: Tensor) -> Tensor:
    """The largest of all values of all processes: a scalar without gradient."""
    largest = values.detach().amax()
    if _shared():
        processes.all_reduce(largest, op=processes.ReduceOp.MAX)
    return largest


def own_mean(values: Tensor, mask: Tensor) -> Tensor:
    """As ``masked_mean``, of this process's part alone and without gradient: for figures."""
    return torch.where(mask, values.detach(), 0).sum() / mask.sum().clamp(min=1)


def _shared() -> bool:
    return (
        torch.is_grad_enabled()
        and processes.is_available()
        and processes.is_initialized()
        and processes.get_world_size() > 1
    )
