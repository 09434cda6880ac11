"""State-dict keys: aliases dropped, the rest compared with what the network needs, differences named by group."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stereo4d.errors import CheckpointError

_ALIAS = re.compile(r"\.scratch\.layer_rn\.(\d)\.")


def group_of(key: str) -> str:
    """The part of the network that a key belongs to, like ``enc_blocks``."""
    return key.split(".")[0]


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with every tensor under one name.

    Published ``.pth`` files name four tensors of each DPT head twice: ``layer_rn.{i}`` and ``layer{i+1}_rn``.

    Raises:
        CheckpointError: two names of one tensor hold different values.
    """
    clean = {key: value for key, value in state.items() if not _ALIAS.search(key)}
    for key in state.keys() - clean.keys():
        name = _ALIAS.sub(lambda match: f".scratch.layer{int(match[1]) + 1}_rn.", key)
        if name in clean and not torch.equal(clean[name], state[key]):
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
