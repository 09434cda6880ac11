"""Weights of any format that is read, rewritten as safetensors with their description."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stereo4d import __version__
from stereo4d.errors import CheckpointError, OutputError, UsageError
from stereo4d.network.config import plain
from stereo4d.network.weights.checkpoint import Checkpoint, read_checkpoint
from stereo4d.network.weights.inspection import CARD, inspect
from stereo4d.network.weights.keys import without_aliases
from stereo4d.network.weights.loading import COMPLETION_FAMILY, build, build_completion
from stereo4d.storage import save_arrays, why, write_text

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def convert(source: str | Path, folder: str | Path, *, dtype: str = "float32", overwrite: bool = False) -> Path:
    """Rewrite weights as ``config.json``, ``model.safetensors`` and ``card.json``, all of them or none.

    Args:
        source: any weights that can be read, by path or name; nothing in them is run.
        folder: made if absent.
        dtype: of the numbers: ``"float32"`` or ``"float16"``.
        overwrite: replace files of these names that are there; what else is in the folder stays.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        CheckpointError: the weights cannot be read, do not fit the network they describe, or do not fit ``dtype``.
        OutputError: the folder cannot be written, or has such files.
        UsageError: there is no such dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    folder = Path(folder).expanduser()
    _check_free(folder, overwrite=overwrite)
    checkpoint = read_checkpoint(source)
    # built only to be compared: names, shapes, values
    (build_completion if checkpoint.family == COMPLETION_FAMILY else build)(checkpoint)
    state = {key: _cast(key, value, DTYPES[dtype]) for key, value in without_aliases(checkpoint.state).items()}
    with _all_or_none(folder) as partial:
        write_text(partial / _CONFIG, _json(plain(checkpoint.options)))
        write_text(partial / CARD, _json(_card(source, checkpoint, dtype)))
        # "pt": what other readers of the format ask for
        save_arrays(partial / _WEIGHTS, state, {"format": "pt"})
    return folder / _WEIGHTS


def _check_free(folder: Path, *, overwrite: bool) -> None:
    if folder.suffix in (".safetensors", ".pth") or folder.is_file():
        raise OutputError(f"{folder} is a file's name; give a folder, weights and their description go into it")
    there = [name for name in (_CONFIG, _WEIGHTS, CARD) if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} has {', '.join(there)} already; give another folder, or --overwrite")


def _cast(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    cast = value.to(dtype)
    if cast.dtype != value.dtype and not cast.isfinite().all():
        raise CheckpointError(f"{key} holds values that are not finite in {dtype}; convert to float32")
    return cast


def _card(source: str | Path, checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    """Where the weights are from; what they may be used for goes with them."""
    info = inspect(source)
    origin = {
        "name": info.name,
        "licence": info.licence,
        "converted_from": checkpoint.path.name,
        "source_sha256": info.sha256,
        "source_format": info.format,
        "dtype": dtype,
        "converted_by": f"stereo4d {__version__}",
    }
    return {**info.card, **origin}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


@contextmanager
def _all_or_none(folder: Path) -> Iterator[Path]:
    """A hidden folder to write into, whose files move to ``folder`` when the block ends well."""
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        yield partial
        folder.mkdir(exist_ok=True)
        for name in (_CONFIG, CARD, _WEIGHTS):  # a folder counts as weights once it has the last of these
            os.replace(partial / name, folder / name)
    except OutputError as error:
        raise OutputError(str(error).replace(str(partial), str(folder))) from error
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {why(error)}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
