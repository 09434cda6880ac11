"""Training that starts from weights of a relative: what they have in common is taken, and nothing is passed over.

The published chain: CroCo -> DUSt3R linear -> DUSt3R DPT -> MonST3R, MASt3R (checkpoints' keys differ by heads, and by
the second decoder) -> DynaDUSt3R.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stereo4d.errors import CheckpointError
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights.checkpoint import read_tensors
from stereo4d.network.weights.keys import check_finite

_FIRST, _SECOND = "dec_blocks.", "dec_blocks2."
_MAY_DIFFER = ("prediction_head", "enc_pos_embed", "dec_pos_embed")
"""What a two-view network has no use for."""


@dataclass(frozen=True)
class StartReport:
    """What training started from; every mapping is from a part of the network to its number of tensors."""

    source: str
    taken: Mapping[str, int]
    """Parts that have the values of the file."""
    derived: Mapping[str, int]
    """Parts that the file lacks, and that have values of other parts of it."""
    fresh: Mapping[str, int]
    """Parts, or some tensors of a part, that keep the values they were initialised with."""
    dropped: Mapping[str, int]
    """Parts of the file that the network has no place for."""

    def __str__(self) -> str:
        kinds = (
            ("taken", self.taken),
            ("derived from other parts", self.derived),
            ("fresh", self.fresh),
            ("dropped", self.dropped),
        )
        told = [f"{what}: {_told(parts)}" for what, parts in kinds if parts]
        return f"started from {self.source}; {'; '.join(told)}"


def start_from(network: StereoNetwork, source: str | Path, *, allow: Sequence[type] = ()) -> StartReport:
    """Give a network, in place, what weights of a relative have for it.

    Without a second decoder in the file, it starts as a copy of the first. A head beside the main one that the file
    lacks starts from the file's main head as far as it can (see ``AnyHead.starting_values``).

    Args:
        network: to be trained.
        source: name or path of weights of any network of the family, or a checkpoint of training.
        allow: classes that a ``.pth`` file may hold; only for files you trust.

    Raises:
        CheckpointError: the file cannot be used, a shape differs, or the encoder or the decoders are not alike.
    """
    found = read_tensors(source, allow=allow)
    own = network.state_dict()
    derived = _second_decoder(found, own) | _heads_beside(network, found)
    given = {**found, **derived}
    _check_shapes(given, own, source)
    taken = {key: value for key, value in found.items() if key in own}
    fresh = [key for key in own if key not in given]
    dropped = [key for key in found if key not in own]
    _check_backbone(fresh, dropped, source)
    check_finite(taken)
    with torch.no_grad():
        for key in own.keys() & given.keys():
            own[key].copy_(given[key])
    return StartReport(str(source), _count(taken), _count(derived), _count(fresh), _count(dropped))


def _second_decoder(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(key.startswith(_SECOND) for key in found):
        return {}
    copied = {_SECOND + key.removeprefix(_FIRST): value for key, value in found.items() if key.startswith(_FIRST)}
    return {key: value for key, value in copied.items() if key in own}


def _heads_beside(network: StereoNetwork, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    derived: dict[str, Tensor] = {}
    for name, choice in network.config.heads.items():
        for view, head in enumerate(network.heads_beside()[name], start=1):
            prefix = f"{name}_head." if choice.shared else f"{name}_head{view}."
            if any(key.startswith(prefix) for key in found):
                continue
            place = f"downstream_head{view}."
            main = {key.removeprefix(place): value for key, value in found.items() if key.startswith(place)}
            # a shared head starts from that of view 0
            values = {prefix + key: value for key, value in head.starting_values(main).items()}
            derived = values | derived
    return derived


def _check_shapes(given: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str | Path) -> None:
    wrong = [
        f"{key} is {tuple(given[key].shape)}, the network needs {tuple(value.shape)}"
        for key, value in own.items()
        if key in given and given[key].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{source} cannot be started from: {', '.join(wrong[:3])}{more}")


def _check_backbone(fresh: Iterable[str], dropped: Iterable[str], source: str | Path) -> None:
    """Heads may come and go; an encoder or decoder of another depth is another network."""
    lacking = [key for key in fresh if not _is_of_a_head(key)]
    surplus = [key for key in dropped if not _is_of_a_head(key) and key.split(".")[0] not in _MAY_DIFFER]
    told = [f"the file lacks {_told(_count(lacking))}"] if lacking else []
    told += [f"the network has no place for {_told(_count(surplus))}"] if surplus else []
    if told:
        raise CheckpointError(f"{source} cannot be started from: {'; '.join(told)}")


def _told(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{part} ({count})" for part, count in parts.items())


def _is_of_a_head(key: str) -> bool:
    return "head" in key.split(".")[0]


def _count(keys: Iterable[str]) -> dict[str, int]:
    """Numbers of tensors by part: of heads, by part of the head."""
    parts = (key.split(".") for key in keys)
    return dict(Counter(".".join(part[: 2 if "head" in part[0] and len(part) > 2 else 1]) for part in parts))
