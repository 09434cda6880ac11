"""Rerun viewers as processes of their own: in a window, and without any screen for pictures.

They listen on 127.0.0.1 only, and send no usage statistics.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from stereo4d.errors import InputError, MissingDependencyError, OutputError, UsageError

_MAGIC = b"RRF2"
START_SECONDS = 60.0
_SETTLE_SECONDS = 1.5
_GREETING_SECONDS = 8.0  # after its start the viewer covers a corner of its window with a notice
_ATTEMPTS = 4


def executable() -> Path:
    """The native viewer that is installed beside the rerun_cli package.

    Raises:
        MissingDependencyError: it is not there.
    """
    found = importlib.util.find_spec("rerun_cli")
    if found is None or found.origin is None:
        raise MissingDependencyError("the Rerun viewer is not installed; pip install rerun-sdk")
    path = Path(found.origin).with_name("rerun.exe" if sys.platform == "win32" else "rerun")
    if not path.exists():
        raise MissingDependencyError(f"the Rerun viewer is missing at {path}; pip install --force-reinstall rerun-sdk")
    return path


def environment() -> dict[str, str]:
    """The environment for a viewer: it keeps its usage statistics to itself when it believes to run under CI."""
    return {**os.environ, "CI": "true"}


def check_recording(path: Path) -> None:
    """See that a file is a Rerun recording, as far as its first bytes tell.

    Raises:
        InputError: it is not.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if start != _MAGIC:
        raise InputError(f"{path} is not a Rerun recording; stereo4d reconstruct and Scene.to_rerun write them")


def verify_recording(path: Path) -> None:
    """Have Rerun itself read a recording from end to end.

    Raises:
        InputError: it finds a fault.
    """
    check_recording(path)
    command = [str(executable()), "rrd", "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        reason = " ".join(done.stderr.split()[-40:]) or "no reason given"
        raise InputError(f"{path} is damaged ({reason}); write it again")


def check_display(what: object, instead: str) -> None:
    """See that a window can be opened.

    Args:
        what: is to be shown in it.
        instead: what to do where it cannot.

    Raises:
        UsageError: there is no display.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(f"no display to open {what} on (DISPLAY and WAYLAND_DISPLAY are empty); {instead}")


def open_window(path: Path) -> int:
    """Show a recording in a window until it is closed; returns the viewer's exit code.

    Raises:
        UsageError: there is no display.
    """
    check_display(path, "use --web for the browser, or --screenshot OUT.png for a picture")
    with viewer_process("--bind", "127.0.0.1", "--port", "auto", str(path)) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0  # the way to end it from the terminal is not a failure


@dataclass(frozen=True)
class OpenViewer:
    """A viewer that recordings can be sent to."""

    address: str
    process: subprocess.Popen[bytes] | None = None
    """None where somebody else opened it."""

    def closed(self) -> bool:
        """Whether the person has closed it; that of others is not watched."""
        return self.process is not None and self.process.poll() is not None

    def wait(self) -> int:
        """Wait until it is closed, and return its exit code; at once for that of others."""
        return 0 if self.process is None else self.process.wait()


@contextmanager
def open_viewer(address: str | None = None) -> Iterator[OpenViewer]:
    """A window of our own, for as long as the block runs, or the viewer that somebody else has opened at an address.

    Raises:
        UsageError: there is no display.
    """
    if address is not None:
        yield OpenViewer(address)
        return
    check_display("a window", "open a viewer elsewhere (rerun), and give its address with --viewer")
    port = free_port()
    with viewer_process("--bind", "127.0.0.1", "--port", str(port), "--hide-welcome-screen") as process:
        yield OpenViewer(f"rerun+http://127.0.0.1:{port}/proxy", process)


@contextmanager
def viewer_process(*arguments: str, messages: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A running viewer, ended with the block, together with the temporary files that it leaves lying about (0.41).

    Args:
        arguments: of the command line.
        messages: where it writes what it has to say; our own stdout and stderr by default.
    """
    with tempfile.TemporaryDirectory(prefix="stereo4d-viewer-", ignore_cleanup_errors=True) as scratch:
        surroundings = environment() | {"TMPDIR": scratch}
        command = [str(executable()), *arguments]
        process = subprocess.Popen(command, env=surroundings, stdout=messages, stderr=messages)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HeadlessViewer:
    """A viewer without a screen, for pictures. Use as a context manager."""

    def __init__(self, path: Path, *, size: tuple[int, int] = (1280, 800)):
        """Say what to show.

        Args:
            path: a recording.
            size: (width, height) of the window.
        """
        self.path = path
        self.size = size

    def __enter__(self) -> HeadlessViewer:
        from rerun.experimental import ViewerClient

        port = free_port()
        # Not ViewerClient.spawn: it cannot bind to 127.0.0.1 alone (0.41).
        arguments = ["--headless", "--bind", "127.0.0.1", "--port", str(port), "--hide-welcome-screen"]
        arguments += ["--window-size", f"{self.size[0]}x{self.size[1]}"]
        with ExitStack() as stack:
            self._messages: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            self._process = stack.enter_context(viewer_process(*arguments, messages=self._messages))
            self._started = time.monotonic()
            try:
                self._await_port(port)
                self._client = ViewerClient.connect(f"rerun+http://127.0.0.1:{port}/proxy")
                self._client.open(str(self.path.resolve()))
                self._await_views()
            except (ConnectionError, RuntimeError) as error:  # it listens before it looks for a graphics driver
                raise OutputError(f"cannot render {self.path}: {self._last_words() or error}") from error
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()

    def go_to(self, moment: int | None) -> int:
        """Show one frame index of the input or, of an alignment, one iteration, and return which.

        Args:
            moment: which; None takes the frame in the middle, or the last iteration.

        Raises:
            UsageError: the recording has no such frame or iteration.
            InputError: it has neither frames nor iterations.
        """
        timelines = {str(timeline.name): timeline for timeline in self._client.get_state().recordings[0].timelines}
        name = next((name for name in ("frame", "iteration") if name in timelines), None)
        if name is None:
            raise InputError(f"{self.path} is no recording of stereo4d: it has neither frames nor iterations")
        first, last = int(timelines[name].start or 0), int(timelines[name].end or 0)
        if moment is None:
            moment = (first + last) // 2 if name == "frame" else last
        if not first <= moment <= last:
            raise UsageError(f"{name} {moment} is not in {self.path}, which holds {name}s {first} to {last}")
        self._client.set_time(name, sequence=moment, play_state="paused")
        # Just after a change the viewer still loads; nothing tells when it is done.
        time.sleep(_SETTLE_SECONDS)
        return moment

    def view_names(self) -> dict[str, str]:
        """The views of the window: name -> id."""
        return {str(view.name): str(view.view_id) for view in self._client.get_state().views}

    def problems(self) -> list[str]:
        """What the views complain about."""
        state = self._client.get_state()
        return [
            f"{view.name}: {report}" for view in state.views for report in view.reports if report.severity == "error"
        ]

    def picture(self, view: str | None = None) -> bytes:
        """A PNG of one view, by name, or of the whole window."""
        view_id = None if view is None else self.view_names()[view]
        if view is None:
            time.sleep(max(0.0, self._started + _GREETING_SECONDS - time.monotonic()))
        for attempt in range(_ATTEMPTS):
            try:
                return bytes(self._client.take_screenshot(view_id))
            except TimeoutError:  # the client waits 15 s, which a busy machine without a GPU can exceed
                if attempt == _ATTEMPTS - 1:
                    raise OutputError(f"the Rerun viewer took too long to render {self.path}") from None
        raise AssertionError

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise ConnectionError(f"the Rerun viewer did not start within {START_SECONDS:.0f} s")

    def _last_words(self) -> str:
        """Why a viewer that died did so, as far as it said."""
        self._messages.seek(0)
        said = self._messages.read().decode(errors="replace")
        if "adapter" in said.lower():
            return "the Rerun viewer needs a Vulkan driver; a software one will do (Debian: mesa-vulkan-drivers)"
        return " ".join(said.splitlines()[-1:])

    def _await_views(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            state = self._client.get_state()
            if state.recordings and state.views:
                return
            time.sleep(0.1)
        raise OutputError(
            f"the Rerun viewer shows nothing of {self.path} after {START_SECONDS:.0f} s; is it a recording?"
        )
