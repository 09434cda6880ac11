"""The published networks: what each is built from, and what its file looks like byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from stereo4d.network.completion import CompletionConfig
from stereo4d.network.config import BackboneConfig, StereoConfig
from stereo4d.network.weights import empty_completion_network, empty_network
from stereo4d.network.weights.publishing import published_config, published_metadata
from tests.golden_numbers import GOLDEN

_LARGE: dict[str, Any] = {
    "enc_embed_dim": 1024,
    "enc_depth": 24,
    "enc_num_heads": 16,
    "dec_embed_dim": 768,
    "dec_depth": 12,
    "dec_num_heads": 12,
}
_UPRIGHT: dict[str, Any] = {**_LARGE, "img_size": (512, 512), "landscape_only": False}
CONFIGS: Mapping[str, BackboneConfig] = {
    "CroCo_V2_ViTLarge_BaseDecoder": CompletionConfig(**_LARGE),
    "DUSt3R_ViTLarge_BaseDecoder_224_linear": StereoConfig(**_LARGE, landscape_only=False),
    "DUSt3R_ViTLarge_BaseDecoder_512_linear": StereoConfig(**_UPRIGHT),
    "DUSt3R_ViTLarge_BaseDecoder_512_dpt": StereoConfig(**_UPRIGHT, head_type="dpt"),
    "MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt": StereoConfig(
        **_LARGE,
        img_size=(512, 512),
        head_type="dpt",
        landscape_only=True,
        patch_embed_cls="ManyAR_PatchEmbed",
        freeze="encoder",
    ),
    "MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric": StereoConfig(
        **_UPRIGHT,
        head_type="catmlp+dpt",
        output_mode="pts3d+desc24",
        head_options={"two_confs": True, "desc_mode": "norm", "desc_conf_mode": ("exp", 0, float("inf"))},
    ),
}
"""By the authors' file names."""
SIZES = {
    "DUSt3R_ViTLarge_BaseDecoder_224_linear": 2_129_459_344,
    "DUSt3R_ViTLarge_BaseDecoder_512_linear": 2_129_459_344,
    "DUSt3R_ViTLarge_BaseDecoder_512_dpt": 2_284_790_056,
    "MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt": 2_284_790_056,
    "MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric": 2_754_661_648,
}
"""Bytes of ``model.safetensors``; CroCo is published as ``.pth`` alone."""


def inventory(name: str) -> dict[str, Any]:
    """Keys, shapes and counts of a published file."""
    return json.loads((GOLDEN / "state_dicts" / f"{name}.json").read_text())


def empty(name: str) -> nn.Module:
    """The network, without storage."""
    config = CONFIGS[name]
    return empty_network(config) if isinstance(config, StereoConfig) else empty_completion_network(config)


def header_of(network: nn.Module) -> bytes:
    """The first bytes of its published file: the header's length and the header, as the safetensors library writes."""
    state = network.state_dict()
    metadata = published_metadata(state)
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    start = 0
    for key in sorted(state):
        end = start + 4 * state[key].numel()
        header[key] = {"dtype": "F32", "shape": list(state[key].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def data_bytes(network: nn.Module) -> int:
    """Bytes of its tensors in float32."""
    return sum(4 * value.numel() for value in network.state_dict().values())


def write_sparse(name: str, folder: Path) -> Path:
    """Its published file with nothing but zeros, which take no room on the disk."""
    folder.mkdir()
    network = empty(name)
    (folder / "config.json").write_text(published_config(CONFIGS[name]))
    with (folder / "model.safetensors").open("wb") as file:
        header = header_of(network)
        file.write(header)
        file.truncate(len(header) + data_bytes(network))
    return folder
