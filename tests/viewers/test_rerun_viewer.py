"""A recording holds what the scene holds, on both timelines, and is whole or not there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rerun.chunk import RrdReader
from stereo4d_plugins.viewers import rerun_process, rerun_viewer
from stereo4d_plugins.viewers.clouds import static_cloud
from stereo4d_plugins.viewers.rerun_look import HALF_VIEW, Look, blueprint
from stereo4d_plugins.viewers.rerun_viewer import RerunViewer

from stereo4d.types import Scene
from tests.recordings import columns_of
from tests.scenes import wall_and_ball


@pytest.fixture(scope="module")
def scene() -> Scene:
    return wall_and_ball()


@pytest.fixture(scope="module")
def recording(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.to_rerun(tmp_path_factory.mktemp("rrd") / "deep" / "scene.rrd")


def rows(recording: Path, entity: str) -> list[pa.RecordBatch]:
    """What a recording holds of one entity, one batch a time."""
    batches = [chunk.to_record_batch() for chunk in RrdReader(recording).stream().filter(content=entity)]
    return [batch.slice(i, 1) for batch in batches for i in range(batch.num_rows)]


def verify(recording: Path) -> subprocess.CompletedProcess[str]:
    command = [rerun_process.executable(), "rrd", "verify", recording]
    return subprocess.run(command, capture_output=True, text=True, env=rerun_process.environment())


def test_rerun_itself_finds_no_fault_in_a_recording(recording):
    result = verify(recording)
    assert result.returncode == 0, result.stderr


def test_rerun_finds_the_fault_in_a_torn_recording(recording, tmp_path):
    torn = tmp_path / "torn.rrd"
    torn.write_bytes(recording.read_bytes()[:-500])
    assert verify(torn).returncode != 0


def test_a_recording_brings_its_layout_along_and_activates_it(recording):
    command = [rerun_process.executable(), "rrd", "print", recording]
    listing = subprocess.run(command, capture_output=True, text=True, env=rerun_process.environment()).stdout
    assert "make_active: true, make_default: true" in listing
    assert listing.count("EyeControls3D:position") == 2
    assert "TimePanelBlueprint:timeline" in listing


def test_a_recording_has_these_entities_on_these_timelines(recording):
    moving = {
        "/world/camera": "Transform3D:translation",
        "/world/camera/image": "Pinhole:image_from_camera",
        "/world/camera/image/rgb": "EncodedImage:blob",
        "/world/camera/image/depth": "DepthImage:buffer",
        "/confidence": "EncodedImage:blob",
        "/world/camera_path": "LineStrips3D:strips",
        "/world/points/dynamic": "Points3D:positions",
    }
    columns = columns_of(recording)
    for entity, column in moving.items():
        assert {"frame", "time", column} <= columns[entity], entity
    assert {"frame", "time"}.isdisjoint(columns["/world/points/static"])
    assert not any({"log_time", "log_tick"} & names for names in columns.values())


def test_times_are_those_of_the_scene(recording, scene):
    batches = rows(recording, "/world/camera")
    frames = [batch.column("frame")[0].as_py() for batch in batches]
    seconds = [batch.column("time")[0].as_py().total_seconds() for batch in batches]
    assert frames == scene.frame_indices.tolist()
    np.testing.assert_allclose(seconds, scene.times, atol=1e-9)


def test_depth_is_stored_in_half_precision_as_it_is(recording, scene):
    batches = rows(recording, "/world/camera/image/depth")
    for batch, depth in zip(batches, scene.depth, strict=True):
        stored = np.frombuffer(bytes(batch.column("DepthImage:buffer")[0].as_py()[0]), np.float16)
        np.testing.assert_array_equal(stored.reshape(depth.shape), depth)


def test_dynamic_points_lie_on_the_ball_at_every_time(recording, scene):
    batches = rows(recording, "/world/points/dynamic")
    assert len(batches) == len(scene)
    for i, batch in enumerate(batches):
        points = np.array(batch.column("Points3D:positions")[0].as_py())
        assert len(points) > 10
        radius = np.linalg.norm(points - [-0.6 + 0.4 * i, 0.1, 2.5], axis=1)
        np.testing.assert_allclose(radius, 0.5, atol=0.01)  # half precision of depth


def test_static_points_are_stored_once_and_lie_on_the_wall(recording):
    (batch,) = rows(recording, "/world/points/static")
    points = np.array(batch.column("Points3D:positions")[0].as_py())
    assert len(points) > 400
    np.testing.assert_allclose(points[:, 2], 4.0, atol=0.01)


def test_the_camera_path_grows_from_frame_to_frame(recording, scene):
    for i, batch in enumerate(rows(recording, "/world/camera_path")):
        (strip,) = batch.column("LineStrips3D:strips")[0].as_py()
        np.testing.assert_allclose(strip, scene.cam2world[: i + 1, :3, 3])


def test_the_camera_path_of_a_long_video_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(rerun_viewer, "PATH_VERTICES", 7)
    scene = wall_and_ball(frames=12, height=4, width=4)
    last = rows(scene.to_rerun(tmp_path / "long.rrd"), "/world/camera_path")[-1]
    (strip,) = last.column("LineStrips3D:strips")[0].as_py()
    assert len(strip) == 7
    np.testing.assert_allclose([strip[0], strip[-1]], scene.cam2world[[0, -1], :3, 3], rtol=1e-6)


def test_a_scene_that_does_not_know_what_moves_shows_what_each_frame_sees(scene, tmp_path):
    blind = dataclasses.replace(scene, dynamic=np.zeros_like(scene.dynamic))
    batches = rows(blind.to_rerun(tmp_path / "blind.rrd"), "/world/points/frame")
    assert len(batches) == len(scene)
    assert rows(tmp_path / "blind.rrd", "/world/points/dynamic") == []


@pytest.mark.parametrize("hole", ["no depth", "one frame", "flat confidence"])
def test_poor_scenes_give_a_whole_recording_too(scene, tmp_path, hole):
    if hole == "no depth":
        scene = dataclasses.replace(scene, depth=np.zeros_like(scene.depth))
    elif hole == "one frame":
        scene = wall_and_ball(frames=1)
    else:
        scene = dataclasses.replace(scene, confidence=np.ones_like(scene.confidence))
    assert verify(scene.to_rerun(tmp_path / "poor.rrd")).returncode == 0


def test_points_per_frame_and_of_the_static_cloud_are_capped(scene, tmp_path):
    viewer = RerunViewer(static_points=100, frame_points=20)
    viewer.write(scene, tmp_path / "small.rrd")
    (static,) = rows(tmp_path / "small.rrd", "/world/points/static")
    assert 50 < len(static.column("Points3D:positions")[0].as_py()) <= 100
    for batch in rows(tmp_path / "small.rrd", "/world/points/dynamic"):
        assert len(batch.column("Points3D:positions")[0].as_py()) == 20


def test_the_eye_starts_behind_and_above_the_first_camera_with_the_cloud_in_view(scene):
    look = Look.of(scene)
    cloud = static_cloud(scene, look.confidence_floor, limit=10_000)
    space = blueprint(scene, cloud, look).root_container.contents[0]
    eye = space.properties["EyeControls3D"]
    position, target, up = (
        np.asarray(getattr(eye, name).as_arrow_array().to_pylist()[0]) for name in ("position", "look_target", "eye_up")
    )
    assert position[2] < 0  # the first camera is at the origin and looks along z
    assert position[1] < 0  # y points down
    assert up[1] < 0
    gaze = (target - position) / np.linalg.norm(target - position)
    offsets = np.concatenate([cloud.points, scene.cam2world[:, :3, 3]]) - position
    along = offsets @ gaze
    away = np.linalg.norm(offsets - along[:, None] * gaze, axis=1)
    assert np.mean((along > 0) & (away < np.hypot(*HALF_VIEW) * along)) > 0.85


def test_a_full_disk_is_named_and_leaves_no_recording(scene, tmp_path):
    # A file-size limit stops the write in the kernel, as a full disk does.
    scene.save(tmp_path / "scene")
    code = """
import resource, sys
from stereo4d.errors import OutputError
from stereo4d.types import Scene
scene = Scene.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    scene.to_rerun(sys.argv[2])
except OutputError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, tmp_path / "scene", tmp_path / "out" / "scene.rrd"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "out" / "scene.rrd") in result.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_all_frames_together_hold_no_more_points_than_asked_for(scene, tmp_path):
    limit = 40 * len(scene)
    path = RerunViewer(all_frames_points=limit).write(scene, tmp_path / "few.rrd")
    entity = "/world/points/" + Look.of(scene).moving_name
    counts = [len(row.column("Points3D:positions")[0]) for row in rows(path, entity)]
    assert 0 < sum(counts) <= limit
    assert max(counts) > 20
