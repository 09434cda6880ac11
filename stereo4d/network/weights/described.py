"""What a checkpoint says of its network, held against its tensors before anything is built.

A description is a few bytes from a stranger; ``enc_depth`` 1000000000 would be built for days. What the tensors say is
as long as the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from stereo4d.errors import CheckpointError
from stereo4d.network.config import BackboneConfig, StereoConfig
from stereo4d.network.weights.inferring import measure

_TEXT_LIMIT = 1 << 20  # bytes; published ones have 500
_VALUES_LIMIT = 10_000
_DEPTH_LIMIT = 16
_LARGEST_SIDE = 1 << 16  # pixels
_COUNTS = ("patch_size", "enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads")


def read_options(path: Path) -> dict[str, Any]:
    """Read a ``config.json``; bare ``Infinity`` is taken, as it is published.

    Raises:
        CheckpointError: it cannot be read, is not JSON with options by name, names one twice, or holds NaN.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_TEXT_LIMIT + 1)
        if len(text) > _TEXT_LIMIT:
            raise CheckpointError(f"{path} has more than {_TEXT_LIMIT} bytes; it describes no network")
        options = json.loads(text, object_pairs_hook=named_once, parse_constant=_number)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path} is nested too deeply to describe a network") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise CheckpointError(f"{path} holds a {type(options).__name__}, not options by name")
    return options


def check_plain(options: Any) -> Mapping[str, Any]:
    """Let through options that are plain values by name, not too many and not too deep.

    Raises:
        CheckpointError: they are anything else, such as lists that hold one another.
    """
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise CheckpointError(f"its options are a {type(options).__name__}, not values by name")
    waiting, seen = [(value, 0) for value in options.values()], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > _VALUES_LIMIT or depth > _DEPTH_LIMIT:
            raise CheckpointError("its options hold too many values, or nest too deeply, to describe a network")
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, tuple | list):
            waiting += [(part, depth + 1) for part in value]
        elif value is not None and not isinstance(value, str | int | float):
            raise CheckpointError(f"its options hold a {type(value).__name__}; plain values are needed")
    return options


def check_described(config: BackboneConfig, state: Mapping[str, Tensor]) -> None:
    """Compare a description with the tensors of its file.

    Args:
        config: as read from the file.
        state: tensors of the file, aliases dropped.

    Raises:
        CheckpointError: a value is no sensible number, or the tensors say another.
    """
    for name in _COUNTS:
        value = getattr(config, name)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{name} {value!r} must be a whole number of at least 1")
    ratio = config.mlp_ratio
    if type(ratio) not in (int, float) or not 0 < ratio <= 1024:
        raise CheckpointError(f"mlp_ratio {ratio!r} must be a number above 0")
    _check_image_size(config, state)
    for name, found in measure(state).items():
        if getattr(config, name) != found:
            raise CheckpointError(f"{name} is {getattr(config, name)} by its description, but {found} by its tensors")
    for name in config.heads if isinstance(config, StereoConfig) else ():
        if not any(key.startswith((f"{name}_head.", f"{name}_head1.")) for key in state):
            raise CheckpointError(f"its description has a head {name!r}, but there are no tensors of it")


def _check_image_size(config: BackboneConfig, state: Mapping[str, Tensor]) -> None:
    size: Sequence[Any] = config.img_size
    if len(size) != 2 or not all(type(side) is int and 1 <= side <= _LARGEST_SIDE for side in size):
        raise CheckpointError(
            f"img_size {list(size)[:4]!r} must be (height, width) in pixels, each from 1 to {_LARGEST_SIDE}"
        )
    if "enc_pos_embed" in state:
        places = math.prod(side // config.patch_size for side in size)
        if state["enc_pos_embed"].shape[:1] != (places,):
            raise CheckpointError(
                f"img_size {list(size)} has {places} patches, but enc_pos_embed is "
                f"{tuple(state['enc_pos_embed'].shape)}"
            )


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json``: a name that is there twice means two things to two readers."""
    named = dict(pairs)
    if len(named) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return named


def _number(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no value of an option")
    return float(name.replace("Infinity", "inf"))
