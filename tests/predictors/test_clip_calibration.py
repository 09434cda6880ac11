"""The cameras of a clip follow from its pixels: path, focal, and the truth about what a clip does not show."""

import cv2
import numpy as np
import pytest
from stereo4d_plugins.predictors.classical.calibration import ClipCalibration, calibrate_clip

from tests.predictors.clip_worlds import HEIGHT, WIDTH, filmed, path_error, turned_by, turning_camera


def finite(calibration: ClipCalibration) -> bool:
    return bool(np.isfinite(calibration.world2cam).all() and np.isfinite(calibration.intrinsics).all())


def says(calibration: ClipCalibration, words: str) -> bool:
    return any(words in remark for remark in calibration.remarks)


@pytest.fixture(scope="module")
def clip():
    return filmed(5)


@pytest.fixture(scope="module")
def calibrated(clip):
    return calibrate_clip(clip.rgb)


@pytest.mark.parametrize(("seed", "moving"), [(2, 0.0), (1, 0.6), (6, 0.6)])
def test_path_and_focal_follow_from_the_pixels_though_things_move(seed, moving):
    clip = filmed(seed, moving=moving)
    calibration = calibrate_clip(clip.rgb)
    assert clip.moving.any() == (moving > 0)
    assert path_error(calibration.world2cam, clip.cam2world) < 0.005
    assert turned_by(calibration.world2cam, np.linalg.inv(clip.cam2world)[:, :3, :3]) < 0.5
    assert calibration.focal == pytest.approx(clip.intrinsics[0, 0], rel=0.03)
    assert calibration.focal_source == "self-calibrated"
    assert calibration.camera_known.all()
    assert calibration.error < 0.15


def test_the_answer_is_a_whole_and_says_where_the_focal_comes_from(clip, calibrated):
    assert calibrated.moves
    assert not calibrated.rotation_only
    assert calibrated.world2cam.shape == (12, 4, 4)
    assert np.array_equal(calibrated.world2cam[0], np.eye(4))
    assert calibrated.intrinsics[:, 0, 2].tolist() == [WIDTH / 2] * 12
    assert calibrated.intrinsics[:, 0, 0] == pytest.approx(calibrated.focal)
    assert calibrated.points > 200
    assert says(calibrated, "focal length follows from the clip")


def test_given_intrinsics_are_used_as_they_are_and_gaps_are_filled(clip):
    given = np.repeat(clip.intrinsics[None], 12, 0)
    given[4] = np.nan
    calibration = calibrate_clip(clip.rgb, intrinsics=given)
    assert calibration.focal_source == "given"
    assert np.array_equal(calibration.intrinsics[4], clip.intrinsics)
    assert path_error(calibration.world2cam, clip.cam2world) < 0.003
    assert not calibration.remarks


def test_a_given_principal_point_off_the_middle_counts(clip):
    # Cropping the left side away moves the principal point; told of it, the cameras are those of the whole picture.
    left = 32
    given = np.repeat(clip.intrinsics[None], 12, 0)
    given[:, 0, 2] -= left
    cropped = np.ascontiguousarray(clip.rgb[:, :, left:])
    assert path_error(calibrate_clip(cropped, intrinsics=given).world2cam, clip.cam2world) < 0.005


def test_same_seed_same_answer_and_intrinsics_of_nothing_but_gaps_are_none(clip, calibrated):
    calibration = calibrate_clip(clip.rgb, intrinsics=np.full((12, 3, 3), np.nan))
    assert calibration.focal_source == "self-calibrated"
    assert np.array_equal(calibration.world2cam, calibrated.world2cam)


def test_grain_is_borne(clip):
    grainy = clip.rgb + np.random.default_rng(0).normal(0, 8, clip.rgb.shape)
    calibration = calibrate_clip(grainy.clip(0, 255).astype(np.uint8))
    assert path_error(calibration.world2cam, clip.cam2world) < 0.02
    assert calibration.camera_known.all()


@pytest.mark.parametrize("yaw", [0.5, 0.1])
def test_a_camera_that_only_turns_is_told_from_one_that_moves_and_shows_its_focal(yaw):
    rgb, rotations = turning_camera(150.0, yaw=yaw)
    calibration = calibrate_clip(rgb)
    assert calibration.moves
    assert calibration.rotation_only
    assert not calibration.world2cam[:, :3, 3].any()
    assert turned_by(calibration.world2cam, rotations) < 0.1
    assert calibration.focal == pytest.approx(150, rel=0.02)
    assert says(calibration, "turns without moving")


def test_a_flat_wall_passing_sideways_does_not_show_the_focal():
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (150, 260, 3), dtype=np.uint8), (0, 0), 2)
    wall = np.stack(
        [cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)[:HEIGHT, 6 * i : 6 * i + WIDTH] for i in range(12)]
    )
    calibration = calibrate_clip(wall)
    assert calibration.focal_source == "prior"
    assert calibration.focal == WIDTH
    assert says(calibration, "does not show its focal length")
    assert finite(calibration)


def test_two_frames_are_not_believed_to_show_a_focal_that_is_wrong(clip):
    calibration = calibrate_clip(clip.rgb[[0, 4]])
    near = abs(calibration.focal / clip.intrinsics[0, 0] - 1) < 0.1
    assert calibration.focal_source == "prior" or near
    assert finite(calibration)


@pytest.mark.parametrize("frames", [1, 12])
@pytest.mark.parametrize("kind", ["black", "grey", "noise", "faint noise"])
def test_nothing_to_follow_means_no_camera_and_a_sentence(kind, frames):
    random = np.random.default_rng(0)
    shape = (frames, HEIGHT, WIDTH, 3)
    rgb = {
        "black": np.zeros(shape),
        "grey": np.full(shape, 128.0),
        "noise": random.integers(0, 256, shape),
        "faint noise": 128 + random.normal(0, 4, shape),
    }[kind]
    calibration = calibrate_clip(rgb.clip(0, 255).astype(np.uint8))
    assert finite(calibration)
    assert not calibration.camera_known.any()
    assert not calibration.moves
    assert calibration.focal_source == "prior"
    assert says(calibration, "single frame" if frames == 1 else "points can be followed")


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_one_repeated_frame_is_a_camera_that_stands_still(clip, noise):
    still = np.repeat(clip.rgb[:1], 12, 0) + np.random.default_rng(0).normal(0, noise, clip.rgb.shape)
    calibration = calibrate_clip(still.clip(0, 255).astype(np.uint8))
    assert not calibration.moves
    assert calibration.camera_known.all()
    assert np.array_equal(calibration.world2cam, np.tile(np.eye(4), (12, 1, 1)))
    assert says(calibration, "stands still")


def test_black_frames_within_a_clip_are_named_and_the_rest_stays_right(clip):
    rgb = clip.rgb.copy()
    rgb[[4, 8]] = 0
    calibration = calibrate_clip(rgb)
    assert np.flatnonzero(~calibration.camera_known).tolist() == [4, 8]
    assert path_error(calibration.world2cam, clip.cam2world) < 0.01  # those two are in between their neighbours
    assert says(calibration, "could not be placed (their cameras are interpolated): 4, 8")


def test_motion_blur_in_some_frames_costs_little(clip):
    rgb = clip.rgb.copy()
    rgb[5], rgb[6] = cv2.blur(rgb[5], (9, 1)), cv2.blur(rgb[6], (15, 1))
    calibration = calibrate_clip(rgb)
    assert path_error(calibration.world2cam, clip.cam2world) < 0.02
    assert finite(calibration)


def test_extreme_zoom_is_finite_and_said(clip):
    zoomed = np.stack(
        [cv2.resize(frame[50:62, 72:88], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for frame in clip.rgb]
    )
    calibration = calibrate_clip(zoomed)
    assert finite(calibration)
    assert calibration.focal_source == "prior"
    assert calibration.remarks
