"""From a training checkpoint to weights: ``python -m stereo4d.training.export CKPT FOLDER``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stereo4d.errors import CheckpointError
from stereo4d.network.stereo import StereoConfig, StereoNetwork
from stereo4d.network.weights import save_model


def export_checkpoint(
    checkpoint: Path, folder: Path, *, dtype: torch.dtype = torch.float16, card: Mapping[str, Any] | None = None
) -> StereoNetwork:
    """Write the network of a Lightning checkpoint as ``config.json`` and ``model.safetensors``.

    Where training kept an average of the weights (EMA), the average is what is exported.

    Args:
        checkpoint: written by ``stereo4d fit``.
        folder: where to.
        dtype: of the tensors in the file.
        card: what to say of the weights (name, licence, how they were trained).

    Raises:
        CheckpointError: it is not a checkpoint of ``PairModule``.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{checkpoint} cannot be read as a training checkpoint: {error}") from error
    if "network_config" not in content or "state_dict" not in content:
        raise CheckpointError(f"{checkpoint} has no network_config; only checkpoints of 'stereo4d fit' carry one")
    network = StereoNetwork(StereoConfig.from_json(content["network_config"]))
    prefix = "network."
    state = {name.removeprefix(prefix): value for name, value in content["state_dict"].items()}
    network.load_state_dict(state)
    save_model(network, folder, dtype=dtype, card=dict(card or {}) | {"steps": content["global_step"]})
    return network


if __name__ == "__main__":
    import argparse
    import json

    parser = argparse.ArgumentParser(description="Write the network of a training checkpoint as weights.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--card", type=Path, help="JSON file with what to say of the weights")
    chosen = parser.parse_args()
    said = json.loads(chosen.card.read_text()) if chosen.card else None
    export_checkpoint(chosen.checkpoint, chosen.folder, card=said)
