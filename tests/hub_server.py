"""A server on this machine that speaks the hub's protocol, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked."""

    repos: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Repository -> file -> content."""
    plain: Mapping[str, bytes] = field(default_factory=dict)
    """Path -> content, as an ordinary file server has it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """File -> the checksum that is claimed, where it is not the content's."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """File -> the size that is claimed, where it is not the content's."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers are cut, one each."""
    hold: int | None = None
    """After how many bytes contents stand still until ``go_on`` is set."""
    standing: threading.Event = field(default_factory=threading.Event)
    """Set when one does."""
    go_on: threading.Event = field(default_factory=threading.Event)
    ignores_range: bool = False
    status: int = 0
    """Answer everything with this status, and ``error_code``."""
    error_code: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range) of every request."""
    keys: set[str | None] = field(default_factory=set)
    """Authorization headers seen on the ordinary file server's paths."""
    url: str = ""

    def ranges(self) -> list[str | None]:
        """Range of every request for the content of a large file."""
        return [
            wanted for method, path, wanted in self.asked if method == "GET" and path.startswith(("/cdn", "/plain"))
        ]


class _QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that hang up: tests read what the program under test says."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Answer on a free port of this machine for as long as the block runs."""
    server = _QuietServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def _answer(self) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if hub.status:
            self._say(hub.status, {"X-Error-Code": hub.error_code} if hub.error_code else {}, b"{}")
        elif api := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/?]+))?(?:\?.*)?", self.path):
            self._listing(api[1], api[2])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self._file(file[1], file[3])
        elif self.path.startswith("/cdn/"):
            _, _, repo, name = self.path.split("/", 3)
            self._content(name, hub.repos[repo.replace("--", "/")][name], {})
        elif self.path.startswith("/plain/") and self.path in hub.plain:
            hub.keys.add(self.headers.get("Authorization"))
            content = hub.plain[self.path]
            self._content(self.path, content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
        else:
            self._say(404, {}, b"")

    def _listing(self, repo: str, kind: str | None) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._say(401, {"X-Error-Code": "RepoNotFound"}, b"{}")  # the hub does not tell strangers what is private
            return
        entries = [{"type": "file", "path": name, "size": len(data), "oid": _git(data)} for name, data in files.items()]
        siblings = [{"rfilename": name} for name in files]
        whole = entries if kind == "tree" else {"id": repo, "sha": COMMIT, "siblings": siblings}
        self._say(200, {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}, json.dumps(whole).encode())

    def _file(self, repo: str, name: str) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._say(401, {"X-Error-Code": "RepoNotFound"}, b"")
            return
        if name not in files:
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
            return
        data = files[name]
        if name.endswith(".json"):  # small files lie in git
            self._content(name, data, {"ETag": f'"{self.hub.tags.get(name, _git(data))}"', "X-Repo-Commit": COMMIT})
            return
        tag = self.hub.tags.get(name, hashlib.sha256(data).hexdigest())
        said = {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(self.hub.sizes.get(name, len(data)))}
        # contents come from another host, as the hub's do: the library follows redirects to it only to download
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
        place = {"Location": f"{elsewhere}/cdn/{repo.replace('/', '--')}/{name}", "X-Repo-Commit": COMMIT}
        self._say(302, said | place, b"")

    def _content(self, name: str, data: bytes, headers: Mapping[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        whole = len(data)
        if wanted and not self.hub.ignores_range:
            start = int(wanted[1])
            if start >= whole:
                self._say(416, {"Content-Range": f"bytes */{whole}"}, b"")
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{whole - 1}/{whole}"}
            self._say(206, headers, data[start:], cut=True)
            return
        self._say(200, {**headers, "Accept-Ranges": "bytes"}, data, cut=True)

    def _say(self, status: int, headers: Mapping[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and self.hub.cuts and not self.path.endswith(".json"):
            body = body[: self.hub.cuts.pop(0)]
            self.close_connection = True
        if cut and self.hub.hold is not None and not self.path.endswith(".json"):
            self.wfile.write(body[: self.hub.hold])
            self.hub.standing.set()
            self.hub.go_on.wait(60)
            return
        self.wfile.write(body)


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
