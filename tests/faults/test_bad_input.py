"""Bad input through the installed command: one clear last line, a code that means something, nothing that looks whole.

Every case is a real process. Cases that end well share one process; what each of them said is told apart by file name.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from stereo4d import Scene
from stereo4d.scene_files import MANIFEST_FILE, SCENE_FILE
from tests.clips import cut, picture, write_clip
from tests.tiny_weights import write_tiny_weights

COMMAND = str(Path(sys.executable).with_name("stereo4d"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SMALL = ["--size", "32", "--graph", "swin-1-noncyclic"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


def start(*argv, **settings) -> subprocess.Popen:
    return subprocess.Popen(
        [COMMAND, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        **settings,
    )


def run(*argv, **settings) -> subprocess.CompletedProcess:
    process = start(*argv, **settings)
    output, error = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, output, error)


def last_line(error: str) -> str:
    return error.strip().splitlines()[-1]


def check_failure(process: subprocess.CompletedProcess, *said: str, code: int = 1) -> None:
    """The process failed as it should: code, last line, no traceback."""
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr
    line = last_line(process.stderr)
    assert line.startswith("stereo4d: error: ")
    for words in said:
        assert words in line, line


def check_nothing_whole(out: Path) -> None:
    """No file in the folder, or above it, could be taken for a result."""
    for name in (MANIFEST_FILE, SCENE_FILE, "scene.rrd", "alignment.rrd", "trajectory.txt", "pairs"):
        assert not (out / name).exists(), name
    assert not [entry for entry in (out.iterdir() if out.exists() else []) if not entry.name.startswith(".")]


# --- input that is none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("nowhere.mp4", None, "no such file"),
        ("words.mp4", b"These are words.\n" * 50, "not a video or image that can be read"),
        ("empty.mp4", b"", "the file is empty (0 bytes)"),
    ],
)
def test_what_is_no_video_fails_with_its_name_and_the_reason(name, content, reason, tmp_path, weights):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    process = run("reconstruct", tmp_path / name, "--out", tmp_path / "out", "--weights", weights)
    check_failure(process, str(tmp_path / name), reason)
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_fails(tmp_path):
    (tmp_path / "holiday").mkdir()
    process = run("reconstruct", tmp_path / "holiday", "--out", tmp_path / "out")
    check_failure(process, str(tmp_path / "holiday"), "no images")


# --- input that is odd, and ends well -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory, weights):
    """Odd clips, all in one process, and one that is missing: the process, and the folder of scenes."""
    folder = tmp_path_factory.mktemp("odd")
    whole = write_clip(folder / "whole.mp4", [picture(i, 96, 128) for i in range(30)], index_first=True)
    cut(whole, 0.8, folder / "truncated.mp4")
    write_clip(folder / "one.mp4", [picture(0, 48, 64)])
    still = picture(0, 48, 64)
    moving = [still.copy() for _ in range(3)]
    for i, image in enumerate(moving):
        image[10:20, 10 + 10 * i : 20 + 10 * i] = 255
    write_clip(folder / "static.mp4", moving)
    write_clip(folder / "portrait.mp4", [picture(i, 64, 48) for i in range(3)])
    (folder / "sizes").mkdir()
    for i, size in enumerate([(48, 64), (48, 64), (40, 64)]):
        Image.fromarray(picture(i, *size)).save(folder / "sizes" / f"{i}.png")
    names = ["truncated.mp4", "one.mp4", "static.mp4", "portrait.mp4", "sizes", "missing.mp4"]
    inputs = [folder / name for name in names]
    process = run(
        *("reconstruct", *inputs, "--out", folder / "out", "--weights", weights, *SMALL, "--max-frames", "4", "--json")
    )
    return process, folder / "out"


def warnings_about(process: subprocess.CompletedProcess, name: str) -> list[str]:
    return [line for line in process.stderr.splitlines() if line.startswith("stereo4d: warning: ") and name in line]


def test_several_inputs_give_one_scene_each_and_code_3_if_some_fail(odd):
    process, out = odd
    check_failure(process, "1 of 6 inputs failed", "missing.mp4: no such file", code=3)
    assert sorted(entry.name for entry in out.iterdir()) == ["one", "portrait", "sizes", "static", "truncated"]
    report = json.loads(process.stdout)
    assert [Path(scene["scene"]).name for scene in report["scenes"]] == [
        "truncated",
        "one",
        "static",
        "portrait",
        "sizes",
    ]
    assert all(Path(scene["recording"]).is_file() for scene in report["scenes"])
    assert len(report["failed"]) == 1


def test_a_truncated_clip_gives_its_good_frames_and_a_warning(odd):
    process, out = odd
    scene = Scene.load(out / "truncated")
    assert 1 <= len(scene) < 4
    assert len(scene.manifest["failed_frames"]) == 4 - len(scene)
    assert all(frame["reason"] for frame in scene.manifest["failed_frames"])
    (warning, *_) = warnings_about(process, "truncated.mp4")
    assert f"{len(scene)} of 4 chosen frames could be read" in warning


def test_one_frame_gives_a_scene_of_one_and_a_warning(odd):
    process, out = odd
    assert len(Scene.load(out / "one")) == 1
    (warning,) = warnings_about(process, "one.mp4")
    assert "one frame only" in warning


def test_a_static_camera_gives_a_scene_and_a_warning(odd):
    process, out = odd
    assert len(Scene.load(out / "static")) == 3
    (warning,) = warnings_about(process, "static.mp4")
    assert "camera stands still" in warning


def test_images_of_different_sizes_give_a_scene_and_a_warning_that_names_the_odd_one(odd):
    process, out = odd
    scene = Scene.load(out / "sizes")
    assert scene.original_sizes.tolist() == [[48, 64], [48, 64], [40, 64]]
    (warning,) = warnings_about(process, "sizes")
    assert "2.png is 64x40" in warning


def test_a_portrait_clip_gives_a_portrait_scene_without_a_word(odd):
    process, out = odd
    scene = Scene.load(out / "portrait")
    assert scene.depth.shape == (3, 32, 16)
    assert scene.original_sizes[0].tolist() == [64, 48]
    assert not warnings_about(process, "portrait.mp4")


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i, 48, 64) for i in range(6)])


def test_weights_that_are_none_fail_by_name(tmp_path, clip):
    (tmp_path / "notes.pth").write_text("not a checkpoint at all\n" * 10)
    process = run("reconstruct", clip, "--out", tmp_path / "out", "--weights", tmp_path / "notes.pth")
    check_failure(process, str(tmp_path / "notes.pth"))
    check_nothing_whole(tmp_path / "out")


def test_weights_of_the_wrong_shape_fail_by_name_and_say_which(tmp_path, clip, weights):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text((weights / "config.json").read_text())
    state = load_file(weights / "model.safetensors")
    state["enc_norm.weight"] = state["enc_norm.weight"][:-1].clone()
    save_file(state, bad / "model.safetensors")
    process = run("reconstruct", clip, "--out", tmp_path / "out", "--weights", bad)
    check_failure(process, str(bad / "model.safetensors"), "enc_norm")
    check_nothing_whole(tmp_path / "out")


# --- disk and signals ---------------------------------------------------------------------------------------------


def limit_file_size(limit: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize("limit", [2_000, 40_000], ids=["at the frames", "at the pairs"])
def test_a_file_that_cannot_grow_fails_by_name_and_leaves_nothing_whole(limit, tmp_path, clip, weights):
    out = tmp_path / "out"
    argv = ("reconstruct", clip, "--out", out, "--weights", weights, *SMALL, "--quiet")
    check_failure(run(*argv, preexec_fn=limit_file_size(limit)), str(out), "File too large")
    check_nothing_whole(out)


def test_a_full_disk_fails_by_name_and_the_run_goes_on_once_there_is_room(tmp_path, clip, weights):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip(
            "a small disk cannot be mounted here: run as root, in a container with --cap-add SYS_ADMIN; until then the "
            "file size limit above covers the same path"
        )
    try:
        out = disk / "out"
        argv = ("reconstruct", clip, "--out", out, "--weights", weights, *SMALL, "--quiet")
        check_failure(run(*argv), str(out), "No space left on device")
        check_nothing_whole(out)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert run(*argv).returncode == 0
        assert len(Scene.load(out)) == 6
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def wait_for_stage(out: Path, stage: str, process: subprocess.Popen) -> None:
    """Wait until a running reconstruction has finished a stage."""
    state = out / ".unfinished" / "state.json"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if state.exists() and stage in json.loads(state.read_text())["stages"]:
            return
        time.sleep(0.02)
    raise AssertionError(f"stage {stage} did not come")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_stopped_run_leaves_nothing_whole_and_goes_on_when_run_again(name, tmp_path, weights):
    clip = write_clip(tmp_path / "clip.mp4", [picture(i, 48, 64) for i in range(6)])
    out = tmp_path / "out"
    argv = ("reconstruct", clip, "--out", out, "--weights", weights, "--graph", "complete")
    process = start(*argv)
    wait_for_stage(out, "predictions", process)
    process.send_signal(getattr(signal, name))
    output, error = process.communicate(timeout=120)
    check_nothing_whole(out)
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        stopped = subprocess.CompletedProcess(argv, process.returncode, output, error)
        check_failure(stopped, "clip.mp4: interrupted", str(out), code=130)
    if name == "SIGTERM":
        return  # as SIGINT; two are enough to see runs go on
    again = run(*argv, "--json")
    assert again.returncode == 0, again.stderr
    scene = Scene.load(out)
    assert scene.manifest["stages"]["predictions"]["reused"]
    assert np.isfinite(scene.cam2world).all()
