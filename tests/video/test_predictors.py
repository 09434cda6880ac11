"""Whatever predicts pairs plugs in by name: reconstruction, single pairs and dry runs with a stranger's predictor."""

import json

import numpy as np
import pytest
from PIL import Image

from stereo4d import KnownFiles, Scene, reconstruct
from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError, PluginError, UsageError
from stereo4d.storage import map_arrays
from stereo4d.video import pipeline, solving
from stereo4d.video.predictors import is_installed, load_predictor
from stereo4d.video.workspace import UNFINISHED
from tests import strange_predictor
from tests.clips import picture, write_clip
from tests.tiny_weights import write_tiny_weights


@pytest.fixture(autouse=True, scope="module")
def wall(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        strange_predictor.install(tmp_path_factory.mktemp("site"), patch)
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i, 60, 80) for i in range(6)])


@pytest.fixture(scope="module")
def finished(clip, tmp_path_factory, wall):
    out = tmp_path_factory.mktemp("out") / "scene"
    reconstruct(clip, out, weights="wall")
    return out


def edges_of(out):
    return set(map(tuple, map_arrays(out / "pairs" / "pairs-00000.safetensors")["edges"].tolist()))


def interrupt(*arguments, **keywords):
    raise KeyboardInterrupt


def test_what_a_stranger_predicts_becomes_a_scene(finished):
    scene = Scene.load(finished)
    assert scene.depth.shape == (6, 48, 64)  # the size it asked for
    path = scene.cam2world[:, :3, 3]
    step = path[-1] / 5
    assert path == pytest.approx(np.arange(6)[:, None] * step, abs=0.05 * float(step[0]))
    assert abs(step[1:]).max() < 0.05 * step[0]
    assert scene.intrinsics[:, 0, 0] == pytest.approx(np.full(6, 60.0), rel=0.01)


def test_the_manifest_names_the_predictor_its_package_and_licence_and_no_checksum(finished):
    said = Scene.load(finished).manifest
    assert said["weights"] == {
        "source": "wall",
        "name": "wall",
        "licence": "MIT",
        "sha256": None,
        "format": None,
        "version": "wall 1.0",
        "chosen_because": None,
    }
    assert said["settings"]["dtype"] == "float32"
    assert said["settings"]["predictor"] == "wall (wall 1.0)"


def test_a_predictor_is_given_the_pair_graph_it_prefers_unless_the_user_names_one(finished, clip, tmp_path):
    apart = {abs(i - j) for i, j in edges_of(finished)}
    assert apart == {1, 3}
    assert Scene.load(finished).manifest["pairs"]["graph"] == "swinstride-2-noncyclic"
    reconstruct(clip, tmp_path / "out", weights="wall", graph="swin-1-noncyclic")
    assert {abs(i - j) for i, j in edges_of(tmp_path / "out")} == {1}


def test_remarks_about_a_clip_are_warnings(finished, clip, tmp_path, capsys):
    assert any("0 focals known" in warning for warning in Scene.load(finished).manifest["warnings"])
    argv = ["reconstruct", str(clip), "--out", str(tmp_path / "out"), "--weights", "wall", "--quiet", "--seed", "4"]
    assert main(argv) == 0
    assert "warning: " + str(clip) + ": 0 focals known, 60.0 px; seed 4" in capsys.readouterr().err


def test_known_intrinsics_reach_the_predictor_at_network_size(clip, tmp_path):
    # of two of six frames, in pixels of the 80x60 clip: 0.8 of them at 64x48
    lens = np.array([[100.0, 0, 39.5], [0, 100, 29.5], [0, 0, 1]])
    np.savez(tmp_path / "lens.npz", intrinsics=np.stack([lens, lens]), frames=np.array([1, 4]))
    known = KnownFiles(intrinsics=str(tmp_path / "lens.npz"))
    scene = reconstruct(clip, tmp_path / "out", weights="wall", known=known)
    assert any("2 focals known, 80.0 px" in warning for warning in scene.manifest["warnings"])
    assert scene.intrinsics[[1, 4], 0, 0] == pytest.approx([80, 80], rel=1e-5)  # and they reach the alignment


def test_an_interrupted_run_goes_on_and_still_says_what_was_remarked(clip, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, out, weights="wall")
    assert [entry.name for entry in out.iterdir()] == [UNFINISHED]
    monkeypatch.setattr(pipeline, "predict_pairs", interrupt)  # must not be needed again
    scene = reconstruct(clip, out, weights="wall")
    assert scene.manifest["stages"]["predictions"]["reused"]
    assert any("0 focals known" in warning for warning in scene.manifest["warnings"])


def test_a_run_interrupted_among_the_pairs_goes_on_with_those_that_are_missing(finished, clip, tmp_path, monkeypatch):
    predict_pairs, asked = pipeline.predict_pairs, []

    def some(at_work, edges, **keywords):
        yield from list(predict_pairs(at_work, edges[:6]))
        raise KeyboardInterrupt

    def counted(at_work, edges, **keywords):
        asked.append((at_work.opened, len(edges)))
        return predict_pairs(at_work, edges, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "predict_pairs", some)
        patch.setattr(pipeline.ShardWriter.__init__, "__kwdefaults__", {"exact": False, "shard_bytes": 1})
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", weights="wall")
    monkeypatch.setattr(pipeline, "predict_pairs", counted)
    scene = reconstruct(clip, tmp_path / "out", weights="wall")
    assert asked == [(10, 10)]  # of 16, in batches of two
    assert scene.cam2world == pytest.approx(Scene.load(finished).cam2world, abs=1e-3)


@pytest.mark.parametrize(("weights", "reused"), [("wall", False), ("tiny", True)])
def test_only_what_a_predictor_goes_by_makes_stored_pairs_stale(weights, reused, clip, tmp_path, monkeypatch):
    if weights == "tiny":  # a network asks neither for the seed nor for intrinsics
        weights = str(write_tiny_weights(tmp_path / "tiny"))
    settings = {"weights": weights, "max_frames": 2}
    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", **settings)
    scene = reconstruct(clip, tmp_path / "out", **settings, seed=1)
    assert scene.manifest["stages"]["predictions"]["reused"] is reused


def test_a_graph_by_likeness_asks_for_a_predictor_that_sees_it(clip, tmp_path):
    with pytest.raises(UsageError, match=r"--graph retrieval-2-2 goes by .* wall cannot tell; take another graph"):
        reconstruct(clip, tmp_path / "out", weights="wall", graph="retrieval-2-2")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_the_predictor_states(clip, tmp_path, capsys):
    argv = ["reconstruct", str(clip), "--out", str(tmp_path / "out"), "--weights", "wall", "--dry-run"]
    assert main([*argv, "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["scenes"]
    assert plan["pairs"] == 16
    assert plan["seconds"]["predictions"] == pytest.approx(16 * 48 * 64 * 1e-3)
    assert plan["network_gflop"] is None
    assert main(argv) == 0
    assert "weights  wall\n" in capsys.readouterr().out


def test_two_images_are_a_clip_of_two(tmp_path, capsys):
    for name, size in (("left.png", (60, 80)), ("right.png", (60, 80)), ("odd.png", (80, 60))):
        Image.fromarray(picture(0, *size)).save(tmp_path / name)
    left, right, odd = (str(tmp_path / name) for name in ("left.png", "right.png", "odd.png"))
    out = tmp_path / "pair.npz"
    assert main(["pair", left, right, "--out", str(out), "--weights", "wall", "--quiet"]) == 0
    assert "0 focals known, 60.0 px; seed 0" in capsys.readouterr().err
    written = np.load(out)
    assert written["pointmap0"].shape == (48, 64, 3)
    assert written["pointmap1"][:, 32, 0] == pytest.approx(np.full(48, 0.1), abs=1e-6)  # the step to the right
    assert main(["pair", left, odd, "--out", str(tmp_path / "none.npz"), "--weights", "wall"]) == 1
    assert "of one size; they are 64x48 and 48x64 pixels here" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()


def test_any_predictor_is_measured_on_pairs(capsys):
    assert main(["evaluate", "synthetic", "--weights", "wall", "--pairs", "1", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("16 held-out synthetic pairs of each column of 64x48, weights wall\n")
    assert "| depth AbsRel |" in said


def test_weights_show_says_in_one_line_that_there_are_none(capsys):
    assert main(["weights", "show", "wall"]) == 0
    assert capsys.readouterr().out == "wall: no weights, an installed predictor of wall 1.0, MIT\n"
    assert main(["weights", "show", "wall", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] is None
    assert main(["weights", "show", "wal"]) == 1
    assert "wal: no such weights file; give a .pth, " in (said := capsys.readouterr().err)
    assert "'wall'" in said


def test_entry_points_that_cannot_be_used_are_named(clip, tmp_path):
    for name, reason in (
        ("no-predictor", "is not a Predictor"),
        ("gone", "cannot be imported"),
        ("forgetful", r"was asked for 2 pairs and gave confidence0 \(1, 48, 64\)"),
    ):
        with pytest.raises(PluginError, match=reason):
            reconstruct(clip, tmp_path / name, weights=name)


def test_a_name_that_is_nothing_is_told_what_there_is():
    with pytest.raises(CheckpointError, match=r"clasical: no such weights file; give a .pth, .* one of .*'wall'"):
        load_predictor("clasical")
    with pytest.raises(UsageError, match="precision 'perfect'"):
        load_predictor("wall", precision="perfect")


def test_embedded_is_the_network_and_paths_are_files(tmp_path, monkeypatch):
    write_tiny_weights(tmp_path / "wall")
    monkeypatch.chdir(tmp_path)
    assert is_installed("wall")
    assert not is_installed("embedded")
    assert load_predictor("embedded").traits.finds_likeness
    assert load_predictor("./wall").traits.size == 64
    assert load_predictor("./wall").identity("./wall").name == "tiny"
