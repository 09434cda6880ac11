"""What ``stereo4d weights list`` says."""

from __future__ import annotations

import json
from typing import Any

from stereo4d.network.weights.catalogue import CATALOGUE, Published
from stereo4d.network.weights.names import EMBEDDED, locate, resolve
from stereo4d.storage import map_arrays


def listing() -> list[dict[str, Any]]:
    """Published weights, those that come with stereo4d first; plain values, ``path`` None where they are not here."""
    return [_embedded(), *map(_entry, CATALOGUE)]


def _entry(published: Published) -> dict[str, Any]:
    path = locate(published)
    return {
        "name": published.name,
        "also": [name for name in published.names if name != published.name],
        "title": published.title,
        "family": published.family,
        "bytes": published.bytes,
        "bytes_are_exact": published.bytes_are_exact,
        "parameters": published.parameters,
        "resolution": list(published.resolution),
        "heads": list(published.heads),
        "licence": published.licence,
        "source": published.source,
        "path": None if path is None else str(path),
    }


def _embedded() -> dict[str, Any]:
    path = resolve(EMBEDDED)
    card, config = (
        json.loads(path.with_name(name).read_text(encoding="utf-8")) for name in ("card.json", "config.json")
    )
    size = path.stat().st_size
    return {
        "name": EMBEDDED,
        "also": [],
        "title": card["name"],
        "family": "DUSt3R",
        "bytes": size,
        "bytes_are_exact": True,
        "parameters": sum(array.size for array in map_arrays(path).values()),
        "resolution": config["img_size"],
        "heads": [f"pointmap {config['head_type']}"],
        "licence": card["licence"],
        "source": "comes with stereo4d",
        "path": str(path),
    }
