"""A completion network small enough to run in milliseconds, with drawn weights."""

from __future__ import annotations

import torch

from stereo4d.network.completion import CompletionConfig, CompletionNetwork

OPTIONS = {
    "img_size": 64,
    "enc_embed_dim": 16,
    "enc_depth": 2,
    "enc_num_heads": 2,
    "dec_embed_dim": 24,
    "dec_depth": 2,
    "dec_num_heads": 3,
    "mask_ratio": 0.75,
}


def tiny(positions: str = "RoPE100", **options: object) -> CompletionNetwork:
    """The network in evaluation mode."""
    torch.manual_seed(0)
    return CompletionNetwork(CompletionConfig.from_json({**OPTIONS, "pos_embed": positions, **options})).eval()
