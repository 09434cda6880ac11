"""From a weights file to a network, strictly, and from a network to files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from stereo4d.errors import CheckpointError, PluginError, Stereo4DError
from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.config import StereoConfig
from stereo4d.network.precision import choose
from stereo4d.network.settling import settle
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights.checkpoint import Checkpoint, named, read_checkpoint
from stereo4d.network.weights.described import check_described
from stereo4d.network.weights.inspection import CARD
from stereo4d.network.weights.keys import check_finite, check_keys, without_aliases
from stereo4d.storage import atomic_file

_Network = TypeVar("_Network", StereoNetwork, CompletionNetwork)
COMPLETION_FAMILY = "CroCo"
_log = logging.getLogger(__name__)


def load_model(
    source: str | Path = "embedded",
    *,
    device: str | torch.device = "cpu",
    precision: str = "exact",
    allow: Sequence[type] = (),
) -> StereoNetwork:
    """Build a network from a weights file, for inference.

    Args:
        source: ``"embedded"``, a ``.pth`` or ``.safetensors`` file, a checkpoint of ``stereo4d fit`` (``.ckpt``; the
            averaged weights where it kept an average), or a folder with ``model.safetensors`` and ``config.json``.
        device: where it shall run.
        precision: ``exact`` (float32), ``auto`` (bf16 where the processor has it), ``bf16`` or ``fast``; see
            ``network.precision.choose``.
        allow: classes that a ``.pth`` file may hold; only for files you trust.

    Returns:
        The network in evaluation mode, for upright images of any orientation.

    Raises:
        CheckpointError: the file cannot be used, or its keys do not fit the network it describes.
    """
    chosen = choose(precision, torch.device(device))
    network = build(read_checkpoint(source, allow=allow))
    return settle(network.to(device), chosen).eval()


def load_completion(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: str = "exact",
    allow: Sequence[type] = (),
) -> CompletionNetwork:
    """Build a cross-view completion network (CroCo) from a weights file, for inference.

    Args:
        source: as for ``load_model``.
        device: where it shall run.
        precision: ``exact`` (float32), ``auto`` (bf16 where the processor has it), ``bf16`` or ``fast``; see
            ``network.precision.choose``.
        allow: classes that a ``.pth`` file may hold; only for files you trust.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: the file cannot be used, is of another family, or its keys do not fit its network.
    """
    chosen = choose(precision, torch.device(device))
    network = build_completion(read_checkpoint(source, allow=allow))
    network.precision = chosen
    return network.to(device).eval()


def build(checkpoint: Checkpoint) -> StereoNetwork:
    """Build the two-view network that a checkpoint describes, upright, and give it the checkpoint's tensors.

    Raises:
        CheckpointError: it is no two-view network, its keys do not fit, or its values are not finite.
    """
    config = stereo_config(checkpoint)
    return _filled(checkpoint, lambda: empty_network(config))


def build_completion(checkpoint: Checkpoint) -> CompletionNetwork:
    """Build the completion network that a checkpoint describes, and give it the checkpoint's tensors.

    Raises:
        CheckpointError: it is no completion network, its keys do not fit, or its values are not finite.
    """
    if checkpoint.family != COMPLETION_FAMILY:
        raise CheckpointError(
            f"{checkpoint.path} is a {checkpoint.family} checkpoint, which completes no images; load it with "
            "stereo4d.load_model"
        )
    with _explained(checkpoint.path):
        config = CompletionConfig.from_json(checkpoint.options)
        check_described(config, without_aliases(checkpoint.state))
    return _filled(checkpoint, lambda: empty_completion_network(config))


def stereo_config(checkpoint: Checkpoint) -> StereoConfig:
    """The upright two-view network that a checkpoint describes, its sizes those of the checkpoint's tensors.

    Raises:
        CheckpointError: it is no two-view network, or its description is not one of its tensors.
    """
    if checkpoint.family == COMPLETION_FAMILY:
        raise CheckpointError(
            f"{checkpoint.path} is a {checkpoint.family} checkpoint: it completes images and writes no pointmaps; load "
            "it with stereo4d.load_completion, or start training from it"
        )
    with _explained(checkpoint.path):
        # published configs of some files want landscape storage, which fails on portrait images
        config = StereoConfig.from_json(checkpoint.options).upright()
        check_described(config, without_aliases(checkpoint.state))
        return config


def empty_network(config: StereoConfig) -> StereoNetwork:
    """A network without storage, on the meta device."""
    with torch.device("meta"), _Uninitialised():
        return StereoNetwork(config)


def empty_completion_network(config: CompletionConfig) -> CompletionNetwork:
    """A completion network without storage, on the meta device."""
    with torch.device("meta"), _Uninitialised():
        return CompletionNetwork(config)


def _filled(checkpoint: Checkpoint, make_empty: Callable[[], _Network]) -> _Network:
    """The network with the checkpoint's tensors for its own."""
    with _explained(checkpoint.path):
        network = make_empty()
        state = without_aliases(checkpoint.state)
        check_keys(state, network.state_dict())
        state = {key: value.float() for key, value in state.items()}
        check_finite(state)
    if checkpoint.inferred:
        _log.warning("%s does not say how its network is built; it was told from its tensors", checkpoint.path)
    # assigned, not copied: memory-mapped tensors are read once, when they are used
    network.load_state_dict(state, assign=True)
    return network


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a stranger's network is built, said of its file."""
    try:
        yield
    except PluginError as error:
        raise named(CheckpointError(f"{path} needs a head that is not here: {error}"), path) from error
    except Stereo4DError as error:
        raise named(CheckpointError(f"{path}: {error}"), path) from error
    except (TypeError, ValueError, ArithmeticError, RuntimeError, LookupError, MemoryError) as error:
        raise named(CheckpointError(f"{path} describes a network that cannot be built: {error}"), path) from error


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
