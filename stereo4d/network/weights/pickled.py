"""``.pth`` files, which are pickles: looked through first, then read with an allow-list, so that nothing can run."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch

from stereo4d.errors import CheckpointError, UnsafeCheckpointError
from stereo4d.network.weights.archive import check_archive
from stereo4d.network.weights.inert import Asked, Inert, scan

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_PICKLES = 5
"""Files in the format before 2020: a magic number, a version, the system, the content and the names of tensors."""


def read_pickle(path: Path, *, allow: Sequence[type] = ()) -> Mapping[str, Any]:
    """Read a ``.pth`` file without running code from it; tensors stay on disk until they are used.

    Objects of libraries that merely hold data (OmegaConf configs, paths, NumPy scalars) are read as ``Inert``.

    Args:
        path: the file.
        allow: classes, beyond tensors, plain values and ``argparse.Namespace``, that the file may hold. Only for files
            you trust: making an object of a class runs that class's code.

    Raises:
        UnsafeCheckpointError: the file asks for anything not allowed; nothing of it was run.
        CheckpointError: it is no such file, or not whole.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == _ZIP_MAGIC
    if zipped:
        check_archive(path)
    asked = _asked(path, allow, zipped=zipped)
    if asked.unsafe:
        raise _refusal(path, asked.unsafe)
    # the allow-list holds for this block only, never for the process
    stand_ins = [(Inert, name) for name in asked.harmless]
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *allow, *stand_ins]):
            # files in the format before 2020 cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # it was looked through, and asks for nothing strange: PyTorch takes fewer opcodes than Python
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, LookupError, MemoryError, ValueError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _asked(path: Path, allow: Sequence[type], *, zipped: bool) -> Asked:
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in allow]
    with ExitStack() as stack:
        if not zipped:
            file = stack.enter_context(path.open("rb"))
            return scan(_legacy_pickles(file), allow=names)
        archive = stack.enter_context(zipfile.ZipFile(path))
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not pickles:
            raise CheckpointError(f"{path} is a zip archive, but not one of PyTorch (it holds no data.pkl)")
        return scan((stack.enter_context(archive.open(name)) for name in pickles), allow=names)


def _legacy_pickles(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The file at the start of each of its pickles; one alone is looked through too, PyTorch refuses it later."""
    for number in range(_LEGACY_PICKLES):
        if number and not file.peek(1):  # type: ignore[attr-defined]
            return
        yield file


def _refusal(path: Path, names: Sequence[str]) -> UnsafeCheckpointError:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return UnsafeCheckpointError(
        f"{path} asks for {shown}, which weights do not need and which could run code; it was refused and nothing was "
        "run. If you trust it, name the class in load_model(..., allow=[...]), or convert the file to safetensors"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a PyTorch weights file, or not whole: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    # PyTorch wraps what its reader says in advice that does not apply here
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return (said.splitlines() or [type(error).__name__])[0]
