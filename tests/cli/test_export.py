"""``stereo4d export`` as a person meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stereo4d.cli.main import main
from tests.full_disk import files_up_to
from tests.moving_scenes import true_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene folder."""
    return true_scene(frames=2, height=24, width=32).scene.save(tmp_path_factory.mktemp("scenes") / "scene")


def run(capsys, *argv) -> tuple[int, str, str]:
    code = main(["export", *map(str, argv)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_scene_folder_becomes_a_folder_of_the_format(scene, tmp_path, capsys):
    code, out, _ = run(capsys, scene, "--format", "monst3r", "--out", tmp_path / "out")
    assert (code, out) == (0, f"monst3r    {tmp_path / 'out'}\n")
    assert np.loadtxt(tmp_path / "out" / "pred_traj.txt").shape == (2, 8)


def test_json_says_where_exports_lie(scene, tmp_path, capsys):
    _, out, _ = run(capsys, scene, "--format", "monst3r", "--out", tmp_path / "out", "--json")
    assert json.loads(out) == {"scene": str(scene), "exports": {"monst3r": str(tmp_path / "out")}}


def test_an_export_is_not_replaced_unless_asked(scene, tmp_path, capsys):
    argv = (scene, "--format", "monst3r", "--out", tmp_path / "out", "--quiet")
    assert run(capsys, *argv) == (0, "", "")
    code, _, error = run(capsys, *argv)
    assert code == 1
    assert "out: holds an export; say --overwrite" in error
    assert run(capsys, *argv, "--overwrite") == (0, "", "")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("{scene}", "--format", "obj", "--out", "{new}"), 2, "--format 'obj' is not installed; there are "),
        (("{scene}", "--format", "monst3r,obj", "--out", "{new}"), 2, "--format 'obj'"),
        (("{scene}", "--format", "", "--out", "{new}"), 2, "--format ''"),
        (("{scene}", "--out", "{new}"), 2, "--format"),
        (("{scene}", "--format", "monst3r"), 2, "--out"),
        (("{scene}", "--format", "monst3r", "--out", "{scene}"), 1, "not of an export (manifest.json"),
        (("{scene}", "--format", "monst3r", "--out", "{scene}", "--overwrite"), 1, "not of an export (manifest.json"),
        (("{scene}", "--format", "monst3r", "--out", "{scene}/manifest.json"), 1, "is a file"),
        (("{scene}", "--format", "monst3r", "--out", "{scene}/manifest.json/x"), 1, "cannot write"),
        (("{new}", "--format", "monst3r", "--out", "{new}"), 1, "is not a whole scene"),
        (("{empty}", "--format", "monst3r", "--out", "{new}"), 1, "is not a whole scene"),
    ],
)
def test_what_cannot_be_is_one_line(scene, tmp_path, capsys, given, code, said):
    (tmp_path / "empty").mkdir()
    places = {"scene": scene, "new": tmp_path / "new", "empty": tmp_path / "empty"}
    found, out, error = run(capsys, *(word.format(**places) for word in given))
    assert (found, out) == (code, "")
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in scene.iterdir()) == ["manifest.json", "scene.safetensors", "trajectory.txt"]


def test_a_full_disk_is_one_line(scene, tmp_path, capsys):
    with files_up_to(500):
        code, _, error = run(capsys, scene, "--format", "monst3r", "--out", tmp_path / "out")
    assert code == 1
    assert error.count("\n") == 1
    assert "make room" in error
    assert list(tmp_path.iterdir()) == []
