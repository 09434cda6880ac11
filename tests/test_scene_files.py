"""Scene folders: what was saved is what is loaded; what is not whole is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stereo4d.errors import OutputError, SceneError
from stereo4d.scene_files import MANIFEST_FILE, SCENE_FILE, TRAJECTORY_FILE
from stereo4d.storage import map_arrays, save_arrays
from stereo4d.types import Scene
from tests.scenes import wall_and_ball


@pytest.fixture
def scene() -> Scene:
    return wall_and_ball()


def test_a_scene_comes_back_as_it_was_saved(scene, tmp_path):
    loaded = Scene.load(dataclasses.replace(scene, scale="metric (test)").save(tmp_path / "scene"))
    for field in dataclasses.fields(Scene):
        if field.name not in ("scale", "manifest"):
            saved, read = getattr(scene, field.name), getattr(loaded, field.name)
            assert read.dtype == saved.dtype, field.name
            np.testing.assert_array_equal(read, saved)
    assert loaded.scale == "metric (test)"
    assert loaded.manifest == {"format_version": 1, "input": {"path": "wall_and_ball"}, "scale": "metric (test)"}


def test_dense_arrays_are_mapped_and_small_ones_are_not(scene, tmp_path):
    loaded = Scene.load(scene.save(tmp_path))
    assert all(isinstance(getattr(loaded, name), np.memmap) for name in ("depth", "confidence", "dynamic", "rgb"))
    assert loaded.cam2world.flags.writeable


def test_opening_a_scene_reads_no_pixels(tmp_path):
    # 210 MB of scene open in no memory; only the frame that is asked for is read.
    scene = wall_and_ball(frames=2, height=8, width=8)
    big = {
        name: np.broadcast_to(getattr(scene, name)[:1, :1, :1], (30, 1000, 1000, *getattr(scene, name).shape[3:]))
        for name in ("depth", "confidence", "dynamic", "rgb")
    }
    small = {
        name: np.repeat(getattr(scene, name)[:1], 30, axis=0)
        for name in ("cam2world", "intrinsics", "times", "frame_indices", "intrinsics_original", "original_sizes")
    }
    dataclasses.replace(scene, **big, **small).save(tmp_path)
    code = "import resource, sys; from stereo4d.types import Scene; from stereo4d import storage, scene_files\n"
    code += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    code += "scene = Scene.load(sys.argv[1]); scene.depth[3].sum()\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    output = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert int(output) < 30_000  # kilobytes


def test_the_trajectory_is_in_tum_order(tmp_path):
    scene = wall_and_ball(frames=2)
    turn = Rotation.from_euler("y", 90, degrees=True)
    scene.cam2world[1] = np.eye(4)
    scene.cam2world[1, :3, :3] = turn.as_matrix()
    scene.cam2world[1, :3, 3] = (1, 2, 3)
    scene.save(tmp_path)
    rows = np.loadtxt(tmp_path / TRAJECTORY_FILE)
    np.testing.assert_allclose(rows[0], [0, 0, 0, 0, 0, 0, 0, 1], atol=1e-7)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rows[1], [0.1, 1, 2, 3, 0, half, 0, half], atol=1e-6)


def test_values_beyond_half_precision_become_no_measurement_and_full_confidence(scene, tmp_path):
    depth, confidence = np.array(scene.depth, np.float64), np.array(scene.confidence, np.float64)
    depth[0, 0, :3] = (1e6, np.nan, np.inf)
    confidence[0, 0, :3] = (1e9, np.inf, np.nan)
    loaded = Scene.load(dataclasses.replace(scene, depth=depth, confidence=confidence).save(tmp_path))
    assert loaded.depth[0, 0, :3].tolist() == [0, 0, 0]
    assert loaded.confidence[0, 0, :3].tolist() == [65504, 65504, 1]


@pytest.mark.parametrize("name", [SCENE_FILE, MANIFEST_FILE])
def test_a_folder_that_lacks_a_file_is_not_a_scene(scene, tmp_path, name):
    scene.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SceneError, match="not a whole scene"):
        Scene.load(tmp_path)


def test_a_scene_cut_short_is_refused(scene, tmp_path):
    scene.save(tmp_path)
    content = (tmp_path / SCENE_FILE).read_bytes()
    (tmp_path / SCENE_FILE).write_bytes(content[:-100])
    with pytest.raises(SceneError, match="cut short"):
        Scene.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format_version": 99})])
def test_a_manifest_that_is_none_is_refused(scene, tmp_path, text):
    scene.save(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(SceneError, match=MANIFEST_FILE):
        Scene.load(tmp_path)


def test_missing_and_misshapen_arrays_are_named(scene, tmp_path):
    scene.save(tmp_path)
    arrays = dict(map_arrays(tmp_path / SCENE_FILE))
    confidence = arrays.pop("confidence")
    save_arrays(tmp_path / SCENE_FILE, arrays)
    with pytest.raises(SceneError, match="lacks confidence"):
        Scene.load(tmp_path)
    save_arrays(tmp_path / SCENE_FILE, {**arrays, "confidence": confidence[:, 1:]})
    with pytest.raises(SceneError, match="confidence is float16"):
        Scene.load(tmp_path)


def test_a_scene_whose_arrays_disagree_is_not_saved(scene, tmp_path):
    with pytest.raises(OutputError, match="times is float64"):
        dataclasses.replace(scene, times=scene.times[1:]).save(tmp_path / "scene")
    assert not (tmp_path / "scene").exists()


def test_overwriting_a_scene_that_fails_leaves_no_scene(scene, tmp_path):
    # The old manifest must not vouch for new arrays.
    scene.save(tmp_path)
    (tmp_path / TRAJECTORY_FILE).unlink()
    (tmp_path / TRAJECTORY_FILE).mkdir()
    with pytest.raises(OutputError, match=TRAJECTORY_FILE):
        scene.save(tmp_path)
    with pytest.raises(SceneError):
        Scene.load(tmp_path)
