"""The Rerun web viewer for browsers of this machine, kept from calling home.

The page that rerun-sdk ships fetches fonts and reports usage to hosts of its makers. It is therefore handed to the
browser by a small server that adds a content security policy: the page may talk to this server and to nobody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stereo4d.errors import OutputError
from stereo4d_plugins.viewers.rerun_process import START_SECONDS, free_port, viewer_process

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:"
RECORDING = "/recording.rrd"


def serve_web(path: Path, *, browser: bool = True) -> int:
    """Serve a recording to browsers of this machine until Ctrl-C; returns an exit code.

    Args:
        path: a recording.
        browser: open the address in the browser; otherwise only print it.
    """
    assets_port, data_port = free_port(), free_port()
    assets = f"http://127.0.0.1:{assets_port}"
    arguments = ["--serve-web", "--bind", "127.0.0.1", "--port", str(data_port), "--web-viewer-port", str(assets_port)]
    with open(os.devnull, "wb") as nowhere, viewer_process(*arguments, messages=nowhere) as process:
        server = LocalServer(path, assets)
        try:
            _await_page(f"{assets}/", process)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(f"{path} is shown at {server.address} until Ctrl-C", flush=True)
            if browser:
                webbrowser.open(server.address)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.shutdown_if_serving()


class LocalServer(ThreadingHTTPServer):
    """Serves one recording and the web viewer's files on 127.0.0.1."""

    daemon_threads = True

    def __init__(self, recording: Path, assets: str):
        """Bind to a free port.

        Args:
            recording: the ``.rrd`` file.
            assets: address, without a final slash, of where the web viewer's files are.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.recording = recording
        self.assets = assets
        origin = f"http://127.0.0.1:{self.server_address[1]}"
        query = urllib.parse.urlencode({"url": origin + RECORDING, "hide_welcome_screen": "1"})
        self.address = f"{origin}/?{query}"
        self._serving = False

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Answer requests until ``shutdown_if_serving``."""
        self._serving = True
        super().serve_forever(poll_interval)

    def shutdown_if_serving(self) -> None:
        """Stop answering and free the port."""
        if self._serving:
            self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Hands out the recording, and the viewer's own files from where Rerun serves them."""

    server: LocalServer

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.partition("?")[0] == RECORDING:
            with self.server.recording.open("rb") as file:
                self._begin(200, "application/octet-stream", self.server.recording.stat().st_size)
                shutil.copyfileobj(file, self.wfile)
            return
        try:
            with urllib.request.urlopen(self.server.assets + self.path, timeout=START_SECONDS) as answer:
                content = answer.read()
                self._begin(200, answer.headers.get_content_type(), len(content))
                self.wfile.write(content)
        except urllib.error.HTTPError as error:
            self._begin(error.code, "text/plain", 0)

    def _begin(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


def _await_page(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise OutputError("the Rerun web viewer did not start; stereo4d doctor says what is installed")
