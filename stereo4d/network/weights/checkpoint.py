"""Weights files as found: where they lie, what they describe, the tensors they hold."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stereo4d.errors import CheckpointError
from stereo4d.network.weights.constructor import parse_constructor
from stereo4d.network.weights.described import check_plain, named_once, read_options
from stereo4d.network.weights.inferring import infer
from stereo4d.network.weights.keys import check_tensors, without_aliases
from stereo4d.network.weights.names import resolve
from stereo4d.network.weights.pickled import read_pickle

_FAMILY_OF_CLASS = {"AsymmetricCroCo3DStereo": "DUSt3R", "AsymmetricMASt3R": "MASt3R", "CroCoNet": "CroCo"}
_STATE_NAMES = ("model", "state_dict")
_IN_TRAINING = "network."
_HEADER_LIMIT = 10_000_000  # bytes; that of the largest published file has 130 000


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file, read but not yet judged."""

    path: Path
    format: str
    """``"pth"`` or ``"safetensors"``."""
    family: str
    """``"DUSt3R"`` (MonST3R's are of it too), ``"MASt3R"``, ``"DynaDUSt3R"`` or ``"CroCo"``."""
    options: Mapping[str, Any]
    """Constructor options as stored, or as inferred."""
    state: Mapping[str, Tensor]
    """Tensors by key as stored, memory-mapped."""
    inferred: bool = False
    """The file says nothing of its network; ``options`` are what names and shapes of its tensors tell."""


def read_checkpoint(source: str | Path, *, allow: Sequence[type] = ()) -> Checkpoint:
    """Read a weights file without running code from it.

    Args:
        source: see ``resolve``.
        allow: see ``read_pickle``.

    Raises:
        CheckpointError: it cannot be used; ``UnsafeCheckpointError`` when reading it would have to run code.
    """
    path = resolve(source)
    with _named(path):
        content = _read(path, allow)
        tensors, options = content.tensors, content.options
        # the class that made DUSt3R files makes other heads too
        family = content.family if content.family in ("MASt3R", "CroCo") else family_of(options or {}, tensors)
        if options is not None:
            return Checkpoint(path, content.format, family, check_plain(options), tensors)
        inferred = infer(without_aliases(tensors), family)
        return Checkpoint(path, content.format, family, inferred, tensors, inferred=True)


def read_tensors(source: str | Path, *, allow: Sequence[type] = ()) -> dict[str, Tensor]:
    """The tensors of a weights file by key, aliases dropped, whatever the file says of its network.

    Args:
        source: see ``resolve``; a checkpoint of training (``.ckpt``) will do as well.
        allow: see ``read_pickle``.

    Raises:
        CheckpointError: as ``read_checkpoint``.
    """
    path = resolve(source)
    with _named(path):
        return without_aliases(_read(path, allow).tensors)


@dataclass(frozen=True)
class _Content:
    """What a file holds: options and family only if it says so."""

    format: str
    tensors: dict[str, Tensor]
    options: Mapping[str, Any] | None = None
    family: str | None = None


def _read(path: Path, allow: Sequence[type]) -> _Content:
    return _read_safetensors(path) if _is_safetensors(path) else _read_pth(path, allow)


def _read_safetensors(path: Path) -> _Content:
    config = path.with_name("config.json")
    options = read_options(config) if config.is_file() else None
    _check_header(path)
    try:
        state = load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); fetch or write it again") from error
    return _Content("safetensors", check_tensors(state, path.stat().st_size), options)


def _check_header(path: Path) -> None:
    """What the library lets pass: headers that fill the memory, and names that are there twice."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise CheckpointError(
                f"{path} is not a whole safetensors file: {size} bytes, and a header said to have {length}; fetch it "
                "again"
            )
        try:
            json.loads(file.read(length), object_pairs_hook=named_once)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: its header is damaged ({error})") from error


def _read_pth(path: Path, allow: Sequence[type]) -> _Content:
    content = read_pickle(path, allow=allow)
    state = next((content[name] for name in _STATE_NAMES if isinstance(content.get(name), Mapping)), content)
    if not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(sorted(name for name in content if isinstance(name, str))[:6]) or "nothing"
        raise CheckpointError(f"{path} has no state dict under 'model' (it holds {found}); not a file of this family")
    tensors = _of_the_network(check_tensors(state, path.stat().st_size))
    arguments = content.get("args")
    text = getattr(arguments, "model", None) if isinstance(arguments, Namespace) else None
    if isinstance(text, str):
        name, options = parse_constructor(text)
        return _Content("pth", tensors, options, _FAMILY_OF_CLASS[name])
    # checkpoints of training describe the network under a name of their own
    return _Content("pth", tensors, content.get("network_config") or content.get("croco_kwargs"))


def _of_the_network(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Checkpoints of training hold the network among what else was trained."""
    if not any(key.startswith(_IN_TRAINING + "enc_blocks.") for key in tensors):
        return tensors
    return {key[len(_IN_TRAINING) :]: value for key, value in tensors.items() if key.startswith(_IN_TRAINING)}


def family_of(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Config files carry no class name; options and keys tell.

    Raises:
        CheckpointError: they are of no network of this family.
    """
    groups = {key.split(".")[0] for key in state}
    if "motion_head1" in groups:
        return "DynaDUSt3R"
    described = {"two_confs", "desc_mode", "desc_conf_mode"} & set(options) or "desc" in str(options.get("output_mode"))
    if described or any(".head_local_features." in key for key in state):
        return "MASt3R"
    if {"downstream_head1", "dec_blocks2"} & groups:
        return "DUSt3R"
    if {"enc_blocks", "dec_blocks"} <= groups:
        return "CroCo"
    shown = ", ".join(sorted(groups)[:6]) or "none"
    raise CheckpointError(f"its keys are of no network of this family (groups: {shown})")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise named(error, path) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def named(error: CheckpointError, path: Path) -> CheckpointError:
    """The error with the file's name, whichever layer wrote it, on one line of bearable length."""
    text = str(error) if str(path.parent) in str(error) else f"{path}: {error}"
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return type(error)(text if len(text) <= 2000 else f"{text[:2000]} ...")


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
