"""Files on disk, each whole or not there at all: atomic writes, and arrays that are mapped when read."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stereo4d.errors import OutputError, SceneError

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_DTYPE_NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in _DTYPES.items()}
_HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors library
_CHUNK = 1 << 24  # bytes written at a time, so that mapped arrays are never in memory as a whole


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` when the block ends well and vanishes when it does not.

    The temporary file carries the final name inside a hidden sibling folder ``.NAME.partial-XXXX``: writers that go by
    the suffix work, and no pattern over the folder takes a torn file for a whole one. Missing parent folders are made.

    Raises:
        OutputError: the file cannot be written (no permission, disk full, ...).
    """
    path = Path(path)
    partial_folder: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        yield partial_folder / path.name
        _flush_to_disk(partial_folder / path.name)
        os.replace(partial_folder / path.name, path)
        with suppress(OSError):  # some file systems cannot flush a folder; the rename is atomic there all the same
            _flush_to_disk(path.parent)
    except OSError as error:
        # A file that the block merely reads is not ours to explain.
        if partial_folder is not None and error.filename is not None and not _lies_in(partial_folder, error.filename):
            raise
        raise OutputError(f"cannot write {path}: {why(error)}") from error
    finally:
        if partial_folder is not None:
            shutil.rmtree(partial_folder, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes ``path`` when the block ends well and vanishes when it does not.

    What was in the place of ``path`` goes when the new folder is whole; missing parent folders are made.

    Raises:
        OutputError: the folder cannot be written (no permission, disk full, ...).
    """
    place = Path(path).resolve()
    partial: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))
        fresh, old = partial / place.name, partial / ".old"
        fresh.mkdir()
        yield fresh
        for written in fresh.rglob("*"):
            _flush_to_disk(written)
        if place.exists():
            os.replace(place, old)
        try:
            os.replace(fresh, place)
        except OSError:
            if old.exists():
                os.replace(old, place)
            raise
    except OSError as error:
        # A file that the block merely reads is not ours to explain.
        if partial is not None and error.filename is not None and not _lies_in(partial, error.filename):
            raise
        raise OutputError(f"cannot write {path}: {why(error)}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def why(error: OSError) -> str:
    """The reason of a failed write in words, with the way out where there is one."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{error.strerror or error}" + ("; make room or choose another place" if full else "")


def remove_partial(folder: str | Path) -> None:
    """Remove what killed runs left of half-written files in a folder nobody else writes to."""
    for leftover in Path(folder).glob(".*.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file (UTF-8), whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write strict JSON, whole or not at all; NaN and infinity become null, paths and NumPy scalars become plain."""
    return write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def save_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray | Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file, whole or not at all.

    Args:
        path: the file.
        arrays: by name; tensors from any device. bfloat16, which NumPy does not have, is stored as float32.
        metadata: strings by name, read back by ``read_metadata``.

    Raises:
        OutputError: the file cannot be written, or an array has a dtype that safetensors does not have.
    """
    plain = {name: _as_numpy(name, value) for name, value in arrays.items()}
    # Wide items first keeps every array aligned to its item size.
    names = sorted(plain, key=lambda name: (-plain[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in names:
        array = plain[name]
        end = offset + array.nbytes
        header[name] = {"dtype": _DTYPE_NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            _write_array(file, plain[name])
    return Path(path)


def map_arrays(path: str | Path, *, private: bool = False) -> dict[str, np.memmap]:
    """Open a safetensors file; every array is a read-only view of the mapped file, read when it is touched.

    Args:
        path: the file.
        private: arrays may be written to, which copies the touched pages and leaves the file alone; tensors that share
            the mapped memory ask for it (torch has no read-only tensors).

    Raises:
        SceneError: no such file, not safetensors, cut short, or with arrays that overlap or leave the file.
    """
    path = Path(path)
    start, header = _read_header(path)
    header.pop("__metadata__", None)
    if not header:
        return {}
    try:
        data = np.memmap(path, np.uint8, mode="c" if private else "r")
    except (OSError, ValueError) as error:
        raise SceneError(f"{path} cannot be mapped: {error}") from error
    arrays: dict[str, np.memmap] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        view = data[start + begin : start + end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = cast(np.memmap, view)
    return arrays


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata strings of a safetensors file.

    Raises:
        SceneError: as ``map_arrays``.
    """
    return dict(_read_header(Path(path))[1].get("__metadata__", {}))


def _lies_in(folder: Path, filename: str | bytes) -> bool:
    return Path(os.fsdecode(filename)).is_relative_to(folder)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _as_numpy(name: str, value: np.ndarray | Tensor) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    dtype = value.dtype.newbyteorder("<")
    if dtype not in _DTYPE_NAMES:
        raise OutputError(f"array {name!r} has dtype {value.dtype}, which safetensors cannot hold; cast it first")
    return value if value.dtype == dtype else value.astype(dtype)


def _write_array(file: Any, array: np.ndarray) -> None:
    if array.ndim == 0 or array.nbytes <= _CHUNK:
        file.write(array.tobytes())
        return
    rows = max(1, _CHUNK // max(1, array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        file.write(array[start : start + rows].tobytes())


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data of a safetensors file starts, and its header, checked against the file's size."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise SceneError(f"{path} is not a safetensors file, or was cut short ({size} bytes)")
            header = json.loads(file.read(length), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise SceneError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SceneError(f"{path} is not a safetensors file: its header is not JSON ({error})") from error
    start = 8 + length
    _check_header(path, header, size - start)
    return start, header


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _check_header(path: Path, header: Any, data_size: int) -> None:
    """Arrays must follow one another without overlap or gap, and fill the file exactly."""
    if not isinstance(header, dict):
        raise SceneError(f"{path} is not a safetensors file: its header is no JSON object")
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            whole_numbers = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        except (KeyError, TypeError, ValueError) as error:
            raise SceneError(f"{path}: the header entry of {name!r} is damaged or of an unknown dtype") from error
        if not whole_numbers or end - begin != math.prod(shape) * dtype.itemsize:
            raise SceneError(
                f"{path}: array {name!r} says shape {shape} but bytes {begin} to {end}; the file is damaged"
            )
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise SceneError(f"{path}: array {name!r} starts at byte {begin} where {position} is due; overlap or gap")
        position = end
    if position != data_size:
        raise SceneError(f"{path} holds {data_size} bytes of arrays where its header says {position}; it was cut short")
