"""What a weights file is, without building anything from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stereo4d.network.config import plain
from stereo4d.network.weights.catalogue import BY_SHA256, PUBLISHED_LICENCE, find
from stereo4d.network.weights.checkpoint import file_sha256, read_checkpoint
from stereo4d.network.weights.described import read_options
from stereo4d.network.weights.keys import group_of, without_aliases
from stereo4d.network.weights.names import stored_name

CARD = "card.json"
"""Beside our own weights: what they were trained on, for how long, their errors, their licence."""

_UNKNOWN_LICENCE = f"not stated in the file; published checkpoints of this family: {PUBLISHED_LICENCE}"


@dataclass(frozen=True)
class CheckpointInfo:
    """What ``stereo4d weights show`` says; every value is plain JSON."""

    path: str
    name: str
    """The published name if the checksum is known, the card's name, or the file's."""
    format: str
    family: str
    bytes: int
    sha256: str
    licence: str
    config: Mapping[str, Any]
    """Constructor options as stored; infinities as ``"inf"``."""
    config_inferred: bool
    """The file says nothing of its network; ``config`` is what its tensors tell."""
    groups: Mapping[str, Mapping[str, int]]
    """Part of the network -> number of ``keys`` as stored and of ``parameters``, aliases counted once."""
    parameters: int
    dtypes: tuple[str, ...]
    card: Mapping[str, Any]
    """The card beside our own weights, else empty."""


def inspect(source: str | Path) -> CheckpointInfo:
    """Describe a weights file; no code of it is run, and no network is built.

    Args:
        source: ``"embedded"``, a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors``.

    Raises:
        CheckpointError: it is not a weights file of this family.
    """
    checkpoint = read_checkpoint(source)
    path = checkpoint.path
    clean = without_aliases(checkpoint.state)
    groups: dict[str, dict[str, int]] = defaultdict(lambda: {"keys": 0, "parameters": 0})
    for key in checkpoint.state:
        groups[group_of(key)]["keys"] += 1
    for key, value in clean.items():
        groups[group_of(key)]["parameters"] += value.numel()
    sha256 = file_sha256(path)
    card = _card(path)
    published = BY_SHA256.get(sha256)
    stored_as = stored_name(path)
    licence_by_name = getattr(find(stored_as), "licence", None)
    return CheckpointInfo(
        path=str(path),
        name=published.title if published else str(card.get("name") or stored_as),
        format=checkpoint.format,
        family=checkpoint.family,
        bytes=path.stat().st_size,
        sha256=sha256,
        licence=published.licence if published else str(card.get("licence") or licence_by_name or _UNKNOWN_LICENCE),
        config=plain(checkpoint.options),
        config_inferred=checkpoint.inferred,
        groups={name: dict(counts) for name, counts in groups.items()},
        parameters=sum(value.numel() for value in clean.values()),
        dtypes=tuple(sorted({str(value.dtype).removeprefix("torch.") for value in clean.values()})),
        card=card,
    )


def _card(path: Path) -> dict[str, Any]:
    card = path.with_name(CARD)
    if path.name != "model.safetensors" or not card.is_file():
        return {}
    return read_options(card)
