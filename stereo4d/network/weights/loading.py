"""From a weights file to a network, strictly, and from a network to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from stereo4d.errors import CheckpointError, PluginError, Stereo4DError
from stereo4d.network.config import StereoConfig
from stereo4d.network.precision import choose
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights.checkpoint import Checkpoint, read_checkpoint
from stereo4d.network.weights.inspection import CARD
from stereo4d.network.weights.keys import check_keys, without_aliases
from stereo4d.storage import atomic_file

TWO_VIEW_FAMILIES = ("DUSt3R", "MASt3R")
"""Families, as ``Checkpoint`` names them, that predict pointmaps of pairs; MonST3R is DUSt3R with other weights."""


def load_model(
    source: str | Path = "embedded",
    *,
    device: str | torch.device = "cpu",
    precision: str = "exact",
    allow: Sequence[type] = (),
) -> StereoNetwork:
    """Build a network from a weights file, for inference.

    Args:
        source: ``"embedded"``, a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors`` and
            ``config.json``.
        device: where it shall run.
        precision: ``exact`` (float32), ``bf16``, or ``auto`` (bf16 where the processor has it).
        allow: classes that a ``.pth`` file may hold; only for files you trust.

    Returns:
        The network in evaluation mode, for upright images of any orientation.

    Raises:
        CheckpointError: the file cannot be used, or its keys do not fit the network it describes.
    """
    chosen = choose(precision, torch.device(device))
    network = build(read_checkpoint(source, allow=allow))
    network.precision = chosen
    return network.to(device).eval()


def build(checkpoint: Checkpoint) -> StereoNetwork:
    """Build the network that a checkpoint describes, upright, and give it the checkpoint's tensors.

    Raises:
        CheckpointError: its family is not supported, or its keys do not fit.
    """
    path = checkpoint.path
    if checkpoint.family not in TWO_VIEW_FAMILIES:
        raise CheckpointError(
            f"{path} is a {checkpoint.family} checkpoint; a two-view network is needed, of DUSt3R, MonST3R or MASt3R"
        )
    try:
        # published configs of some files want landscape storage, which fails on portrait images
        config = StereoConfig.from_json(checkpoint.options).upright()
        network = empty_network(config)
        state = without_aliases(checkpoint.state)
        check_keys(state, network.state_dict())
    except PluginError as error:
        raise CheckpointError(f"{path} needs a head that is not here: {error}") from error
    except Stereo4DError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {error}") from error
    # assigned, not copied: memory-mapped tensors are read once, when they are used
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network


def empty_network(config: StereoConfig) -> StereoNetwork:
    """A network without storage, on the meta device."""
    with torch.device("meta"), _Uninitialised():
        return StereoNetwork(config)


class _Uninitialised(TorchFunctionMode):
    """Leaves tensors as they are made.

    Without storage there is nothing to initialise, but trying makes PyTorch import its compiler: 2.5 s at every start.
    """

    _SKIPPED = frozenset({init.kaiming_uniform_, init.xavier_uniform_, init.uniform_, init.normal_})

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self._SKIPPED:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def save_model(
    network: StereoNetwork,
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``config.json``, ``model.safetensors`` and, if given, ``card.json``, each whole or not at all.

    Args:
        network: what to save.
        folder: made if absent.
        dtype: float32, or float16 for half the size.
        card: plain values; ``name`` and ``licence`` are shown by ``stereo4d weights show``.

    Returns:
        The path of ``model.safetensors``.
    """
    folder = Path(folder)
    texts = {"config.json": network.config.to_json()} | ({} if card is None else {CARD: dict(card)})
    for name, content in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    state = {key: _stored(value, dtype, key) for key, value in network.state_dict().items()}
    with atomic_file(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
        # the writer makes files that only their owner may read
        temporary.chmod((folder / "config.json").stat().st_mode & 0o777)
    return folder / "model.safetensors"


def _stored(value: Tensor, dtype: torch.dtype, key: str) -> Tensor:
    stored = value.detach().to("cpu", dtype).contiguous()
    if not stored.isfinite().all():
        raise CheckpointError(f"{key} holds values that are not finite in {dtype}; it was not saved")
    return stored
