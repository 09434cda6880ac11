"""``stereo4d reconstruct`` as a person meets it: what it prints, what it compares, what it leaves alone."""

import json
from pathlib import Path

import numpy as np
import pytest

import stereo4d
from stereo4d import Scene
from stereo4d.cli.main import main
from stereo4d.data.synthetic.clip import TRUTH, find_truth, load_truth, synthesize_clip
from stereo4d.scene_files import MANIFEST_FILE
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
        "alignment  loss ",
        " of 6 pairs",
        "scale      unknown",
        "seconds ",
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

    monkeypatch.setattr("stereo4d.video.network_predictor.load_model", refuse)
    monkeypatch.setattr("stereo4d.network.weights.loading.build", refuse)
    out = tmp_path / "out"
    report, _ = run(capsys, synthetic / "clip.mp4", "--out", out, "--weights", weights, "--dry-run", "--size", "64")
    (plan,) = report["scenes"]
    assert (plan["frames"], plan["pairs"], plan["height"], plan["width"]) == (4, 12, 48, 64)
    assert plan["memory_bytes"] > 0
    assert plan["disk_bytes"] > 12 * 2 * 48 * 64 * 4 * 2
    assert set(plan["seconds"]) == {"frames", "predictions", "motion", "alignment", "recording"}
    assert not out.exists()


def test_a_dry_run_of_a_graph_by_likeness_says_how_many_pairs_there_can_be(synthetic, weights, tmp_path, capsys):
    argv = [synthetic / "clip.mp4", "--out", tmp_path / "out", "--weights", weights, "--dry-run", *SMALL[:2]]
    assert main(["reconstruct", *map(str, argv), "--graph", "retrieval-2-0"]) == 0
    # two anchors with each other, the other two frames with one of them, both ways
    assert "pairs    6 at most" in capsys.readouterr().out
    report, _ = run(capsys, *argv, "--graph", "retrieval-2-0")
    assert (report["scenes"][0]["pairs"], report["scenes"][0]["pairs_are_most"]) == (6, True)
    report, _ = run(capsys, *argv, "--graph", "complete,seq2")
    assert (report["scenes"][0]["pairs"], report["scenes"][0]["pairs_are_most"]) == (10, False)


# --- what is known ------------------------------------------------------------------------------------------------


DEMO = Path(stereo4d.__file__).parent / "assets" / "demo" / "clip.mp4"


@pytest.fixture(scope="module")
def demo_known(tmp_path_factory):
    """The cameras of the demo clip's truth as files, and the truth."""
    folder = tmp_path_factory.mktemp("known")
    assert find_truth(DEMO) is not None
    truth = load_truth(DEMO).clip
    np.save(folder / "poses.npy", truth.cam2world)
    np.save(folder / "cameras.npy", truth.intrinsics)
    return folder, truth


def test_known_cameras_of_the_demo_are_those_of_its_scene(demo_known, tmp_path, capsys):
    folder, truth = demo_known
    known = ["--poses", folder / "poses.npy", "--intrinsics", folder / "cameras.npy"]
    small = ["--weights", "embedded", "--max-frames", 4, "--size", 144, "--quiet"]
    report, _ = run(capsys, DEMO, "--out", tmp_path / "out", *small, *known)
    scene, (said,) = Scene.load(tmp_path / "out"), report["scenes"]
    assert scene.depth.shape[1:] == (96, 144)
    chosen = scene.frame_indices
    assert chosen.tolist() == [0, 6, 12, 18]
    # given in pixels of the clip, held at those of the network, and told in pixels of the clip again
    assert scene.intrinsics_original == pytest.approx(truth.intrinsics[chosen], abs=1e-4)
    assert scene.cam2world == pytest.approx(truth.cam2world[chosen], abs=1e-5)
    assert said["scale"] == scene.scale == "given (poses.npy)"
    assert said["errors"]["rotation_error"] < 0.01
    assert said["errors"]["focal_error"] < 1e-5
    for name, measures in (("poses", {"rotation", "position"}), ("intrinsics", {"focal", "principal point"})):
        residuals = said["known"][name]["residuals"]
        assert residuals.keys() == measures
        assert all(residual["answer"]["worst"] < 1e-6 for residual in residuals.values())
        assert len(said["known"][name]["sha256"]) == 64
    assert said["known"]["poses"]["residuals"]["rotation"]["pairs"]["worst_frame"] in chosen
    assert scene.manifest["known"] == said["known"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.tile(np.eye(4), (2, 1, 1)), "2 rows"),
        (np.tile(np.diag([2.0, 2.0, 2.0, 1.0]), (4, 1, 1)), "rotation"),
        (np.eye(3), "poses.npy"),
    ],
    ids=["too few", "no rotations", "no poses"],
)
def test_poses_that_cannot_be_used_are_refused_before_a_pair_is_predicted(
    content, reason, synthetic, weights, tmp_path, capsys, monkeypatch
):
    def refuse(*arguments, **keywords):
        raise AssertionError("no weight needs to be loaded to see this")

    monkeypatch.setattr("stereo4d.video.network_predictor.load_model", refuse)
    np.save(tmp_path / "poses.npy", content)
    argv = [synthetic / "clip.mp4", "--out", tmp_path / "out", "--weights", weights, *SMALL]
    assert main(["reconstruct", *map(str, argv), "--poses", str(tmp_path / "poses.npy")]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert reason in line
    assert "poses.npy" in line


def test_alignment_options_are_recorded(synthetic, weights, tmp_path, capsys):
    argv = [synthetic / "clip.mp4", "--out", tmp_path / "out", "--weights", weights, *SMALL]
    run(capsys, *argv, "--per-frame-focal", "--free-principal-point", "--seed", 5)
    settings = json.loads((tmp_path / "out" / MANIFEST_FILE).read_text())["settings"]
    assert settings["seed"] == 5
    asked = {"shared_focal": False, "per_frame_focal": True, "free_principal_point": True, "solver": "reweighted"}
    assert settings["alignment"].items() >= asked.items()
    focals = Scene.load(tmp_path / "out").intrinsics[:, 0, 0]
    assert len(set(focals.tolist())) > 1  # each frame has its own, even where untrained weights drive some to a limit
