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
from stereo4d.types import MotionSamples, Scene
from tests.scenes import wall_and_ball


@pytest.fixture
def scene() -> Scene:
    return wall_and_ball()


def test_a_scene_comes_back_as_it_was_saved(scene, tmp_path):
    loaded = Scene.load(dataclasses.replace(scene, scale="metric (test)").save(tmp_path / "scene"))
    for field in dataclasses.fields(Scene):
        if field.name not in ("scale", "manifest", "motion_samples", "maps"):
            saved, read = getattr(scene, field.name), getattr(loaded, field.name)
            assert read.dtype == saved.dtype, field.name
            np.testing.assert_array_equal(read, saved)
    assert loaded.scale == "metric (test)"
    assert loaded.manifest == {"format_version": 1, "input": {"path": "wall_and_ball"}, "scale": "metric (test)"}


def with_motion(scene: Scene) -> Scene:
    """The same scene with motion between its neighbours, and maps of a further head."""
    size = scene.depth.shape[1:]
    draw = np.random.default_rng(0)
    samples = MotionSamples(
        np.array([(0, 1), (1, 0), (1, 2), (2, 1)]),
        np.array([0.5, 1.0]),
        draw.normal(size=(4, 2, *size, 3)).astype(np.float16),
        1 + draw.random((4, 2, *size)).astype(np.float16),
    )
    maps = {"normals.normal": draw.normal(size=(*scene.depth.shape, 3)).astype(np.float16)}
    manifest = {"maps": {"normals.normal": {"frame": "own", "activation": "unit length", "shown_as": "normals"}}}
    return dataclasses.replace(scene, motion_samples=samples, maps=maps, manifest=manifest)


def test_motion_and_maps_come_back_mapped(scene, tmp_path):
    saved = with_motion(scene)
    loaded = Scene.load(saved.save(tmp_path))
    for field in dataclasses.fields(MotionSamples):
        before, read = getattr(saved.motion_samples, field.name), getattr(loaded.motion_samples, field.name)
        assert read.dtype == before.dtype, field.name
        np.testing.assert_array_equal(read, before)
    assert isinstance(loaded.motion_samples.displacement, np.memmap)
    assert isinstance(loaded.motion_samples.confidence, np.memmap)
    assert list(loaded.maps) == ["normals.normal"]
    assert isinstance(loaded.maps["normals.normal"], np.memmap)
    np.testing.assert_array_equal(loaded.maps["normals.normal"], saved.maps["normals.normal"])
    assert loaded.manifest["maps"]["normals.normal"]["shown_as"] == "normals"
    np.testing.assert_array_equal(loaded.at(0.05).points, saved.at(0.05).points)


def test_a_scene_without_motion_says_so_when_it_comes_back(scene, tmp_path):
    # as folders are that were written before there was motion
    loaded = Scene.load(scene.save(tmp_path))
    assert loaded.motion_samples is None
    assert loaded.maps == {}


def test_motion_beyond_half_precision_is_not_known(scene, tmp_path):
    scene = with_motion(scene)
    displacement = scene.motion_samples.displacement.astype(np.float64)
    confidence = scene.motion_samples.confidence.astype(np.float64)
    displacement[0, 0, 0, 0] = (1e6, -1e6, np.inf)
    confidence[0, 0, 0, :3] = (1e9, np.inf, np.nan)
    samples = dataclasses.replace(scene.motion_samples, displacement=displacement, confidence=confidence)
    loaded = Scene.load(dataclasses.replace(scene, motion_samples=samples).save(tmp_path)).motion_samples
    assert np.isnan(loaded.displacement[0, 0, 0, 0]).all()
    assert loaded.confidence[0, 0, 0, :3].tolist() == [65504, 65504, 1]


@pytest.mark.parametrize(
    ("name", "damaged", "said"),
    [
        ("motion_times", None, "lacks motion_times"),
        ("motion_edges", None, "lacks motion_edges"),
        ("motion_times", np.array([1.0]), "motion_times is float64|motion_displacement is float16"),
        ("motion_times", np.array([0.5, 0.9]), "motion_times .* must ascend"),
        ("motion_times", np.array([np.nan, 1.0]), "motion_times .* must ascend"),
        ("motion_edges", np.array([(0, 1), (1, 0), (1, 2), (2, 9)]), "motion_edges must lead"),
        ("motion_edges", np.array([(0, 1), (1, 0), (1, 2), (2, 2)]), "motion_edges must lead"),
        ("motion_displacement", np.zeros((4, 2, 3, 32, 3), np.float16), "motion_displacement is float16"),
        ("motion_confidence", np.zeros((4, 2, 24, 32)), "motion_confidence is float64"),
        ("maps/normals.normal", np.zeros((1, 24, 32, 3), np.float16), "maps/normals.normal is float16"),
        ("maps/normals.normal", np.zeros((), np.float16), "maps/normals.normal is float16"),
    ],
)
def test_damaged_motion_and_maps_are_named(scene, tmp_path, name, damaged, said):
    with_motion(scene).save(tmp_path)
    arrays = dict(map_arrays(tmp_path / SCENE_FILE)) | {name: damaged}
    save_arrays(tmp_path / SCENE_FILE, {key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(SceneError, match=said):
        Scene.load(tmp_path)


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
