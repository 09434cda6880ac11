"""Licences of published weights: shown and accepted once, remembered in the user's config folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from stereo4d.errors import UsageError
from stereo4d.network.weights.catalogue import Published
from stereo4d.storage import write_json


def record() -> Path:
    """The file that remembers what was accepted."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "stereo4d" / "licences.json"


def is_accepted(published: Published) -> bool:
    """Whether the licence was accepted before, as it reads today."""
    return _accepted().get(published.name, {}).get("licence") == published.licence


def require(published: Published, *, accept: bool = False, ask: Callable[[Published], bool] | None = None) -> None:
    """Make sure that the licence is accepted; an acceptance is remembered.

    Args:
        published: whose licence.
        accept: the user has said so.
        ask: else, shows the licence and says whether the user accepts it; None where nobody can be asked.

    Raises:
        UsageError: it is not accepted.
    """
    if is_accepted(published):
        return
    if not accept and not (ask is not None and ask(published)):
        raise UsageError(
            f"{published.name} was not fetched: its licence is {published.licence}. Accept it, once, with "
            "--accept-licence"
        )
    entry = {"licence": published.licence, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(record(), _accepted() | {published.name: entry})


def _accepted() -> dict[str, dict[str, str]]:
    """What was accepted, by name; a record that cannot be read counts for nothing."""
    try:
        content = json.loads(record().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}
