"""Who may write into an output folder, and what an interrupted run leaves."""

import json
import mmap

import pytest

from stereo4d.errors import OutputError
from stereo4d.scene_files import MANIFEST_FILE, SCENE_FILE
from stereo4d.video.workspace import UNFINISHED, Workspace, settings_hash

SETTINGS = {"graph": "swin-3-noncyclic", "size": 64}


def finish_a_scene(folder):
    workspace = Workspace(folder, SETTINGS)
    (workspace.pairs / "pairs-00000.safetensors").write_text("x")
    (folder / SCENE_FILE).write_text("x")
    (folder / MANIFEST_FILE).write_text("{}")
    workspace.finish()


def test_a_new_folder_is_made_and_holds_only_the_hidden_one(tmp_path):
    Workspace(tmp_path / "a" / "b", SETTINGS)
    assert [entry.name for entry in (tmp_path / "a" / "b").iterdir()] == [UNFINISHED]


def test_a_folder_with_other_files_is_refused_even_with_overwrite(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"did not make \(thesis.tex\)"):
            Workspace(tmp_path, SETTINGS, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        Workspace(tmp_path / "out", SETTINGS)


def test_a_finished_scene_is_replaced_only_when_asked(tmp_path):
    finish_a_scene(tmp_path)
    with pytest.raises(OutputError, match="finished scene; say --overwrite"):
        Workspace(tmp_path, SETTINGS)
    workspace = Workspace(tmp_path, SETTINGS, overwrite=True)
    assert (tmp_path / MANIFEST_FILE).exists()  # the old scene stays whole until the new one is done
    workspace.clear_old_scene()
    assert [entry.name for entry in tmp_path.iterdir()] == [UNFINISHED]


def test_a_finished_run_leaves_nothing_unfinished_and_keeps_the_pairs(tmp_path):
    finish_a_scene(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [MANIFEST_FILE, "pairs", SCENE_FILE]
    assert (tmp_path / "pairs" / "pairs-00000.safetensors").exists()


def test_an_interrupted_run_goes_on_after_its_last_finished_stage(tmp_path):
    first = Workspace(tmp_path, SETTINGS)
    with first.stage("frames"):
        (first.pairs / "frames.safetensors").write_text("x")
    with pytest.raises(KeyboardInterrupt), first.stage("predictions"):
        raise KeyboardInterrupt
    second = Workspace(tmp_path, SETTINGS)
    assert second.done("frames")
    assert second.stages["frames"].reused
    assert not second.done("predictions")
    assert (second.pairs / "frames.safetensors").exists()


def test_other_settings_start_afresh(tmp_path):
    first = Workspace(tmp_path, SETTINGS)
    with first.stage("frames"):
        (first.pairs / "frames.safetensors").write_text("x")
    second = Workspace(tmp_path, SETTINGS | {"size": 128})
    assert not second.done("frames")
    assert list(second.pairs.iterdir()) == []


def test_a_torn_state_file_starts_afresh(tmp_path):
    first = Workspace(tmp_path, SETTINGS)
    with first.stage("frames"):
        pass
    (tmp_path / UNFINISHED / "state.json").write_text('{"settings_ha')
    assert not Workspace(tmp_path, SETTINGS).done("frames")


def test_a_stage_remembers_its_seconds_and_its_own_peak_memory(tmp_path):
    workspace = Workspace(tmp_path, SETTINGS)
    # straight from the system: an allocator may have as much in store from tests before
    with workspace.stage("large"), mmap.mmap(-1, 100 << 20) as memory:
        memory.write(bytes(1 << 20) * 100)
    with workspace.stage("small"):
        pass
    large, small = workspace.stages["large"], workspace.stages["small"]
    assert large.peak_memory_bytes - small.peak_memory_bytes > 80 << 20
    assert large.seconds > 0
    stored = json.loads((tmp_path / UNFINISHED / "state.json").read_text())
    assert stored["stages"]["large"]["peak_memory_bytes"] == large.peak_memory_bytes


def test_the_hash_depends_on_the_values_and_not_on_their_order():
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
