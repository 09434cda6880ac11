"""What a recording shows of motion and of the maps of further heads, read back from the file."""

from __future__ import annotations

import dataclasses
import io
import subprocess

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rerun.chunk import RrdReader
from stereo4d_plugins.viewers import rerun_motion, rerun_process

from tests.scenes import wall_and_ball, with_motion

CENTRES = np.array([[-0.6 + 0.4 * i, 0.1, 2.5] for i in range(12)])


def with_maps(scene):
    """Three maps, one of each kind that is shown as a picture, and one that is not shown."""
    frames, height, width = scene.depth.shape
    normals = np.zeros((frames, height, width, 3), np.float16)
    normals[..., 2], normals[:, :, : width // 2] = -1, (1, 0, 0)
    normals[:, 0, 0] = np.nan
    heat = np.broadcast_to(np.linspace(2, 5, width).astype(np.float16), (frames, height, width))
    maps = {
        "faces.normal": normals,
        "slow.share": heat,
        "slow.mask": scene.dynamic.astype(np.float16),
        "words.vector": normals,
    }
    kinds = {"faces.normal": "normals", "slow.share": "heat", "slow.mask": "mask", "words.vector": "nothing"}
    told = {name: {"frame": "", "activation": "", "shown_as": kind} for name, kind in kinds.items()}
    return dataclasses.replace(scene, maps=maps, manifest={**scene.manifest, "maps": told})


@pytest.fixture(scope="module")
def scene():
    return with_maps(with_motion(wall_and_ball(), times=(0.25, 0.5, 1.0)))


@pytest.fixture(scope="module")
def recording(scene, tmp_path_factory):
    return scene.to_rerun(tmp_path_factory.mktemp("rrd") / "scene.rrd")


def rows(path, entity: str) -> list[pa.RecordBatch]:
    """What a recording holds of one entity, one batch a time."""
    batches = [chunk.to_record_batch() for chunk in RrdReader(path).stream().filter(content=entity)]
    return [batch.slice(i, 1) for batch in batches for i in range(batch.num_rows)]


def values(batch: pa.RecordBatch, column: str) -> np.ndarray:
    return np.array(batch.column(column)[0].as_py(), np.float64)


def seconds(batch: pa.RecordBatch) -> float:
    return batch.column("time")[0].as_py().total_seconds()


def printed(path) -> str:
    command = [rerun_process.executable(), "rrd", "print", "-vvv", path]
    return subprocess.run(command, capture_output=True, text=True, env=rerun_process.environment()).stdout


def test_rerun_finds_no_fault_in_it(recording):
    command = [rerun_process.executable(), "rrd", "verify", recording]
    assert subprocess.run(command, capture_output=True, env=rerun_process.environment()).returncode == 0


def test_arrows_lead_from_the_ball_to_where_it_is_in_the_next_frame(recording, scene):
    batches = rows(recording, "/world/motion/arrows")
    assert len(batches) == len(scene)
    for i, batch in enumerate(batches[:-1]):
        origins, vectors = values(batch, "Arrows3D:origins"), values(batch, "Arrows3D:vectors")
        assert len(origins) == len(vectors) > 10
        np.testing.assert_allclose(np.linalg.norm(origins - CENTRES[i], axis=1), 0.5, atol=0.01)
        np.testing.assert_allclose(vectors, np.tile([0.4, 0, 0], (len(vectors), 1)), atol=1e-3)
    assert values(batches[-1], "Arrows3D:vectors").size == 0  # the last frame leads nowhere


def test_trails_follow_the_ball_behind_the_points_that_are_seen(recording, scene):
    batches = rows(recording, "/world/motion/trails")
    assert len(batches) == len(scene)
    for i, batch in enumerate(batches[1:], start=1):
        strips = batch.column("LineStrips3D:strips")[0].as_py()
        assert len(strips) > 10
        for strip in strips:
            assert len(strip) == i + 1
            offsets = np.array(strip) - CENTRES[: i + 1]
            np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 0.5, atol=0.02)
            np.testing.assert_allclose(np.diff(strip, axis=0), np.tile([0.4, 0, 0], (i, 1)), atol=0.02)


def test_between_frames_the_ball_is_where_it_is_then_and_only_on_the_timeline_of_time(recording, scene):
    between = [batch for batch in rows(recording, "/world/points/dynamic") if "frame" not in batch.schema.names]
    expected = [(i + share) for i in range(len(scene) - 1) for share in (0.25, 0.5)]
    assert sorted(seconds(batch) * 10 for batch in between) == pytest.approx(expected, abs=1e-6)
    for batch in between:
        at = seconds(batch) * 10
        points = values(batch, "Points3D:positions")
        assert len(points) > 10
        centre = CENTRES[0] + [0.4 * at, 0, 0]
        np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), 0.5, atol=0.01)


def picture(recording, name: str) -> np.ndarray:
    batch = rows(recording, f"/world/camera/image/maps/{name}")[1]
    return np.asarray(Image.open(io.BytesIO(bytes(batch.column("EncodedImage:blob")[0].as_py()[0])))).astype(int)


def test_directions_are_shown_as_colours(recording):
    shown = picture(recording, "faces/normal")
    assert np.abs(shown[12, 6] - (255, 127, 127)).max() < 12
    assert np.abs(shown[12, 26] - (127, 127, 0)).max() < 12
    assert shown[0, 0].sum() < shown[0, 8].sum()  # black where nothing is known


def test_masks_are_white_where_they_hold_and_heat_rises_to_yellow(recording, scene):
    mask, held = picture(recording, "slow/mask"), scene.dynamic[1] != 0
    assert mask[held].mean() > 200
    assert mask[~held].mean() < 20
    heat = picture(recording, "slow/share")
    assert heat[12, 1].sum() < 250 < heat[12, -2].sum()


def test_maps_have_views_of_their_own_and_stay_out_of_the_cloud(recording):
    layout = printed(recording)
    for name in ("faces.normal", "slow.share", "slow.mask"):
        assert name in layout
    assert "words" not in layout
    assert "- /world/camera/image/maps/**" in layout


def test_a_scene_without_motion_and_maps_has_neither_in_its_recording(tmp_path):
    path = wall_and_ball().to_rerun(tmp_path / "still.rrd")
    entities = {chunk.entity_path for chunk in RrdReader(path).stream()}
    assert not any("motion" in entity or "maps" in entity for entity in entities)
    assert "Heads" not in printed(path)


def test_arrows_trails_and_points_are_bounded_however_long_the_video_is(tmp_path, monkeypatch):
    limits = {"ARROWS": 7, "TRAILS": 8, "SEEDS": 2, "TRAIL_FRAMES": 3, "BETWEEN_POINTS": 9, "MOMENTS": 1}
    for name, value in limits.items():
        monkeypatch.setattr(rerun_motion, name, value)
    scene = with_motion(wall_and_ball(frames=8), times=(0.2, 0.4, 0.6, 1.0))
    path = scene.to_rerun(tmp_path / "bounded.rrd")
    for batch in rows(path, "/world/motion/arrows"):
        assert len(values(batch, "Arrows3D:vectors")) <= 7
    for batch in rows(path, "/world/motion/trails"):
        strips = batch.column("LineStrips3D:strips")[0].as_py()
        assert len(strips) <= 8
        assert all(len(strip) <= 3 for strip in strips)
    between = [batch for batch in rows(path, "/world/points/dynamic") if "frame" not in batch.schema.names]
    assert len(between) == 7
    assert all(len(values(batch, "Points3D:positions")) <= 9 for batch in between)
