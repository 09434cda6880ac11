"""Weights files as found: where they lie, what they describe, the tensors they hold."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stereo4d.errors import CheckpointError
from stereo4d.network.weights.constructor import parse_constructor
from stereo4d.network.weights.names import resolve
from stereo4d.network.weights.pickled import read_pickle

_FAMILY_OF_CLASS = {"AsymmetricCroCo3DStereo": "DUSt3R", "AsymmetricMASt3R": "MASt3R", "CroCoNet": "CroCo"}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file, read but not yet judged."""

    path: Path
    format: str
    """``"pth"`` or ``"safetensors"``."""
    family: str
    """``"DUSt3R"`` (MonST3R's are of it too), ``"MASt3R"`` or ``"CroCo"``."""
    options: Mapping[str, Any]
    """Constructor options as stored."""
    state: Mapping[str, Tensor]
    """Tensors by key as stored, memory-mapped."""


def read_checkpoint(source: str | Path, *, allow: Sequence[type] = ()) -> Checkpoint:
    """Read a weights file without running code from it.

    Args:
        source: see ``resolve``.
        allow: see ``read_pickle``.

    Raises:
        CheckpointError: it cannot be used; ``UnsafeCheckpointError`` when reading it would have to run code.
    """
    path = resolve(source)
    try:
        return _read_safetensors(path) if _is_safetensors(path) else _read_pth(path, allow)
    except CheckpointError as error:
        # every message names the file, whichever layer wrote it
        raise error if str(path.parent) in str(error) else type(error)(f"{path}: {error}") from error


def _read_safetensors(path: Path) -> Checkpoint:
    config = path.with_name("config.json")
    if not config.is_file():
        raise CheckpointError(f"{path} has no config.json beside it, which says how the network is built; add it")
    try:
        options = json.loads(config.read_text(encoding="utf-8"))  # Python's reader takes bare Infinity, as published
    except ValueError as error:
        raise CheckpointError(f"{config} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise CheckpointError(f"{config} holds a {type(options).__name__}, not options by name")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); fetch or write it again") from error
    return Checkpoint(path, "safetensors", _family(options, state), options, state)


def _read_pth(path: Path, allow: Sequence[type]) -> Checkpoint:
    content = read_pickle(path, allow=allow)
    state = content.get("model")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(sorted(map(str, content))[:6]) or "nothing"
        raise CheckpointError(f"{path} has no state dict under 'model' (it holds {found}); not a file of this family")
    arguments = content.get("args")
    text = getattr(arguments, "model", None) if isinstance(arguments, Namespace) else None
    if isinstance(text, str):
        name, options = parse_constructor(text)
        return Checkpoint(path, "pth", _FAMILY_OF_CLASS[name], options, state)
    options = content.get("croco_kwargs", {})
    family = _family(options, state)
    if family != "CroCo":
        raise CheckpointError(f"{path} has no constructor string (args.model), so its network cannot be built")
    return Checkpoint(path, "pth", family, options, state)


def _family(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Config files carry no class name; options and keys tell."""
    groups = {key.split(".")[0] for key in state}
    described = {"two_confs", "desc_mode", "desc_conf_mode"} & set(options) or "desc" in str(options.get("output_mode"))
    if described or any(".head_local_features." in key for key in state):
        return "MASt3R"
    if {"downstream_head1", "dec_blocks2"} & groups:
        return "DUSt3R"
    if {"enc_blocks", "dec_blocks"} <= groups:
        return "CroCo"
    shown = ", ".join(sorted(groups)[:6]) or "none"
    raise CheckpointError(f"its keys are of no network of this family (groups: {shown})")


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    # a safetensors file starts with the length of its JSON header
    return path.suffix == ".safetensors" or (len(start) == 9 and start[8:] == b"{")


def file_sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal; remembered for as long as the file does not change."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
