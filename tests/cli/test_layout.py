"""``--layout``: a finished scene in the files of another program, too."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stereo4d import Scene
from stereo4d.cli.main import main
from tests.truthful_predictor import install, truthful_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Images, and a predictor that knows the truth of them."""
    folder = tmp_path_factory.mktemp("clip")
    frames, truth = truthful_clip(folder / "clip", frames=2)
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "package", patch, truth)
        yield frames


def reconstruct(clip, out, *more) -> int:
    fixed = ["--weights", "truthful", "--motion", "off", "--query-times", "--layout", "monst3r"]
    return main(["reconstruct", str(clip), "--out", str(out), *fixed, *more])


def test_the_layout_lies_in_the_scene_folder_and_is_replaced_with_the_scene(clip, tmp_path, capsys):
    assert reconstruct(clip, tmp_path / "scene") == 0
    laid_out = tmp_path / "scene" / "monst3r"
    assert f"layout     {laid_out}\n" in capsys.readouterr().out
    scene = Scene.load(tmp_path / "scene")
    assert (np.load(laid_out / "frame_0001.npy") == scene.depth[1]).all()
    (laid_out / "pred_focal.txt").write_text("of an earlier scene\n")
    assert reconstruct(clip, tmp_path / "scene", "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scenes"][0]["layout"] == str(laid_out)
    assert np.loadtxt(laid_out / "pred_focal.txt") == pytest.approx(scene.intrinsics[:, 0, 0])
    argv = ["align", str(tmp_path / "scene"), "--out", str(tmp_path / "again"), "--motion", "off"]
    assert main([*argv, "--layout", "monst3r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == str(tmp_path / "again" / "monst3r")
    assert np.loadtxt(tmp_path / "again" / "monst3r" / "pred_traj.txt").shape == (2, 8)


@pytest.mark.parametrize("command", ["reconstruct", "align"])
def test_a_layout_that_does_not_exist_is_refused_before_any_work(clip, tmp_path, capsys, command):
    assert main([command, str(clip), "--out", str(tmp_path / "scene"), "--layout", "obj"]) == 2
    assert "--layout 'obj' is not installed; there are " in capsys.readouterr().err
    assert not (tmp_path / "scene").exists()


def test_files_in_the_layout_s_place_are_seen_before_any_work(clip, tmp_path, capsys):
    (tmp_path / "scene" / "monst3r").mkdir(parents=True)
    (tmp_path / "scene" / "monst3r" / "mine.txt").write_text("mine")
    assert reconstruct(clip, tmp_path / "scene") == 1
    assert "not of an export (mine.txt)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "scene").rglob("*")] == ["monst3r", "mine.txt"]
