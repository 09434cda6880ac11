"""``stereo4d check-head``: what a head must hold to, tried."""

from __future__ import annotations

import json as json_format
from typing import Any

from stereo4d.errors import PluginError, UsageError


def check_head(head: str, *, options: str = "{}", name: str | None = None, json: bool = False) -> None:
    """Try a head: shapes, gradients, precision, processes, files, pipeline and viewer; a line each.

    The exit code is 1 if something does not hold.

    Args:
        head: an installed head by its name, or module:Class, found here or where Python finds it.
        options: of its constructor, as JSON, such as '{"feature_dim": 16}' to make it small.
        name: of a class that is not installed, the name it shall have; by default that of the class in lower case.
        json: print one JSON object instead of lines.
    """
    import os
    import sys
    from dataclasses import asdict

    from stereo4d.cli.common import print_json
    from stereo4d.head_checks import CHECKS, check_head, find_head

    sys.path.insert(0, os.getcwd())  # a head that is being written lies here
    try:
        with find_head(head, options=_read(options), name=name) as subject:
            findings = []
            for finding in check_head(subject):
                findings.append(finding)
                if not json:
                    mark = "FAILED" if finding.verdict == "failed" else finding.verdict
                    print(f"{mark:<16}{finding.check:<16}{finding.said}", flush=True)
            failed = [finding for finding in findings if finding.verdict == "failed"]
            if json:
                checks = [asdict(finding) for finding in findings]
                print_json({"head": subject.name, "passed": not failed, "checks": checks})
    finally:
        sys.path.remove(os.getcwd())
    if failed:
        first = failed[0]
        more = f" (and {len(failed) - 1} more of {len(CHECKS)} checks fail)" if len(failed) > 1 else ""
        raise PluginError(f"{first.said} [check {first.check!r}]{more}")


def _read(options: str) -> dict[str, Any]:
    """Options as JSON.

    Raises:
        UsageError: they are not a JSON object.
    """
    try:
        found = json_format.loads(options)
    except ValueError as error:
        raise UsageError(f"--options {options!r} is not JSON ({error}); like '{{\"feature_dim\": 16}}'") from error
    if not isinstance(found, dict):
        raise UsageError(f"--options {options!r} must be a JSON object, like '{{\"feature_dim\": 16}}'")
    return found
