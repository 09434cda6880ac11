"""The recording of an alignment holds what its steps hold, on a timeline of iterations."""

from __future__ import annotations

import dataclasses
import io
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from rerun.chunk import RrdReader
from stereo4d_plugins.viewers import rerun_alignment, rerun_process
from stereo4d_plugins.viewers.alignment_look import CAMERAS, HALF_VIEW, LOSS, AlignmentLook, blueprint, frustums
from stereo4d_plugins.viewers.rerun_viewer import RerunViewer

from stereo4d.alignment import align
from stereo4d.alignment.watching import AlignmentStep
from stereo4d.errors import OutputError, ShapeError, UsageError
from stereo4d.geometry.rigid import rotation_from_vector
from stereo4d.viewing import load_viewer
from tests.alignment_steps import settling
from tests.recordings import columns_of
from tests.worlds import problem_of

RGB = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def steps() -> list[AlignmentStep]:
    return settling()


@pytest.fixture(scope="module")
def recording(steps: list[AlignmentStep], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rrd") / "deep" / "alignment.rrd"
    assert load_viewer("rerun").write_alignment(steps, path, rgb=RGB) == path
    return path


def rows(recording: Path, entity: str, column: str) -> list[tuple[int, object]]:
    """(iteration, value) of everything that a recording holds of one entity's column, in order."""
    found = []
    for chunk in RrdReader(recording).stream().filter(content=entity):
        batch: pa.RecordBatch = chunk.to_record_batch()
        if "iteration" in batch.schema.names:
            found += zip(batch.column("iteration").to_pylist(), batch.column(column).to_pylist(), strict=True)
    return found


def verify(recording: Path) -> subprocess.CompletedProcess[str]:
    command = [rerun_process.executable(), "rrd", "verify", recording]
    return subprocess.run(command, capture_output=True, text=True, env=rerun_process.environment())


def test_rerun_itself_finds_no_fault_in_a_recording(recording):
    result = verify(recording)
    assert result.returncode == 0, result.stderr


def test_a_level_that_begins_where_the_one_before_ended_is_no_iteration(steps):
    assert rerun_alignment.iterations(steps) == [0, 1, 2, 3, 3, 4, 5]
    moved = dataclasses.replace(steps[4], cam2world=steps[5].cam2world)
    assert rerun_alignment.iterations([*steps[:4], moved]) == [0, 1, 2, 3, 4]


def test_a_recording_has_these_entities_on_the_timeline_of_iterations(recording):
    moving = {
        "/world/cameras": "LineStrips3D:strips",
        "/world/path": "LineStrips3D:strips",
        "/world/moved": "LineStrips3D:strips",
        "/world/ends": "Points3D:positions",
        "/loss/level_0": "Scalars:scalars",
        "/loss/level_1": "Scalars:scalars",
        "/log10_loss/level_0": "Scalars:scalars",
        "/focal": "Scalars:scalars",
        "/residual": "EncodedImage:blob",
    }
    columns = columns_of(recording)
    for entity, column in moving.items():
        assert {"iteration", column} <= columns[entity], entity
    for entity in ("/world/start", "/frames"):
        assert "iteration" not in columns[entity]
    assert not any({"log_time", "log_tick", "frame", "time"} & names for names in columns.values())


def test_each_level_has_its_own_loss_at_its_iterations(recording, steps):
    for level, numbers in ((0, [0, 1, 2, 3]), (1, [3, 4, 5])):
        told = rows(recording, f"/loss/level_{level}", "Scalars:scalars")
        assert told == [
            (i, [step.loss]) for i, step in zip(numbers, (s for s in steps if s.level == level), strict=True)
        ]
        logs = rows(recording, f"/log10_loss/level_{level}", "Scalars:scalars")
        np.testing.assert_allclose([v[0] for _, v in logs], np.log10([v[0] for _, v in told]))


def test_a_real_alignment_is_recorded_step_by_step_with_its_losses(tmp_path):
    _, problem = problem_of(4, noise=0.01)
    steps: list[AlignmentStep] = []
    result = align(problem, watch=steps.append)
    path = RerunViewer().write_alignment(steps, tmp_path / "a.rrd")
    assert verify(path).returncode == 0
    assert rerun_alignment.iterations(steps)[-1] == result.iterations
    for level, losses in enumerate(result.losses):
        told = rows(path, f"/loss/level_{level}", "Scalars:scalars")
        assert [value for _, (value,) in told] == list(losses)
    (centres,) = rows(path, "/world/path", "LineStrips3D:strips")[-1][1]
    np.testing.assert_allclose(centres, result.cam2world[:, :3, 3], atol=1e-6)


def test_curves_are_named_by_their_grid_of_pixels(recording):
    for level, name in ((0, "coarse grid, 6 × 4"), (1, "fine grid, 12 × 8")):
        chunks = [
            chunk.to_record_batch() for chunk in RrdReader(recording).stream().filter(content=f"/loss/level_{level}")
        ]
        names = [b.column("SeriesLines:names")[0].as_py() for b in chunks if "SeriesLines:names" in b.schema.names]
        assert names == [[name]]


def test_one_focal_of_all_frames_is_one_curve_and_many_are_many(recording, steps, tmp_path):
    told = rows(recording, "/focal", "Scalars:scalars")
    assert [values for _, values in told] == [[step.intrinsics[0, 0, 0].item()] for step in steps]
    freed = steps[-1].intrinsics.clone()
    freed[:, 0, 0] += torch.arange(5)
    path = RerunViewer().write_alignment(
        [*steps[:-1], dataclasses.replace(steps[-1], intrinsics=freed)], tmp_path / "a.rrd"
    )
    assert [len(values) for _, values in rows(path, "/focal", "Scalars:scalars")] == [5] * len(steps)


def test_cameras_and_their_path_move_with_the_iterations(recording, steps):
    paths = rows(recording, "/world/path", "LineStrips3D:strips")
    cameras = rows(recording, "/world/cameras", "LineStrips3D:strips")
    moved = rows(recording, "/world/moved", "LineStrips3D:strips")
    start = steps[0].cam2world[:, :3, 3].numpy()
    for step, (_, path), (_, lines), (_, trails) in zip(steps, paths, cameras, moved, strict=True):
        centres = step.cam2world[:, :3, 3].numpy()
        np.testing.assert_allclose(path, centres[None])
        np.testing.assert_allclose(np.array(lines)[:, 7], centres)
        np.testing.assert_allclose(trails, np.stack([start, centres], 1))


def test_a_drawn_camera_projects_to_the_border_of_its_image():
    cam2world = np.tile(np.eye(4), (2, 1, 1))
    cam2world[:, :3, :3] = rotation_from_vector(torch.tensor([[0.3, -1.0, 0.2], [2.0, 0.4, 0.1]]))
    cam2world[:, :3, 3] = (1, 2, 3), (-4, 0, 5)
    intrinsics = np.array([[[50.0, 0, 20], [0, 60, 11], [0, 0, 1]], [[30, 0, 23.5], [0, 30, 15.5], [0, 0, 1]]])
    lines = frustums(cam2world, intrinsics, (32, 48), 0.2)
    camera = (lines - cam2world[:, None, :3, 3]) @ cam2world[:, :3, :3]
    corners = camera[:, [2, 3, 4, 5]]  # upper left, upper right, lower right, lower left
    np.testing.assert_allclose(corners[..., 2], 0.2, atol=1e-6)
    pixels = (corners @ intrinsics.transpose(0, 2, 1)) / corners[..., 2:]
    border = [(-0.5, -0.5), (47.5, -0.5), (47.5, 31.5), (-0.5, 31.5)]
    np.testing.assert_allclose(pixels[..., :2], [border, border], atol=1e-3)
    gable = camera[:, 1] @ intrinsics[0].T
    assert gable[0, 1] / gable[0, 2] < -5  # above the image: rows count downward


def test_residual_images_keep_their_size_and_range_and_darken_as_the_residual_falls(recording, steps):
    blobs = rows(recording, "/residual", "EncodedImage:blob")
    images = [np.asarray(Image.open(io.BytesIO(bytes(blob[0]))).convert("RGB")) for _, blob in blobs]
    assert [i for i, _ in blobs] == rerun_alignment.iterations(steps)
    assert len({image.shape for image in images}) == 1
    look = AlignmentLook.of(steps, RGB)
    for step, image in zip(steps, images, strict=True):
        exact = look.sheet.shares(step.residual.numpy(), look.residual_top).astype(int)
        assert np.abs(image - exact).mean() < 0.5
        assert np.quantile(np.abs(image - exact), 0.999) < 12  # of the palette
    brightness = [image.mean() for image in images]
    assert brightness[0] > brightness[1] > brightness[2] > brightness[3]
    assert brightness[0] > 2 * brightness[-1]


def test_the_colours_of_residuals_end_where_the_end_of_the_alignment_can_be_read(steps):
    wild = [dataclasses.replace(steps[0], residual=1000 * steps[0].residual), *steps[1:]]
    last = float(steps[-1].residual.max())
    assert AlignmentLook.of(wild, None).residual_top == pytest.approx(4 * last, rel=0.05)
    assert AlignmentLook.of(steps, None).residual_top == pytest.approx(float(steps[0].residual.max()), rel=0.05)


def test_without_frames_the_size_of_the_images_comes_from_the_cameras(steps, tmp_path):
    assert AlignmentLook.of(steps, None).image_size == (32, 48)
    path = RerunViewer().write_alignment(steps, tmp_path / "a.rrd")
    assert verify(path).returncode == 0
    assert list(RrdReader(path).stream().filter(content="/frames")) == []


def test_the_eye_starts_above_the_first_camera_with_all_cameras_in_view(steps):
    look = AlignmentLook.of(steps, None)
    eye = blueprint(steps, look, with_rgb=False).root_container.contents[0].properties["EyeControls3D"]
    position, target, up = (
        np.asarray(getattr(eye, name).as_arrow_array().to_pylist()[0]) for name in ("position", "look_target", "eye_up")
    )
    np.testing.assert_allclose(up, [0, -1, 0])
    assert position[1] < target[1]  # y points down
    gaze = (target - position) / np.linalg.norm(target - position)
    offsets = np.concatenate([step.cam2world[:, :3, 3].numpy() for step in (steps[0], steps[-1])]) - position
    along = offsets @ gaze
    away = np.linalg.norm(offsets - along[:, None] * gaze, axis=1)
    assert (along > 0).all()
    assert (away <= np.hypot(*HALF_VIEW) * along).all()


@pytest.mark.parametrize("poor", ["one step", "one frame", "no residual", "all in one place", "no loss"])
def test_poor_alignments_give_a_whole_recording_too(steps, tmp_path, poor):
    if poor == "one step":
        steps = steps[:1]
    elif poor == "one frame":
        steps = settling(frames=1)
    elif poor == "no residual":
        steps = [dataclasses.replace(step, residual=torch.full_like(step.residual, torch.nan)) for step in steps]
    elif poor == "all in one place":
        steps = [dataclasses.replace(step, cam2world=torch.eye(4).repeat(5, 1, 1)) for step in steps]
    else:
        steps = [dataclasses.replace(step, loss=0.0) for step in steps]
    path = RerunViewer().write_alignment(steps, tmp_path / "poor.rrd")
    assert verify(path).returncode == 0
    assert len(rows(path, "/residual", "EncodedImage:blob")) == len(steps)


def test_a_long_clip_gives_a_small_file_and_thousands_of_steps_a_bounded_one(tmp_path):
    long = settling(frames=60, coarse=8, fine=7)
    noise = torch.Generator().manual_seed(0)
    noisy = [
        dataclasses.replace(
            s, residual=0.05 * torch.rand(60, 36 // (2 - s.level), 64 // (2 - s.level), generator=noise)
        )
        for s in long
    ]
    rgb = np.random.default_rng(0).integers(0, 255, (60, 288, 512, 3), dtype=np.uint8)
    path = RerunViewer().write_alignment(noisy, tmp_path / "long.rrd", rgb=rgb)
    assert path.stat().st_size < 2_000_000
    dense = torch.rand(5, 96, 144, generator=noise)
    steps = [dataclasses.replace(step, residual=dense) for step in settling(coarse=500, fine=500)]
    many = RerunViewer().write_alignment(steps, tmp_path / "many.rrd")
    assert many.stat().st_size < 4_000_000
    assert len(rows(many, "/loss/level_0", "Scalars:scalars")) == 500
    shown = [i for i, _ in rows(many, "/residual", "EncodedImage:blob")]
    assert len(shown) == rerun_alignment.MOST_STATES
    assert (shown[0], shown[-1]) == (0, 998)


def test_what_cannot_be_shown_is_named(steps, tmp_path):
    viewer = RerunViewer()
    with pytest.raises(UsageError, match=r"without steps .*watch=steps\.append"):
        viewer.write_alignment([], tmp_path / "a.rrd")
    with pytest.raises(ShapeError, match=r"rgb is \(3, 32, 48, 3\) uint8, but must be \(5, H, W, 3\)"):
        viewer.write_alignment(steps, tmp_path / "a.rrd", rgb=RGB[:3])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        viewer.write_alignment(steps, tmp_path / "file" / "a.rrd")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_picture_shows_the_iteration_asked_for(recording, tmp_path):
    try:
        with rerun_process.HeadlessViewer(recording, size=(900, 640)) as viewer:
            pictures = {}
            for iteration in (0, None):
                viewer.go_to(iteration)
                shot = Image.open(io.BytesIO(viewer.picture(CAMERAS)))
                pictures[iteration] = np.asarray(shot.convert("RGB")).astype(int)
            names, problems = set(viewer.view_names()), viewer.problems()
            with pytest.raises(
                UsageError, match=r"iteration 6 is not in .*alignment\.rrd, which holds iterations 0 to 5"
            ):
                viewer.go_to(6)
    except OutputError as error:
        if "Vulkan" not in str(error):
            raise
        pytest.skip("no Vulkan driver is here: a software one will do (Debian: apt install mesa-vulkan-drivers)")
    assert problems == []
    assert {LOSS, "Focal (pixels)", "The same frames"} <= names
    for picture in pictures.values():
        assert 0.002 < (picture.max(-1) > 90).mean() < 0.5
    assert (np.abs(pictures[0] - pictures[None]).max(-1) > 60).mean() > 0.002  # the cameras moved
