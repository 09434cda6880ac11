"""A network small enough to run in milliseconds, with drawn weights: it stands for any checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from stereo4d.network.config import StereoConfig
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import save_model

CONFIG = StereoConfig(
    img_size=(48, 64),
    enc_embed_dim=32,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=32,
    dec_depth=1,
    dec_num_heads=2,
    landscape_only=False,
)


def tiny_network(seed: int = 0) -> StereoNetwork:
    """The network in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StereoNetwork(CONFIG).eval()


def write_tiny_weights(folder: Path) -> Path:
    """Its weights as a folder that ``--weights`` takes."""
    save_model(tiny_network(), folder, card={"name": "tiny", "licence": "Apache-2.0"})
    return folder
