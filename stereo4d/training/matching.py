"""Teaching cross-attention where to look.

The pointmap loss alone takes some 10^5 pairs before a decoder begins to compare the two views. Where compute is short,
the exact correspondences of the synthetic world can say it outright: one head of every cross-attention is trained to
attend to the patch of the other view that shows the same surface point (also when that surface has moved). Only
training sees this term; the network and its checkpoint are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stereo4d.network.decoder import DecoderBlock
from stereo4d.network.layers import CrossAttention
from stereo4d.network.pooling import pooled_ratio
from stereo4d.network.stereo import StereoNetwork


@dataclass(frozen=True)
class AttentionInput:
    """What one cross-attention was given."""

    module: CrossAttention
    query_tokens: Tensor
    """(B, T, C)."""
    memory: Tensor
    """(B, T', C)."""


@contextmanager
def record_cross_attention(network: StereoNetwork) -> Iterator[tuple[list[AttentionInput], list[AttentionInput]]]:
    """Record the inputs of every cross-attention in the passes inside, per decoder (view 0, view 1), block by block."""
    records: tuple[list[AttentionInput], list[AttentionInput]] = ([], [])
    handles = []

    def listener(record: list[AttentionInput]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """What to call before a cross-attention runs, so that its inputs are added to a record."""

        def listen(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            """Add the inputs, (B, T, C) each, of one pass."""
            assert isinstance(module, CrossAttention)
            record.append(AttentionInput(module, inputs[0], inputs[1]))

        return listen

    for blocks, record in zip((network.dec_blocks, network.dec_blocks2), records, strict=True):
        for block in blocks:
            assert isinstance(block, DecoderBlock)
            handles.append(block.cross_attn.register_forward_pre_hook(listener(record)))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def attention_targets(match: Tensor, patch_size: int) -> Tensor:
    """Where each patch's surface is seen in the other view, as a distribution over the other view's patches.

    Args:
        match: (B, H, W, 2) pixels (u, v) of the other view, of the same size; NaN where not seen.
        patch_size: P.

    Returns:
        (B, T, T) weights over the other view's patches, bilinear in the position; a row's sum is the share of the
        patch's probes that are seen at all.
    """
    batch, height, width, _ = match.shape
    rows, columns = height // patch_size, width // patch_size
    quarter = patch_size // 4
    targets = torch.zeros(batch, rows * columns, rows * columns, device=match.device)
    # Four probes a patch: a patch on an edge of an object belongs to two places.
    for dv in (quarter, 3 * quarter):
        for du in (quarter, 3 * quarter):
            probe = match[:, dv::patch_size, du::patch_size].flatten(1, 2)  # (B, T, 2)
            seen = ~probe[..., 0].isnan()
            place = (torch.nan_to_num(probe) + 0.5) / patch_size - 0.5
            weight_u = (1 - (place[..., :1] - torch.arange(columns, device=match.device)).abs()).clamp(min=0)
            weight_v = (1 - (place[..., 1:] - torch.arange(rows, device=match.device)).abs()).clamp(min=0)
            spread = (weight_v[..., :, None] * weight_u[..., None, :]).flatten(2)
            spread = spread / spread.sum(-1, keepdim=True).clamp(min=1e-6)
            targets += torch.where(seen[..., None], spread, 0) / 4
    return targets


def attention_loss(
    records: list[AttentionInput], positions: Tensor, targets: Tensor, memory_positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the first head of every recorded cross-attention against the targets.

    Args:
        records: one view's cross-attentions.
        positions: (B, T, 2) token positions (y, x) of this view.
        targets: (B, T, T) from ``attention_targets``.
        memory_positions: (B, T, 2) of the other view; None where they are the same.

    Returns:
        The loss, and the share of seen patches whose strongest attention in the last block is at the true patch or a
        direct neighbour of it.
    """
    memory_positions = positions if memory_positions is None else memory_positions
    seen = targets.sum(-1)
    losses = []
    for record in records:
        taught = record.module.logits(record.query_tokens, record.memory, positions, memory_positions, first=1)
        logits = taught[:, 0]
        losses.append(pooled_ratio(-(targets * logits.log_softmax(-1)).sum(), seen.sum()))
    best, true = logits.argmax(-1), targets.argmax(-1)
    found, due = (memory_positions.gather(1, place[..., None].expand(-1, -1, 2)) for place in (best, true))
    gap = found - due
    hit = ((gap.abs().amax(-1) <= 1) & (seen > 0.5)).sum() / (seen > 0.5).sum().clamp(min=1)
    return torch.stack(losses).mean(), hit.detach()
