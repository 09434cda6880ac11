"""``.pth`` files, which are pickles: read with an allow-list, so that nothing in them can run."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stereo4d.errors import CheckpointError, UnsafeCheckpointError

_ZIP_MAGIC = b"PK\x03\x04"


def read_pickle(path: Path, *, allow: Sequence[type] = ()) -> Mapping[str, Any]:
    """Read a ``.pth`` file without running code from it; tensors stay on disk until they are used.

    Args:
        path: the file.
        allow: classes, beyond tensors, plain values and ``argparse.Namespace``, that the file may hold. Only for files
            you trust: making an object of a class runs that class's code.

    Raises:
        UnsafeCheckpointError: the file asks for anything not allowed; nothing of it was run.
        CheckpointError: it is no such file, or not whole.
    """
    with path.open("rb") as file:
        mapped = file.read(4) == _ZIP_MAGIC  # files in the format before 2020 cannot be mapped
    try:
        # the allow-list holds for this block only, never for the process
        with torch.serialization.safe_globals([argparse.Namespace, *allow]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        names = _refused(str(error), path if mapped else None, allow)
        if not names:
            raise CheckpointError(f"{path} is not a PyTorch weights file, or not whole") from error
        raise UnsafeCheckpointError(
            f"{path} asks for {', '.join(names)}, which could run code; it was refused and nothing was run. If you "
            "trust it, name the class in load_model(..., allow=[...]), or convert the file to safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is not a PyTorch weights file, or not whole: {_first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _refused(message: str, archive: Path | None, allow: Sequence[type]) -> list[str]:
    """The globals that PyTorch's restricted reader refused: all of an archive's, the first of an older file's."""
    found = set(re.findall(r"GLOBAL ([\w.]+)", message))
    if found and archive is not None:
        with torch.serialization.safe_globals([argparse.Namespace, *allow]):
            found |= set(torch.serialization.get_unsafe_globals_in_checkpoint(archive))
    return sorted(found)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
