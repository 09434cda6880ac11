"""Damaged and foreign files of pairs: each ends ``stereo4d align`` with one line that names the file and the reason."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.cli.main import main
from stereo4d.storage import save_arrays
from tests.faults.test_bad_input import COMMAND, ENVIRONMENT, check_failure, check_nothing_whole, limit_file_size, run
from tests.stored_worlds import FRAMES, HEIGHT, WIDTH, arrays_of, small_world, write_pairs

PAIRS = 14


def check_refused(capsys, out: Path, *argv: object, said: str, name: str = "") -> None:
    """One line that names what is wrong, code 1, and nothing that looks like a scene."""
    assert main(["align", *map(str, argv), "--out", str(out), "--quiet"]) == 1
    error = capsys.readouterr().err
    line = error.strip().splitlines()[-1]
    assert line.startswith("stereo4d: error: ")
    assert said in line
    assert name in line
    assert "Traceback" not in error
    assert "unexpected" not in line
    check_nothing_whole(out)


def damaged(name: str, index: object, value: float) -> dict[str, torch.Tensor]:
    """One array with one value changed."""
    array = arrays_of(small_world())[name].clone()
    array[index] = value
    return {name: array}


ARRAYS = arrays_of(small_world())
CHANGES = {
    "a missing array": ({"confidence1": None}, "lacks confidence1; pair predictions are edges, pointmap0"),
    "edges of another dtype": ({"edges": ARRAYS["edges"].int()}, "edges is int32 14 x 2, must be int64"),
    "edges of another shape": ({"edges": ARRAYS["edges"].T.contiguous()}, "edges is int64 2 x 14, must be int64 E x 2"),
    "whole numbers": (
        {"pointmap0": ARRAYS["pointmap0"].int()},
        "pointmap0 is int32 14 x 24 x 32 x 3, must be floating",
    ),
    "a flat pointmap": (
        {"pointmap1": ARRAYS["pointmap1"].flatten(1, 2)},
        "pointmap1 is float32 14 x 768 x 3, must be floating 14 x 24 x 32 x 3",
    ),
    "a pair too few": ({"pointmap1": ARRAYS["pointmap1"][1:]}, "pointmap1 is float32 13 x 24 x 32 x 3"),
    "confidence of another size": (
        {"confidence0": ARRAYS["confidence0"][:, 1:]},
        "confidence0 is float32 14 x 23 x 32, must be floating 14 x 24 x 32",
    ),
    "no pairs": ({name: array[:0] for name, array in ARRAYS.items()}, "holds no pairs (edges is empty)"),
    "no pixels": (
        {name: array[:, :0] for name, array in ARRAYS.items() if name != "edges"},
        "images of 0 x 32 pixels",
    ),
    "a negative frame": (damaged("edges", (0, 0), -1), "edges name frames -1 to 4"),
    "a frame beyond the last": (
        {"rgb": np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)},
        "edges name frames 0 to 4, but there are 0 to 2",
    ),
    "a frame that no pair joins": (
        {"times": np.arange(7.0)},
        "2 of 7 frames are in no pair, the first is frame 5",
    ),
    "a frame beyond all bounds": (damaged("edges", (0, 0), 2**60), "frames are in no pair, the first is frame 5"),
    "frames that hang together in two parts": (
        {"edges": torch.tensor([[0, 0], [1, 1]] * 7)},
        "no chain of pairs leads from frame 0 to frames 1",
    ),
    "colours of another size": (
        {"rgb": np.zeros((FRAMES, HEIGHT, WIDTH + 1, 3), np.uint8)},
        "rgb is uint8 5 x 24 x 33 x 3, must be uint8 N x 24 x 32 x 3",
    ),
    "colours as floats": (
        {"rgb": np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.float32)},
        "rgb is float32 5 x 24 x 32 x 3, must be uint8",
    ),
    "as many times as colours": (
        {"rgb": np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8), "times": np.arange(6.0)},
        "times is float64 6, must be float64 5",
    ),
    "times that fall": ({"times": np.array([0, 1, 2, 2, 3.0])}, "times must be finite and rise from frame to frame"),
    "a time that is none": ({"times": np.array([0, 1, np.nan, 2, 3])}, "times must be finite"),
    "frame numbers that fall": (
        {"frame_indices": np.array([4, 3, 2, 1, 0])},
        "frame_indices must be 0 or above and rise",
    ),
    "a pixel map that maps nothing": ({"pixel_maps": np.zeros((FRAMES, 4))}, "pixel_maps must be finite, with scales"),
    "an original without size": ({"original_sizes": np.zeros((FRAMES, 2), np.int64)}, "original_sizes must be above 0"),
    "NaN": (damaged("pointmap1", (3, 5, 6, 0), np.nan), "pointmap1 holds NaN or infinity for pairs 3→4"),
    "infinity": (damaged("pointmap0", (0, 0, 0, 0), np.inf), "pointmap0 holds NaN or infinity for pairs 0→1"),
    "confidence below 1": (
        damaged("confidence0", (2, 0, 0), 0.5),
        "confidence0 must be finite and at least 1 for pairs 2→3",
    ),
    "confidence that is none": (damaged("confidence1", (2, 0, 0), np.nan), "confidence1 must be finite"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(change, tmp_path, capsys):
    arrays, reason = CHANGES[change]
    path = write_pairs(tmp_path / "foreign.safetensors", **arrays)
    check_refused(capsys, tmp_path / "out", path, said=reason, name=str(path))


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(share, tmp_path, capsys):
    path = write_pairs(tmp_path / "pairs.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    check_refused(capsys, tmp_path / "out", path, said="cut short", name=str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a safetensors file"),
        (b"\x08" + bytes(7) + b"[1, 2]  ", "no JSON object"),
    ],
    ids=["a picture", "other JSON"],
)
def test_what_is_no_safetensors_file_is_refused(content, reason, tmp_path, capsys):
    (tmp_path / "picture.png").write_bytes(content)
    check_refused(capsys, tmp_path / "out", tmp_path / "picture.png", said=reason, name="picture.png")


def test_a_place_without_pairs_is_refused(tmp_path, capsys):
    (tmp_path / "empty" / "pairs").mkdir(parents=True)
    check_refused(capsys, tmp_path / "out", tmp_path / "nowhere", said="no such file or folder", name="nowhere")
    check_refused(capsys, tmp_path / "out", tmp_path / "empty", said="no pair predictions (.safetensors)", name="empty")


def test_files_that_are_not_of_one_clip_are_refused(tmp_path, capsys):
    first = write_pairs(tmp_path / "a.safetensors", times=np.arange(5.0))
    smaller = {name: array[:, ::2, ::2] for name, array in ARRAYS.items() if name != "edges"}
    second = write_pairs(tmp_path / "b.safetensors", **smaller)
    check_refused(capsys, tmp_path / "out", first, second, said="must be floating 14 x 24 x 32", name=str(second))
    third = write_pairs(tmp_path / "c.safetensors", times=np.arange(5.0))
    check_refused(capsys, tmp_path / "out", first, third, said="give the pairs of one clip", name=str(third))


def test_frames_beside_the_pairs_that_do_not_fit_are_refused_by_their_own_name(tmp_path, capsys):
    path = write_pairs(tmp_path / "pairs-00000.safetensors")
    beside = save_arrays(tmp_path / "frames.safetensors", {"rgb": np.zeros((FRAMES, 8, 8, 3), np.uint8)})
    check_refused(
        capsys, tmp_path / "out", path, said="rgb is uint8 5 x 8 x 8 x 3, must be uint8 N x 24 x 32", name=str(beside)
    )


def test_what_is_known_of_other_frames_is_refused_before_any_work(tmp_path, capsys):
    path = write_pairs(tmp_path / "pairs.safetensors")
    np.save(tmp_path / "poses.npy", np.tile(np.eye(4), (3, 1, 1)))
    check_refused(capsys, tmp_path / "out", path, "--poses", tmp_path / "poses.npy", said="3 rows", name="poses.npy")
    assert not (tmp_path / "out").exists()


# --- real processes -----------------------------------------------------------------------------------------------


def test_a_file_that_cannot_grow_fails_by_name_and_leaves_nothing_whole(tmp_path):
    path, out = write_pairs(tmp_path / "pairs.safetensors"), tmp_path / "out"
    process = run("align", path, "--out", out, "--quiet", preexec_fn=limit_file_size(20_000))
    check_failure(process, str(out), "File too large")
    check_nothing_whole(out)
    assert main(["align", str(path), "--out", str(out), "--quiet"]) == 0


def test_a_killed_alignment_leaves_nothing_whole_and_runs_again(tmp_path):
    path, out = write_pairs(tmp_path / "pairs.safetensors"), tmp_path / "out"
    argv = ["align", str(path), "--out", str(out), "--quiet"]
    slow = subprocess.Popen([COMMAND, *argv, "--solver", "adam"], env=ENVIRONMENT)  # it takes its time
    deadline = time.monotonic() + 120
    while not (out / ".unfinished" / "state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    slow.send_signal(signal.SIGKILL)
    assert slow.wait(timeout=120) == -signal.SIGKILL
    check_nothing_whole(out)
    assert main(argv) == 0
    assert (out / "manifest.json").exists()
