"""One process of several that train a head together: ``python -m stereo4d.head_checks.distributed ORDER RANK``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from stereo4d.head_checks.lab import Lab
from stereo4d.head_checks.learning import take_steps
from stereo4d.head_checks.subject import Subject


def main(order: str, rank: str) -> int:
    """Take the steps; 1, and one line on stderr, where they fail."""
    asked = json.loads(order)
    folder = Path(asked["folder"])
    try:
        take_steps(Lab(Subject(asked["name"], asked["options"]), folder), int(rank), folder / "meeting")
    except Exception as error:  # a stranger's head may raise anything
        print(" ".join(f"{type(error).__name__}: {error}".split())[:2000], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # a process group whose other half has failed would be waited for
