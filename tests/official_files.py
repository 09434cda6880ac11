"""Small checkpoints in the two published formats, with drawn weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stereo4d.network.stereo import StereoConfig
from tests.golden_numbers import drawn_network

NAMES = (
    *(
        "img_size",
        "pos_embed",
        "patch_embed_cls",
        "landscape_only",
        "head_type",
        "output_mode",
        "depth_mode",
        "conf_mode",
    ),
    *("freeze", "enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads"),
)


def constructor_text(config: StereoConfig) -> str:
    """The constructor string that published ``.pth`` files carry."""
    name = "AsymmetricMASt3R" if config.head_type == "catmlp+dpt" else "AsymmetricCroCo3DStereo"
    return f"{name}({',   '.join(f'{option}={value!r}' for option, value in _options(config).items())})"


def write_pth(folder: Path, config: StereoConfig, **more: Any) -> Path:
    """A ``.pth`` with a Namespace and, as published, four tensors of each DPT head under two names."""
    path = folder / "official.pth"
    arguments = argparse.Namespace(model=constructor_text(config), lr=1e-4, output_dir="runs/first")
    torch.save({"model": _with_aliases(_state(config)), "args": arguments, "epoch": 3, **more}, path)
    return path


def write_folder(folder: Path, config: StereoConfig) -> Path:
    """A folder with ``config.json``, bare infinities and all, and ``model.safetensors`` without aliases."""
    target = folder / "official"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(_options(config), indent=2, sort_keys=True))
    save_file(_state(config), target / "model.safetensors")
    return target


def _options(config: StereoConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in NAMES} | dict(config.head_options)


def _state(config: StereoConfig) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in drawn_network(config).state_dict().items()}


def _with_aliases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    aliases = {}
    for view in (1, 2):
        for level in range(4):
            scratch = f"downstream_head{view}.dpt.scratch."
            if f"{scratch}layer{level + 1}_rn.weight" in state:
                aliases[f"{scratch}layer_rn.{level}.weight"] = state[f"{scratch}layer{level + 1}_rn.weight"]
    return state | aliases
