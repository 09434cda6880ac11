"""Long clips through the installed command: killed among the windows and taken up again, and clips odd for windows."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

from stereo4d import Scene
from tests.clips import picture, write_clip
from tests.faults.test_bad_input import check_failure, last_line, run, start
from tests.tiny_weights import write_tiny_weights

SMALL = ["--size", "32", "--graph", "swin-1-noncyclic", "--quiet", "--motion", "off"]
WINDOWS = ["--window", "4", "--overlap", "2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i, 48, 64) for i in range(14)])


@pytest.fixture(scope="module")
def whole(clip, weights, tmp_path_factory):
    """All frames, in windows, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    process = run("reconstruct", clip, "--out", out, "--weights", weights, *SMALL, *WINDOWS)
    assert process.returncode == 0, process.stderr
    return Scene.load(out)


def test_a_clip_in_windows_is_a_scene_of_all_its_frames(whole):
    assert len(whole) == 14
    assert len(whole.manifest["alignment"]["windows"]) == 6
    assert np.isfinite(np.asarray(whole.depth, np.float32)).all()
    assert np.isfinite(whole.cam2world).all()


def test_a_run_killed_among_the_windows_goes_on_after_the_last_that_was_finished(clip, weights, whole, tmp_path):
    out = tmp_path / "out"
    argv = ("reconstruct", clip, "--out", out, "--weights", weights, *SMALL, *WINDOWS)
    process = start(*argv)
    folder = out / ".unfinished" / "windows"
    deadline = time.monotonic() + 300
    while len(done := sorted(folder.glob("window-*.safetensors"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()
    left = {path: path.stat().st_mtime_ns for path in done}
    again = start(*argv)
    kept: dict = {}
    while again.poll() is None:
        with suppress(OSError):  # it removes them at its end, one after the other
            kept = {path: path.stat().st_mtime_ns for path in left}
        time.sleep(0.02)
    assert again.returncode == 0, again.communicate()[1]
    assert kept == left
    assert np.abs(Scene.load(out).cam2world - whole.cam2world).max() < 1e-4
    assert not (out / ".unfinished").exists()


def test_a_dry_run_says_windows_and_takes_all_frames_of_a_long_clip(weights, tmp_path):
    long = write_clip(tmp_path / "long.mp4", [picture(i, 48, 64) for i in range(60)])
    argv = ("reconstruct", long, "--out", tmp_path / "out", "--weights", weights, "--size", "32", "--dry-run")
    process = run(*argv, *WINDOWS)
    assert "windows  29 of 4 frames" in process.stdout, process.stderr
    assert "frames   60 " in process.stdout
    assert not (tmp_path / "out").exists()


def test_a_clip_of_one_repeated_frame_is_a_scene_in_windows_too(weights, tmp_path):
    still = write_clip(tmp_path / "still.mp4", [picture(0, 48, 64)] * 7)
    process = run("reconstruct", still, "--out", tmp_path / "out", "--weights", weights, *SMALL, *WINDOWS)
    assert process.returncode == 0, process.stderr
    assert "camera stands still" in process.stderr
    scene = Scene.load(tmp_path / "out")
    assert np.isfinite(scene.cam2world).all()
    assert np.isfinite(np.asarray(scene.depth, np.float32)).all()


@pytest.mark.parametrize(
    ("options", "said"), [(["--window", "2"], "--window 2"), (["--window", "8", "--overlap", "7"], "--overlap 7")]
)
def test_windows_that_cannot_be_fail_at_once_and_say_what_can(clip, weights, tmp_path, options, said):
    process = run("reconstruct", clip, "--out", tmp_path / "out", "--weights", weights, *SMALL, *options)
    check_failure(process, said, code=2)
    assert "needs 4 frames" in last_line(process.stderr) or "share 2 to 4" in last_line(process.stderr)
    assert not (tmp_path / "out").exists()
