"""Exports are whole or not there, replace nothing that is not theirs, and come in through the entry points."""

from __future__ import annotations

import json

import pytest

from stereo4d import __version__
from stereo4d.errors import OutputError, PluginError, UsageError
from stereo4d.exporting import Exporter
from tests.full_disk import files_up_to
from tests.moving_scenes import true_scene


@pytest.fixture(scope="module")
def scene():
    return true_scene(frames=2, height=24, width=32).scene


class Greeting(Exporter):
    """Writes a line into a folder of its own."""

    def write(self, scene, folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "greeting.txt").write_text(f"{len(scene)} frames\n")


class Clumsy(Exporter):
    """Stops half-way."""

    def write(self, scene, folder):
        (folder / "first.txt").write_text("there")
        raise ValueError("the second file")


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Exporters of another package, and an entry point that names none."""
    info = tmp_path / "site" / "strangers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    names = {"greeting": "tests.test_exporting:Greeting", "clumsy": "tests.test_exporting:Clumsy", "odd": "math:pi"}
    lines = "".join(f"{name} = {value}\n" for name, value in names.items())
    (info / "entry_points.txt").write_text(f"[stereo4d.exporters]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def everything_in(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_exporter_of_another_package_is_one_class(scene, strangers, tmp_path):
    assert scene.export(["greeting"], tmp_path / "out") == [tmp_path / "out"]
    assert (tmp_path / "out" / "deep" / "greeting.txt").read_text() == "2 frames\n"


def test_the_note_says_what_the_format_cannot(scene, strangers, tmp_path):
    told = scene.with_manifest({"input": {"path": "my.mp4"}})
    (folder,) = told.export(["greeting"], tmp_path / "out")
    assert json.loads((folder / "export.json").read_text()) == {
        "exporter": "greeting",
        "made_by": f"stereo4d {__version__}",
        "input": {"path": "my.mp4"},
        "scale": "unknown",
        "frame_indices": [0, 1],
        "times": [0, 2],
        "files": ["deep/greeting.txt", "export.json"],
    }


def test_several_formats_get_a_folder_each(scene, strangers, tmp_path):
    folders = scene.export(["greeting", "monst3r"], tmp_path / "out")
    assert folders == [tmp_path / "out" / "greeting", tmp_path / "out" / "monst3r"]
    assert all((folder / "export.json").is_file() for folder in folders)


@pytest.mark.parametrize("formats", [["clumsy"], ["greeting", "clumsy"], ["clumsy", "greeting"]])
def test_an_exporter_that_fails_leaves_nothing_of_any_format(scene, strangers, tmp_path, formats):
    with pytest.raises(ValueError, match="the second file"):
        scene.export(formats, tmp_path / "new" / "out")
    assert everything_in(tmp_path / "new") == {}
    assert not (tmp_path / "new" / "out" / "greeting").exists()


def test_a_full_disk_leaves_nothing_and_says_so(scene, tmp_path):
    with files_up_to(500), pytest.raises(OutputError, match=r"out: .*make room or choose another place"):
        scene.export(["monst3r"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_replaced_only_when_asked_and_only_by_a_whole_one(scene, strangers, tmp_path):
    out = tmp_path / "out"
    scene.export(["greeting"], out)
    before = everything_in(out)
    with pytest.raises(OutputError, match="out: holds an export; say --overwrite"):
        scene.export(["monst3r"], out)
    with pytest.raises(ValueError, match="the second file"):
        scene.export(["clumsy"], out, overwrite=True)
    assert everything_in(out) == before
    scene.export(["monst3r"], out, overwrite=True)
    assert (out / "pred_traj.txt").is_file()
    assert not (out / "deep").exists()
    assert [path.name for path in tmp_path.iterdir()] in (["site", "out"], ["out", "site"])


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_of_an_export_is_never_replaced(scene, strangers, tmp_path, overwrite):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"not of an export \(thesis.txt\)"):
        scene.export(["greeting"], out, overwrite=overwrite)
    other = tmp_path / "other"
    scene.export(["greeting"], other)
    (other / "deep" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not of an export \(deep/notes.txt\)"):
        scene.export(["greeting"], other, overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: is a file"):
        scene.export(["greeting"], tmp_path / "file", overwrite=overwrite)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert (other / "deep" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_free(scene, strangers, tmp_path):
    (tmp_path / "out").mkdir()
    scene.export(["greeting"], tmp_path / "out")
    assert (tmp_path / "out" / "export.json").is_file()


@pytest.mark.parametrize("formats", [["gltf2"], [""], []])
def test_an_unknown_format_is_refused_with_those_there_are(scene, tmp_path, formats):
    with pytest.raises(UsageError, match="monst3r" if formats else "one name or more"):
        scene.export(formats, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_format_named_twice_is_refused(scene, tmp_path):
    with pytest.raises(UsageError, match="each once"):
        scene.export(["monst3r", "monst3r"], tmp_path / "out")


def test_an_entry_point_that_names_no_exporter_is_refused(scene, strangers, tmp_path):
    with pytest.raises(PluginError, match=r"'odd' of stereo4d\.exporters"):
        scene.export(["odd"], tmp_path / "out")
