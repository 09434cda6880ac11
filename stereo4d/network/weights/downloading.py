"""One file from a server to its place: gone on with after a cut, checked before it looks whole.

The hub's library starts a file over when a process died; 2 GB over a poor line deserve better. Its requests, retries,
proxies and offline mode are used as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stereo4d.errors import CheckpointError, OutputError
from stereo4d.progress import SILENT, Progress, Stage
from stereo4d.storage import why


@dataclass(frozen=True)
class Expected:
    """What a file must be; None where nobody said."""

    bytes: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    """Of small files that the hub keeps in git, the checksum of the git object."""


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    url: str
    tag: str
    """Changes when the file does."""
    name: str
    """For people."""
    expected: Expected
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with the request; a token, for example."""


def download(remote: Remote, target: Path, *, progress: Progress = SILENT) -> Path:
    """Bring a file to ``target``; what an earlier attempt brought is not brought again.

    Args:
        remote: the file.
        target: where to; until the file is whole and checked, its bytes lie in a hidden file beside.
        progress: told of bytes.

    Raises:
        CheckpointError: what came is not what was expected; it was removed.
        OutputError: it cannot be written, or there is no room for it.
        huggingface_hub.errors.HTTPError: the connection failed; what came so far is kept.
    """
    from huggingface_hub.utils import WeakFileLock

    partial = target.with_name(f".{target.name}.{hashlib.sha256(remote.tag.encode()).hexdigest()[:12]}.incomplete")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(partial.with_suffix(".lock")):
            _check_room(remote, partial)
            with progress.stage(
                target.name if len(target.name) < 40 else "weights", remote.expected.bytes, "B"
            ) as stage:
                _go_on(remote, partial, stage)
            check(partial, remote.expected, said=remote.url)
            os.replace(partial, target)
        partial.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # of the connection, not of the disk
            raise
        raise OutputError(f"cannot write {target}: {why(error)}; what came so far is kept and gone on with") from error
    return target


def _go_on(remote: Remote, partial: Path, stage: Stage) -> None:
    """Ask for the bytes that are missing, again and again for as long as some come."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError
    from huggingface_hub.file_download import http_get

    while True:
        before = _size(partial)
        try:
            with partial.open("ab") as file:
                http_get(
                    remote.url,
                    file,
                    resume_size=before,
                    headers=dict(remote.headers),
                    expected_size=remote.expected.bytes,
                    tqdm_class=_bar(stage),
                )
            return
        except HfHubHTTPError as error:
            if error.response.status_code == 416:  # there are fewer bytes than came before: of another file, that is
                partial.unlink(missing_ok=True)
            raise
        except HTTPError:
            if _size(partial) <= before:
                raise
        except OSError as error:
            if error.errno is not None:
                raise
            return  # a size other than was said: the check names it


def check(path: Path, expected: Expected, *, said: str) -> None:
    """Compare a file with what it must be; one that is something else is removed.

    Args:
        path: the file, or a link to it.
        expected: what it must be.
        said: where it comes from, for the message.

    Raises:
        CheckpointError: it is something else.
    """
    if problem := difference(path, expected):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{said} is not the file it should be: {problem}; it was removed, fetch it again")


def difference(path: Path, expected: Expected) -> str:
    """How a file differs from what it must be, in words; empty where it does not."""
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        return f"{size:,} bytes came and {expected.bytes:,} were expected"
    if expected.sha256 is not None and (found := _digest(path, "sha256")) != expected.sha256:
        return f"its sha256 is {found} and {expected.sha256} was expected"
    if expected.git_sha1 is not None and (found := _digest(path, "sha1", b"blob %d\0" % size)) != expected.git_sha1:
        return f"its git checksum is {found} and {expected.git_sha1} was expected"
    return ""


def expected_by_tag(tag: str, size: int | None) -> Expected:
    """What the hub says about a file: tags are checksums there, of two kinds."""
    return Expected(
        bytes=size,
        sha256=tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None,
        git_sha1=tag if re.fullmatch(r"[0-9a-f]{40}", tag) else None,
    )


def _digest(path: Path, kind: str, start: bytes = b"") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, start)).hexdigest()


def _check_room(remote: Remote, partial: Path) -> None:
    if remote.expected.bytes is None:
        return
    if (here := _size(partial)) > remote.expected.bytes:
        partial.unlink()
        here = 0
    missing, free = remote.expected.bytes - here, shutil.disk_usage(partial.parent).free
    if missing > free:
        raise OutputError(
            f"{remote.url} takes {missing / 1e6:,.1f} MB more and {partial.parent} has {free / 1e6:,.1f} MB left; make "
            "room, or choose another place with --folder"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(stage: Stage) -> Any:
    """A stage in the clothes of the progress bar that the hub's library wants."""

    class Bar:
        """What the library calls: made with a total, told of every piece, left at the end."""

        def __init__(self, *, total: int | None = None, initial: int = 0, **_: Any) -> None:
            if total is not None:
                stage.expect(total)
            self.update(initial - stage.done)

        def update(self, count: int) -> None:
            """So many bytes more are here."""
            stage.advance(count)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    return Bar
