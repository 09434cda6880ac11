"""``stereo4d synthesize`` and ``stereo4d evaluate``, through the command line's own entry."""

import json

import numpy as np
import pytest
from PIL import Image

from stereo4d.cli.main import main
from stereo4d.data.synthetic.clip import load_truth

SMALL = ["--frames", "3", "--width", "48", "--height", "32", "--quiet"]


def test_a_clip_comes_with_frames_and_truth(tmp_path, capsys):
    assert main(["synthesize", "--out", str(tmp_path), "--seed", "5", *SMALL]) == 0
    assert "truth.safetensors" in capsys.readouterr().out
    truth = load_truth(tmp_path / "clip.mp4")
    assert truth.clip.cam2world.shape == (3, 4, 4)
    assert np.asarray(Image.open(tmp_path / "frames" / "000002.png")).shape == (32, 48, 3)


def test_a_clip_that_is_there_is_not_overwritten_without_being_asked(tmp_path, capsys):
    assert main(["synthesize", "--out", str(tmp_path), *SMALL]) == 0
    before = (tmp_path / "truth.safetensors").read_bytes()
    assert main(["synthesize", "--out", str(tmp_path), "--seed", "1", *SMALL]) == 1
    assert "--overwrite" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "truth.safetensors").read_bytes() == before
    assert main(["synthesize", "--out", str(tmp_path), "--seed", "1", "--overwrite", *SMALL]) == 0
    assert (tmp_path / "truth.safetensors").read_bytes() != before


@pytest.mark.parametrize("bad", [["--frames", "0"], ["--width", "47"], ["--moving-share", "2"], ["--fps", "0"]])
def test_numbers_out_of_range_are_wrong_usage(tmp_path, capsys, bad):
    out = tmp_path / "clip"
    assert main(["synthesize", "--out", str(out), *SMALL, *bad]) == 2
    assert bad[1] in capsys.readouterr().err.splitlines()[-1]
    assert not (out / "truth.safetensors").exists()


def test_the_embedded_checkpoint_beats_the_guesses_on_held_out_pairs(capsys):
    assert main(["evaluate", "synthetic", "--pairs", "64", "--quiet", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    for key in ("absrel", "points1", "rotation", "translation"):
        assert figures[key]["mean"] < figures[key]["guess mean"], key
    assert figures["delta1"]["mean"] > figures["delta1"]["guess mean"]


CLIPS = ["--clips", "1", "--frames", "4", "--width", "96", "--height", "64", "--device", "cpu"]


def test_whole_clips_are_measured_beside_colmap(tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")
    command = ["evaluate", "synthetic", "--peer", "colmap", "--out", str(tmp_path), *CLIPS, "--quiet"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["clips"], row["method"]) for row in found["rows"]] == [
        *(("static", "embedded"), ("static", "colmap")),
        *(("dynamic", "embedded"), ("dynamic", "colmap")),
    ]
    assert all(clip["errors"]["embedded"]["placed"] == 4 for clip in found["clips"])
    # A second run reads what the first one kept, and says the same in words.
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"{100 * found['rows'][0]['trajectory']:.2f}% |" in printed
    assert "where colmap succeeds" in printed


def test_camera_paths_of_a_clip_without_truth_are_compared(tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")
    assert main(["synthesize", "--out", str(tmp_path), *CLIPS[2:8], "--quiet"]) == 0
    capsys.readouterr()
    command = ["evaluate", "agreement", "--data", str(tmp_path / "clip.mp4"), "--frames", "3", "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == 2  # every second one of four: the most that three allow
    assert found["placed"][0] == 2
    assert set(found["seconds"]) == {"embedded", "colmap"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["agreement"], "--data"),
        (["agreement", "--data", "x.mp4", "--clips", "1"], "--clips"),
        (["synthetic", "--data", "x.mp4"], "--data"),
        (["synthetic", "--clips", "0"], "--clips"),
        (["synthetic", "--clips", "1", "--pairs", "16"], "--pairs"),
        (["synthetic", "--peer", "bundler"], "colmap"),
    ],
)
def test_what_cannot_be_measured_is_wrong_usage(capsys, bad, said):
    assert main(["evaluate", *bad, "--quiet"]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_clip_of_any_kind_of_place_can_be_asked_for(tmp_path, capsys):
    assert main(["synthesize", "--out", str(tmp_path), "--kind", "street", *SMALL]) == 0
    assert load_truth(tmp_path).clip.depth.shape == (3, 32, 48)
    assert main(["synthesize", "--out", str(tmp_path / "moon"), "--kind", "moon", *SMALL]) == 2
    assert "street" in capsys.readouterr().err.splitlines()[-1]
