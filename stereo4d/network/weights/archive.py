"""Zip archives as ``torch.save`` writes them, checked before anything in them is read.

Entries of weights files are stored as they are, so that they can be mapped. An archive with packed entries, or with
entries that share bytes, holds more than it is long: a zip bomb.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from stereo4d.errors import CheckpointError

_LOCAL_HEADER = 30  # bytes before an entry's name
_ENCRYPTED = 1


def check_archive(path: Path) -> None:
    """Look at the table of contents of a zip archive.

    Raises:
        CheckpointError: it is cut short or damaged, or it holds entries that are packed, encrypted, twice there, or
            that overlap or leave the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            contents_start = archive.start_dir
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a whole zip archive ({error}); fetch it again") from error
    names = [entry.filename.casefold() for entry in entries]
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} holds two entries of one name; torch.save never writes that")
    for entry in entries:
        packed = entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size
        if packed or entry.flag_bits & _ENCRYPTED:
            raise CheckpointError(
                f"{path}: entry {entry.filename} is packed ({entry.compress_size} bytes for {entry.file_size}); "
                "weights are stored as they are, so this may be a zip bomb and was not read"
            )
    ends = [entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.file_size for entry in entries]
    starts = [entry.header_offset for entry in entries] + [contents_start]
    for entry, end, following in zip(entries, ends, starts[1:], strict=True):
        if end > following:
            raise CheckpointError(f"{path}: entry {entry.filename} overlaps what follows it; the archive is damaged")
