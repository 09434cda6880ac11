"""Batches that are stored landscape, in the order that tokens have: that of the upright images."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor


def upright_targets(targets: Tensor, grid: tuple[int, int], portrait: Tensor, memory_portrait: Tensor) -> Tensor:
    """What ``attention_targets`` says of stored patches, said of tokens.

    Args:
        targets: (B, T, T) weights of stored patches of the other view, for every stored patch of this view.
        grid: (rows, columns) of patches as stored; T is their product.
        portrait: (B,) bool: this view is a portrait image that is stored transposed.
        memory_portrait: (B,) bool: likewise the other view.

    Returns:
        (B, T, T), rows and columns in the order of the tokens.
    """
    rows, columns = grid
    turned = rearrange(targets, "b (y x) t -> b (x y) t", y=rows, x=columns)
    targets = torch.where(portrait[:, None, None], turned, targets)
    turned = rearrange(targets, "b t (y x) -> b t (x y)", y=rows, x=columns)
    return torch.where(memory_portrait[:, None, None], turned, targets)
