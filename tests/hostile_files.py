"""Weights files as somebody would make them who means harm, or whose disk does."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden_numbers import small_config
from tests.official_files import write_folder


def raw_pickle(path: Path, program: bytes, *, zipped: bool = True) -> Path:
    """A file of PyTorch's, with a pickle of our own making."""
    if not zipped:
        path.write_bytes(program)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return path


def call(name: str, *arguments: bytes) -> bytes:
    """A pickle that calls a function by its name with texts."""
    module, _, function = name.rpartition(".")
    texts = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in arguments)
    return b"\x80\x02c" + module.encode() + b"\n" + function.encode() + b"\n(" + texts + b"tR."


def edited(folder: Path, **change: Any) -> Path:
    """A good folder whose config says something else."""
    target = write_folder(folder, small_config("linear"))
    config = target / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    return target


def with_header(path: Path, change: Callable[[dict], Any], *, data: Callable[[bytes], bytes] = bytes) -> None:
    """Rewrite the header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = change(header)
    text = text if isinstance(text, bytes) else json.dumps(header if text is None else text).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data(content[8 + length :]))
