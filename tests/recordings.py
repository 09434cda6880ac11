"""What recordings hold, read back by Rerun itself."""

from __future__ import annotations

from pathlib import Path

from rerun.chunk import RrdReader


def columns_of(recording: Path) -> dict[str, set[str]]:
    """Entity -> names of all its columns, timelines among them."""
    columns: dict[str, set[str]] = {}
    for chunk in RrdReader(recording).stream():
        columns.setdefault(chunk.entity_path, set()).update(chunk.to_record_batch().schema.names)
    return columns
