"""``stereo4d reconstruct`` as a person meets it: what it prints, what it compares, what it leaves alone."""

import json

import pytest

from stereo4d.cli.main import main
from stereo4d.data.synthetic.clip import TRUTH, synthesize_clip
from tests.clips import picture, write_clip
from tests.tiny_weights import write_tiny_weights

SMALL = ["--size", "32", "--graph", "swin-1-noncyclic", "--quiet"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_tiny_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A synthetic clip with its truth beside it."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize_clip(folder, seed=3, frames=4, height=48, width=64)
    return folder


def run(capsys, *argv) -> tuple[dict, str]:
    assert main(["reconstruct", *map(str, argv), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_a_synthetic_clip_is_compared_with_its_truth(synthetic, weights, tmp_path, capsys):
    for name in ("clip.mp4", "frames"):
        report, _ = run(capsys, synthetic / name, "--out", tmp_path / name, "--weights", weights, *SMALL)
        (scene,) = report["scenes"]
        assert scene["frames"] == 4
        assert scene["pairs"] == 6
        assert scene["errors"]["depth_abs_rel"] > 0
        assert scene["errors"]["depth_abs_rel_constant"] > 0


def test_lines_say_frames_pairs_seconds_errors_and_where_things_lie(synthetic, weights, tmp_path, capsys):
    out = tmp_path / "out"
    argv = [str(synthetic / "clip.mp4"), "--out", str(out), "--weights", weights, *SMALL[:-1]]
    assert main(["reconstruct", *argv]) == 0
    text = capsys.readouterr().out
    for words in (
        "frames     4, 0.00 to",
        "pairs      6 (swin-1-noncyclic)",
        "seconds ",
        "alignment ",
        str(out / "scene.rrd"),
    ):
        assert words in text
    assert text.count("against the exact truth: ") >= 4


def test_a_truth_that_belongs_to_another_clip_is_left_alone_with_a_warning(synthetic, weights, tmp_path, capsys):
    clip = write_clip(tmp_path / "other.mp4", [picture(i, 60, 80) for i in range(3)])
    (tmp_path / TRUTH).write_bytes((synthetic / TRUTH).read_bytes())
    report, error = run(capsys, clip, "--out", tmp_path / "out", "--weights", weights, *SMALL)
    assert report["scenes"][0]["errors"] is None
    assert "other.mp4: not compared with the truth that lies beside it" in error


def test_a_dry_run_says_what_it_would_take_loads_no_weight_and_leaves_no_file(
    synthetic, weights, tmp_path, capsys, monkeypatch
):
    def refuse(*arguments, **keywords):
        raise AssertionError("a dry run must not load weights")

    monkeypatch.setattr("stereo4d.video.pipeline.load_model", refuse)
    monkeypatch.setattr("stereo4d.network.weights.loading.build", refuse)
    out = tmp_path / "out"
    report, _ = run(capsys, synthetic / "clip.mp4", "--out", out, "--weights", weights, "--dry-run", "--size", "64")
    (plan,) = report["scenes"]
    assert (plan["frames"], plan["pairs"], plan["height"], plan["width"]) == (4, 12, 48, 64)
    assert plan["memory_bytes"] > 0
    assert plan["disk_bytes"] > 12 * 2 * 48 * 64 * 4 * 2
    assert set(plan["seconds"]) == {"frames", "predictions", "alignment", "recording"}
    assert not out.exists()
