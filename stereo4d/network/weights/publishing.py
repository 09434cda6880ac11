"""Networks written as the family's checkpoints are published on the hub, for programs other than this one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stereo4d.errors import CheckpointError
from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.config import BackboneConfig, StereoConfig
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights.keys import check_finite, name_aliases
from stereo4d.storage import atomic_file, write_text

_ALWAYS = ("enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads", "pos_embed")
_ALWAYS_STEREO = ("conf_mode", "depth_mode", "head_type", "img_size", "landscape_only", "output_mode")
_WITHOUT_DESCRIPTORS = "freeze"


def save_published(network: StereoNetwork | CompletionNetwork, folder: str | Path) -> Path:
    """Write ``config.json`` and ``model.safetensors`` in float32, in the layout of the published files.

    The config holds infinities as bare ``Infinity``, which Python reads and strict JSON readers do not. Tensors that
    have two names are stored under one; the header says which is which.

    Args:
        network: what to save.
        folder: made if absent.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        CheckpointError: the network has heads beside the main one, for which no layout with a config was ever
            published (``save_model`` keeps them), or values that are not finite.
    """
    if isinstance(network, StereoNetwork) and network.config.heads:
        raise CheckpointError(
            f"heads beside the main one ({', '.join(network.config.heads)}) have no published config; write them with "
            "save_model, or choose none"
        )
    folder = Path(folder)
    state = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in network.state_dict().items()}
    check_finite(state)
    write_text(folder / "config.json", published_config(network.config))
    with atomic_file(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata=published_metadata(state))
        temporary.chmod((folder / "config.json").stat().st_mode & 0o777)
    return folder / "model.safetensors"


def published_config(config: BackboneConfig) -> str:
    """The text of ``config.json``: names sorted, two spaces deep, no line break at the end."""
    stereo = isinstance(config, StereoConfig)
    defaults = StereoConfig() if stereo else CompletionConfig()
    wanted = set(_ALWAYS) | set(_ALWAYS_STEREO if stereo else ())
    options: dict[str, Any] = dict(config.head_options) if isinstance(config, StereoConfig) else {}
    if isinstance(config, StereoConfig):
        wanted.add("patch_embed_cls")
        # MASt3R's constructor names what it adds, not what it inherits
        if not options:
            wanted.add(_WITHOUT_DESCRIPTORS)
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in wanted or (
            item.name not in ("heads", "head_options") and value != getattr(defaults, item.name)
        ):
            options[item.name] = value
    return json.dumps(_as_published(options), indent=2, sort_keys=True)


def published_metadata(state: Mapping[str, Tensor]) -> dict[str, str] | None:
    """What the published header says beside the tensors: the second name of each tensor that has two."""
    return name_aliases(state) or None


def _as_published(value: Any) -> Any:
    """Whole numbers without a point, sequences as lists."""
    if isinstance(value, Mapping):
        return {name: _as_published(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_as_published(part) for part in value]
    whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
    return int(value) if whole else value
