"""Archives, paths and points, read back by readers that know nothing of ours, are the scene."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from stereo4d import Scene
from tests.moving_scenes import true_scene


def test_an_archive_holds_every_array_of_the_scene_to_the_last_bit(made, tmp_path):
    (folder,) = made[0].export(["npz"], tmp_path / "out")
    with np.load(folder / "scene.npz") as found:
        stored = dict(found)
    arrays = {name: value for name, value in vars(made[0]).items() if isinstance(value, np.ndarray)}
    arrays |= {f"maps/{name}": value for name, value in made[0].maps.items()}
    assert set(stored) == set(arrays) | {"scale"}
    assert len(made[0].maps) > 0
    for name, value in arrays.items():
        assert stored[name].dtype == value.dtype
        np.testing.assert_array_equal(stored[name], value)
    assert str(stored["scale"]) == "unknown"


def test_an_archive_holds_motion_where_the_scene_does(tmp_path):
    scene = true_scene(frames=2, height=24, width=32).scene
    (folder,) = scene.export(["npz"], tmp_path / "out")
    with np.load(folder / "scene.npz") as found:
        for name in ("edges", "times", "displacement", "confidence"):
            np.testing.assert_array_equal(found[f"motion_{name}"], getattr(scene.motion_samples, name))


def test_a_path_in_tum_s_order_is_that_of_the_scene_folder(made, tmp_path):
    scene, own = made
    (folder,) = scene.export(["tum"], tmp_path / "out")
    assert (folder / "trajectory.txt").read_text() == (own / "trajectory.txt").read_text()
    rows = np.loadtxt(folder / "trajectory.txt")
    assert rows[:, 0] == pytest.approx(scene.times)
    assert rows[:, 1:4] == pytest.approx(scene.cam2world[:, :3, 3])
    # for small turns the quaternion is half the rotation vector, its last number near one
    for row, pose in zip(rows, scene.cam2world, strict=True):
        turned = np.array([pose[2, 1] - pose[1, 2], pose[0, 2] - pose[2, 0], pose[1, 0] - pose[0, 1]])
        assert 4 * row[7] * row[4:7] == pytest.approx(turned, abs=1e-6)


def read_ply(path) -> np.ndarray:
    """Records of a binary PLY of one element, by its own header."""
    data = path.read_bytes()
    text, _, rest = data.partition(b"end_header\n")
    lines = text.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(re.fullmatch(r"element vertex (\d+)", lines[2])[1])
    kinds = {"float": "<f4", "uchar": "u1", "int": "<i4"}
    properties = [line.split() for line in lines[3:]]
    dtype = np.dtype([(name, kinds[kind]) for word, kind, name in properties if word == "property"])
    assert len(rest) == count * dtype.itemsize
    return np.frombuffer(rest, dtype)


def check_points(scene: Scene, found: np.ndarray) -> None:
    for frame in range(len(scene)):
        here, measured = found[found["frame"] == frame], np.asarray(scene.depth[frame]) > 0
        assert (np.stack([here[axis] for axis in "xyz"], -1) == scene.points(frame)[measured]).all()
        colours = np.stack([here[name] for name in ("red", "green", "blue")], -1)
        assert (colours == np.asarray(scene.rgb[frame])[measured]).all()
        assert (here["confidence"] == np.asarray(scene.confidence[frame])[measured]).all()
        assert (here["dynamic"] == np.asarray(scene.dynamic[frame])[measured]).all()


def test_points_are_all_measured_pixels_of_all_frames(made, tmp_path):
    (folder,) = made[0].export(["ply"], tmp_path / "out")
    found = read_ply(folder / "points.ply")
    assert len(found) == made[0].depth.size
    check_points(made[0], found)


def test_pixels_without_a_depth_are_no_points(made, tmp_path):
    depth = np.array(made[0].depth)
    depth[1, 5:], depth[2] = 0, -1
    scene = replace(made[0], depth=depth)
    (folder,) = scene.export(["ply"], tmp_path / "out")
    found = read_ply(folder / "points.ply")
    assert len(found) == (depth > 0).sum() < depth.size
    check_points(scene, found)


def test_several_formats_at_once_are_the_same_as_one_by_one(made, tmp_path):
    folders = made[0].export(["npz", "tum", "ply", "monst3r"], tmp_path / "all")
    (alone,) = made[0].export(["ply"], tmp_path / "alone")
    assert [folder.name for folder in folders] == ["npz", "tum", "ply", "monst3r"]
    assert (folders[2] / "points.ply").read_bytes() == (alone / "points.ply").read_bytes()
