"""The options of a network as its tensors show them, for files that hold tensors alone.

Names and shapes tell all but the number of attention heads (64 channels each in all published networks but the small
decoder of CroCo), the image size and the output activations; those have the published values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stereo4d.errors import CheckpointError

_BLOCK = re.compile(r"(enc|dec)_blocks\.(\d+)\.")
_HEAD_WIDTH = 64
_SMALL_DECODER = (512, 8, 16)
"""Width, depth and attention heads: the one published exception."""
_DPT_DEFAULTS = {"feature_dim": 256, "last_dim": 128, "layer_dims": [96, 192, 384, 768]}


def measure(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of the backbone as far as tensors show them, by the names of the options."""
    found = {f"{part}_depth": _blocks(state, part) for part in ("enc", "dec")}
    for name, key, axis in (
        ("enc_embed_dim", "patch_embed.proj.weight", 0),
        ("dec_embed_dim", "decoder_embed.weight", 0),
        ("patch_size", "patch_embed.proj.weight", 3),
    ):
        if key in state and state[key].ndim > axis:
            found[name] = state[key].shape[axis]
    return found


def infer(state: Mapping[str, Tensor], family: str) -> dict[str, Any]:
    """Options of the network that these tensors are of.

    Args:
        state: tensors of a file, aliases dropped.
        family: as ``Checkpoint`` names it.

    Raises:
        CheckpointError: the tensors do not tell.
    """
    try:
        return _backbone(state) | (_completion(state) if family == "CroCo" else _stereo(state))
    except (LookupError, ArithmeticError, ValueError) as error:
        raise CheckpointError(
            f"it does not say how its network is built, and its tensors do not tell ({error}); a config.json beside a "
            ".safetensors file says it"
        ) from error


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Any]:
    sizes = measure(state)
    decoder = (sizes["dec_embed_dim"], sizes["dec_depth"])
    ratio = state["enc_blocks.0.mlp.fc1.weight"].shape[0] / sizes["enc_embed_dim"]
    return {
        **sizes,
        "enc_num_heads": _attention_heads(sizes["enc_embed_dim"]),
        "dec_num_heads": _SMALL_DECODER[2] if decoder == _SMALL_DECODER[:2] else _attention_heads(decoder[0]),
        "mlp_ratio": int(ratio) if ratio.is_integer() else ratio,
        "norm_im2_in_dec": "dec_blocks.0.norm_y.weight" in state,
        "pos_embed": "cosine" if "enc_pos_embed" in state else "RoPE100",
    }


def _completion(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "enc_pos_embed" not in state:
        return {"img_size": [224, 224]}
    side = math.isqrt(state["enc_pos_embed"].shape[0]) * measure(state)["patch_size"]
    return {"img_size": [side, side]}


def _stereo(state: Mapping[str, Tensor]) -> dict[str, Any]:
    options = {"landscape_only": False, **_main_head(state)}
    if "motion_head1.dpt.linear_projections.0.0.weight" in state:
        embed_dim = state["motion_head1.dpt.linear_projections.0.0.weight"].shape[1]
        chosen = {"embed_dim": embed_dim, **_dpt_widths(state, "motion_head1")}
        options["heads"] = {"motion": {"head_type": "motion", "options": chosen}}
    return options


def _main_head(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "downstream_head1.proj.weight" in state:
        # either size was published with this head, and the tensors are the same
        return {"head_type": "linear", "img_size": [224, 224]}
    options = {"img_size": [512, 512], **_dpt_widths(state, "downstream_head1")}
    if "downstream_head1.head_local_features.fc2.weight" not in state:
        return {"head_type": "dpt", **options}
    channels = state["downstream_head1.head_local_features.fc2.weight"].shape[0] // measure(state)["patch_size"] ** 2
    two = channels % 2 == 1  # descriptors have an even number of channels; the odd one is their own confidence
    return {
        "head_type": "catmlp+dpt",
        "output_mode": f"pts3d+desc{channels - two}",
        "two_confs": two,
        "desc_mode": "norm",
        "desc_conf_mode": ["exp", 0, math.inf],
        **options,
    }


def _dpt_widths(state: Mapping[str, Tensor], head: str) -> dict[str, Any]:
    """Widths of a DPT head where they are not the published ones."""
    first = state[f"{head}.dpt.scratch.layer1_rn.weight"]
    widths = {
        "feature_dim": first.shape[0],
        "last_dim": state[f"{head}.dpt.head.0.weight"].shape[0],
        "layer_dims": [state[f"{head}.dpt.scratch.layer{level}_rn.weight"].shape[1] for level in range(1, 5)],
    }
    return {name: value for name, value in widths.items() if value != _DPT_DEFAULTS[name]}


def _attention_heads(width: int) -> int:
    if width % _HEAD_WIDTH:
        raise ValueError(f"a width of {width} is no multiple of {_HEAD_WIDTH}")
    return width // _HEAD_WIDTH


def _blocks(state: Mapping[str, Tensor], part: str) -> int:
    return len({found[2] for key in state if (found := _BLOCK.match(key)) and found[1] == part})
