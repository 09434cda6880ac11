"""Viewers are found by entry point; the process of one is started locally, quietly, and ended."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from stereo4d_plugins.viewers import rerun_process

from stereo4d import registry
from stereo4d.errors import OutputError, PluginError, UsageError
from stereo4d.viewing import Viewer, load_viewer
from tests.alignment_steps import settling
from tests.scenes import wall_and_ball


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene = wall_and_ball(frames=3, height=60, width=80)
    return scene.to_rerun(tmp_path_factory.mktemp("rrd") / "scene.rrd")


def test_the_rerun_viewer_is_found_by_entry_point():
    assert "rerun" in registry.installed("stereo4d.viewers")
    assert isinstance(load_viewer("rerun"), Viewer)


def test_a_viewer_that_is_not_installed_is_named_with_those_that_are():
    with pytest.raises(PluginError, match=r"'hologram' is not an installed entry point .*rerun"):
        load_viewer("hologram")


def test_a_viewer_need_only_write(tmp_path):
    class Lister(Viewer):
        suffix = ".txt"

        def write(self, scene, path):
            path.write_text(str(len(scene)))
            return path

    path = Lister().write(wall_and_ball(), tmp_path / "a.txt")
    assert path.read_text() == "4"
    with pytest.raises(UsageError, match=r"Lister only writes files; open .*a\.txt"):
        Lister().show(path)
    with pytest.raises(UsageError, match="Lister cannot render"):
        Lister().screenshot(path, tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"Lister shows scenes only, so .*b\.txt cannot be written"):
        Lister().write_alignment(settling(), tmp_path / "b.txt")


def test_a_viewer_keeps_its_usage_statistics_to_itself(recording, tmp_path):
    def words(environment: dict[str, str]) -> str:
        quiet = {**environment, "HOME": str(tmp_path), "RUST_LOG": "re_analytics=debug", "XDG_CONFIG_HOME": ""}
        command = [rerun_process.executable(), "rrd", "verify", recording]
        return subprocess.run(command, env=quiet, capture_output=True, text=True).stderr

    assert "usage data" in words({"PATH": os.environ["PATH"]})  # what it does when left alone
    assert "Analytics disabled" in words(rerun_process.environment())


def test_without_a_display_the_way_out_is_named(recording, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UsageError, match=r"no display.*--web.*--screenshot"):
        rerun_process.open_window(recording)


def listening_addresses(process_ids: set[int]) -> set[str]:
    """Hexadecimal local addresses on which any of the processes listens, from the kernel's tables."""
    inodes = set()
    for process_id in process_ids:
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    tables = [Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and fields[9] in inodes}


@pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="who listens is read from /proc/net, which only Linux has: run it there",
)
def test_the_web_viewer_listens_on_this_machine_only_and_ends_with_ctrl_c(recording):
    code = "import sys; from pathlib import Path; from stereo4d_plugins.viewers import rerun_web as p\n"
    code += "sys.exit(p.serve_web(Path(sys.argv[1]), browser=False))"
    process = subprocess.Popen([sys.executable, "-c", code, recording], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        deadline = time.monotonic() + 60
        page, policy = b"", ""
        while b"<html" not in page and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    page, policy = answer.read(), answer.headers["Content-Security-Policy"]
            except OSError:
                time.sleep(0.2)
        assert b"<html" in page
        assert "default-src 'self'" in policy  # the page may talk to nobody else
        recording_address = parse_qs(urlsplit(address).query)["url"][0]
        assert urllib.request.urlopen(recording_address, timeout=5).read() == recording.read_bytes()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert listening_addresses({process.pid, *map(int, children)}) == {"0100007F"}  # 127.0.0.1
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_picture_of_a_recording_shows_its_cloud_and_nothing_is_left_lying_about(recording, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        with rerun_process.HeadlessViewer(recording, size=(640, 480)) as viewer:
            viewer.go_to(2)
            problems, cloud = viewer.problems(), Image.open(io.BytesIO(viewer.picture("4D"))).convert("RGB")
            names = set(viewer.view_names())
            left_by_rerun = list(tmp_path.glob("*/rerun-data*"))
    except OutputError as error:
        if "Vulkan" not in str(error):
            raise
        pytest.skip("no Vulkan driver is here: a software one will do (Debian: apt install mesa-vulkan-drivers)")
    assert names == {"4D", "RGB", "Depth", "Confidence", "Camera path"}
    assert problems == []
    assert left_by_rerun
    assert list(tmp_path.iterdir()) == []
    pixels = np.asarray(cloud).reshape(-1, 3).astype(int)
    lit = (pixels.max(1) > 90).mean()
    assert 0.1 < lit < 0.8  # neither empty nor lost inside the cloud
    red = np.abs(pixels - (230, 60, 40)).max(1) < 40
    assert red.mean() > 0.003  # the ball


def test_a_viewer_that_cannot_render_says_what_is_missing(recording, monkeypatch):
    monkeypatch.setenv("VK_DRIVER_FILES", os.devnull)
    monkeypatch.setenv("VK_ICD_FILENAMES", os.devnull)
    monkeypatch.setenv("LIBGL_DRIVERS_PATH", os.devnull)
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", os.devnull)
    with (
        pytest.raises(OutputError, match=r"scene\.rrd: .*needs a Vulkan driver"),
        rerun_process.HeadlessViewer(recording),
    ):
        pass


def test_a_free_port_can_be_bound():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", rerun_process.free_port()))
