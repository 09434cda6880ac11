from dataclasses import replace

import numpy as np
import pytest

from stereo4d.errors import ShapeError
from stereo4d.evaluation.scene_errors import scene_errors, true_depth_as_seen
from stereo4d.types import ClipTruth, PixelMap, Scene

FRAMES, HEIGHT, WIDTH = 4, 30, 40


def turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def made_clip() -> ClipTruth:
    """A camera that turns by 2 degrees a frame on a bent path, before a slanted ground."""
    cam2world = np.tile(np.eye(4), (FRAMES, 1, 1))
    for i in range(FRAMES):
        cam2world[i, :3, :3] = turn(np.radians(2 * i))
        cam2world[i, :3, 3] = [i, 0, 0.2 * i**2]
    intrinsics = np.array([[36.0, 0, WIDTH / 2], [0, 36.0, HEIGHT / 2], [0, 0, 1]])
    depth = 2 + np.arange(HEIGHT)[:, None] / 10 + np.arange(WIDTH) / 40 + np.arange(FRAMES)[:, None, None]
    return ClipTruth(
        cam2world=cam2world.astype(np.float32),
        intrinsics=np.tile(intrinsics, (FRAMES, 1, 1)).astype(np.float32),
        depth=depth.astype(np.float32),
        dynamic=np.zeros(depth.shape, np.uint8),
        times=np.arange(FRAMES) / 10,
    )


def perfect_scene(truth: ClipTruth, *, frames: tuple[int, ...] = (0, 1, 2, 3), scale: float = 0.5) -> Scene:
    """What an exact reconstruction of some frames is, at half resolution, two columns cut off on either side."""
    to_original = PixelMap(scale_u=2.0, scale_v=2.0, offset_u=4.0, offset_v=0.0)
    chosen = list(frames)
    cam2world = np.linalg.inv(truth.cam2world[chosen[0]]) @ truth.cam2world[chosen]
    cam2world[:, :3, 3] *= scale
    depth = scale * truth.depth[chosen][:, ::2, 4:-4:2]
    original = truth.intrinsics[chosen].astype(np.float64)
    return Scene(
        cam2world=cam2world.astype(np.float32),
        intrinsics=to_original.to_network(original).astype(np.float32),
        depth=depth.astype(np.float16),
        confidence=np.full(depth.shape, 2.0, np.float16),
        dynamic=np.zeros(depth.shape, np.uint8),
        rgb=np.zeros((*depth.shape, 3), np.uint8),
        times=truth.times[chosen],
        frame_indices=np.array(chosen),
        intrinsics_original=original,
        original_sizes=np.tile([HEIGHT, WIDTH], (len(chosen), 1)),
    )


@pytest.mark.parametrize("frames", [(0, 1, 2, 3), (0, 2), (1, 2, 3)])
def test_an_exact_scene_has_no_errors_whatever_its_scale_and_world(frames):
    truth = made_clip()
    errors = scene_errors(perfect_scene(truth, frames=frames), truth)
    assert errors.depth_abs_rel < 1e-3
    assert errors.depth_delta_125 == errors.depth_delta_125_per_frame == 1.0
    assert errors.focal_error < 1e-6
    assert errors.trajectory_error < 1e-6
    assert errors.rotation_error < 1e-3


def test_guesses_stand_beside_the_errors():
    truth = made_clip()
    errors = scene_errors(perfect_scene(truth), truth)
    assert errors.depth_abs_rel_constant > errors.depth_abs_rel_per_frame_constant > 0.1
    assert errors.depth_delta_125_constant < errors.depth_delta_125_per_frame_constant < 1
    assert errors.rotation_error_still == pytest.approx(2.0, abs=1e-4)
    assert errors.trajectory_error_still > 0.2


def test_the_truth_is_sampled_through_crop_and_resize():
    truth = made_clip()
    seen = true_depth_as_seen(perfect_scene(truth), truth, 2)
    assert np.array_equal(seen, truth.depth[2][::2, 4:-4:2])


def test_pixels_outside_the_clip_have_no_truth():
    truth = made_clip()
    scene = perfect_scene(truth)
    moved = scene.intrinsics_original.copy()
    moved[:, 0, 2] += 8.0
    seen = true_depth_as_seen(replace(scene, intrinsics_original=moved), truth, 0)
    assert (seen[:, -2:] == 0).all()
    assert (seen[:, :-2] > 0).all()


def test_a_drift_of_scale_shows_only_under_one_scale_for_the_clip():
    truth = made_clip()
    scene = perfect_scene(truth)
    drift = np.linspace(0.7, 1.3, FRAMES)[:, None, None]
    errors = scene_errors(replace(scene, depth=(drift * scene.depth).astype(np.float16)), truth)
    assert errors.depth_abs_rel > 0.1
    assert errors.depth_abs_rel_per_frame < 2e-3


def test_wrong_focal_path_and_rotation_are_told_in_their_units():
    truth = made_clip()
    scene = perfect_scene(truth)
    wrong = scene.cam2world.copy()
    for i in range(FRAMES):
        wrong[i, :3, :3] = wrong[i, :3, :3] @ turn(np.radians(0.5 * i))
    errors = scene_errors(replace(scene, cam2world=wrong, intrinsics_original=1.1 * scene.intrinsics_original), truth)
    assert errors.rotation_error == pytest.approx(0.5, abs=1e-3)
    assert errors.focal_error == pytest.approx(0.1, abs=1e-6)
    assert scene_errors(replace(scene, cam2world=wrong), truth, stride=2).rotation_error == pytest.approx(1.0, abs=1e-3)


def test_one_frame_has_depth_errors_and_no_path():
    truth = made_clip()
    errors = scene_errors(perfect_scene(truth, frames=(2,)), truth)
    assert errors.trajectory_error is None
    assert errors.rotation_error is None
    assert errors.depth_abs_rel < 1e-3
    assert len(errors.lines()) == 3


def test_a_camera_that_only_turns_has_rotation_errors_and_no_path():
    truth = made_clip()
    still = truth.cam2world.copy()
    still[:, :3, 3] = 0
    turning = replace(truth, cam2world=still)
    errors = scene_errors(perfect_scene(turning), turning)
    assert errors.trajectory_error is None
    assert errors.rotation_error < 1e-3


def test_the_truth_of_another_clip_is_refused():
    truth = made_clip()
    scene = perfect_scene(truth)
    with pytest.raises(ShapeError, match="another clip"):
        scene_errors(replace(scene, original_sizes=scene.original_sizes + 2), truth)
    with pytest.raises(ShapeError, match="another clip"):
        scene_errors(replace(scene, frame_indices=scene.frame_indices + 1), truth)
