"""State-dict keys: aliases dropped, the rest compared with what the network needs, differences named by group."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from stereo4d.errors import CheckpointError

_KEY_LIMIT = 256
_NAME = re.compile(r"(downstream_head\d\.dpt\.scratch\.)layer(\d)_rn\.weight$")
_ALIAS = re.compile(r"\.scratch\.layer_rn\.(\d)\.")


def group_of(key: str) -> str:
    """The part of the network that a key belongs to, like ``enc_blocks``."""
    return key.split(".")[0]


def name_aliases(state: Iterable[str]) -> dict[str, str]:
    """The second names that published files give to tensors, to the names they are stored under."""
    named = {key: _NAME.match(key) for key in state}
    return {f"{found[1]}layer_rn.{int(found[2]) - 1}.weight": key for key, found in named.items() if found}


def check_tensors(state: Mapping[Any, Tensor], file_size: int) -> dict[str, Tensor]:
    """Let through plain tensors that have their own bytes in the file.

    Args:
        state: tensors as a file gives them.
        file_size: of the file, in bytes.

    Returns:
        The same tensors, without gradients and hooks.

    Raises:
        CheckpointError: a key is no printable name; a tensor is sparse, quantised, of another device or of a class of
            its own; or the tensors have more bytes than the file, as expanded or shared ones do.
    """
    for key, value in state.items():
        if not isinstance(key, str) or not key.isprintable() or len(key) > _KEY_LIMIT:
            raise CheckpointError(f"a key of its state dict is no name of a parameter: {ascii(key)[:80]}")
        plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout is torch.strided
        if not plain or value.is_quantized or value.is_nested or value.device.type != "cpu":
            raise CheckpointError(f"{key} is no plain tensor, but {type(value).__name__}, {value.layout}")
    size = sum(value.numel() * value.element_size() for key, value in state.items() if not _ALIAS.search(key))
    if size > file_size:
        raise CheckpointError(
            f"its tensors have {size} bytes, but the file has {file_size}: some share or repeat their values"
        )
    return {key: value.detach() for key, value in state.items()}


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Look for values that are no numbers.

    Raises:
        CheckpointError: there are some; the keys are named.
    """
    # a sum is finite only if every term is, and takes one pass without a copy; big terms may overflow, so look again
    bad = [key for key, value in state.items() if not value.sum().isfinite() and not value.isfinite().all()]
    if bad:
        counts = [f"{key} ({int((~state[key].isfinite()).sum())} of {state[key].numel()} values)" for key in bad[:3]]
        raise CheckpointError(f"weights are not finite: {_some('NaN or infinite', counts + bad[3:])}")


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with every tensor under one name.

    Published ``.pth`` files name four tensors of each DPT head twice: ``layer_rn.{i}`` and ``layer{i+1}_rn``.

    Raises:
        CheckpointError: two names of one tensor hold different values.
    """
    clean = {key: value for key, value in state.items() if not _ALIAS.search(key)}
    for key in state.keys() - clean.keys():
        name = _ALIAS.sub(lambda match: f".scratch.layer{int(match[1]) + 1}_rn.", key)
        stored_twice = name in clean and clean[name].data_ptr() != state[key].data_ptr()
        if stored_twice and not torch.equal(clean[name], state[key]):
            raise CheckpointError(f"{key} and {name} name one tensor but hold different values")
        clean[name] = state[key]
    return clean


def check_keys(state: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds of tensors.

    Args:
        state: tensors of a file, aliases dropped.
        needed: tensors of the network; may live on the meta device.

    Raises:
        CheckpointError: anything is missing, unexpected or of the wrong shape or kind; named by group.
    """
    common = [key for key in needed if key in state]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, the network needs {tuple(needed[key].shape)}"
        for key in common
        if state[key].shape != needed[key].shape
    ]
    kinds = [f"{key} is {state[key].dtype}" for key in common if not state[key].is_floating_point()]
    problems = [
        _by_group("missing", (key for key in needed if key not in state)),
        _by_group("unexpected", (key for key in state if key not in needed)),
        _some("wrong shape", shapes),
        _some("not floating point", kinds),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise CheckpointError(f"keys do not fit the network it describes: {found}")


def _by_group(what: str, keys: Iterable[str]) -> str:
    groups = defaultdict(list)
    for key in keys:
        groups[group_of(key)].append(key)
    parts = [f"{group} ({len(names)}: {names[0]}{', ...' * (len(names) > 1)})" for group, names in groups.items()]
    return f"{what} {', '.join(parts)}" if parts else ""


def _some(what: str, lines: list[str]) -> str:
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return f"{what}: {', '.join(lines[:3])}{more}" if lines else ""
