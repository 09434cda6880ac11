"""Errors of an answer about a clip: the truth is right in any world and unit, frames not placed do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stereo4d.evaluation.clip_errors import agreement, clip_errors, depth_at, scene_answer
from stereo4d.evaluation.peer import ClipAnswer, SparseDepth
from stereo4d.types import ClipTruth, Scene

FRAMES, HEIGHT, WIDTH, FOCAL = 10, 8, 12, 15.0


@pytest.fixture
def truth() -> ClipTruth:
    draw = np.random.default_rng(5)
    cam2world = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    cam2world[:, :3, :3] = Rotation.from_rotvec(0.1 * draw.normal(size=(FRAMES, 3))).as_matrix()
    cam2world[:, :3, 3] = np.cumsum(draw.normal(size=(FRAMES, 3)), 0)
    intrinsics = np.tile(np.array([[FOCAL, 0, 6], [0, FOCAL, 4], [0, 0, 1]], np.float32), (FRAMES, 1, 1))
    depth = draw.uniform(1, 5, (FRAMES, HEIGHT, WIDTH)).astype(np.float32)
    return ClipTruth(cam2world, intrinsics, depth, np.zeros(depth.shape, np.uint8), np.arange(FRAMES) / 12)


def told(truth: ClipTruth, scale: float = 1.0) -> ClipAnswer:
    """The truth in another world, turned, moved and scaled."""
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec([0.3, -1.0, 0.2]).as_matrix()
    cam2world = np.array(truth.cam2world, np.float64)
    cam2world[:, :3, 3] *= scale
    world[:3, 3] = [1, 2, 3]
    frame, v, u = (axis.ravel() for axis in np.indices(truth.depth.shape))
    points = SparseDepth(frame, np.stack([u, v], -1).astype(float), scale * truth.depth.ravel().astype(float))
    return ClipAnswer(world @ cam2world, np.full(FRAMES, FOCAL), points, 1.0)


def without(answer: ClipAnswer, frames: list[int]) -> ClipAnswer:
    cam2world, focal = answer.cam2world.copy(), answer.focal.copy()
    cam2world[frames], focal[frames] = np.nan, np.nan
    return replace(answer, cam2world=cam2world, focal=focal)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_the_truth_has_no_errors_in_any_world_and_unit(truth, scale):
    errors = clip_errors(told(truth, scale), truth)
    assert (errors.frames, errors.placed) == (FRAMES, FRAMES)
    for error in (errors.trajectory, errors.rotation, errors.focal, errors.depth):
        assert error == pytest.approx(0, abs=1e-4)
    assert errors.usable


def test_frames_that_are_not_placed_are_left_out_and_counted(truth):
    answer = told(truth)
    spoiled = answer.cam2world.copy()
    spoiled[3, :3, 3] += 100
    assert clip_errors(replace(answer, cam2world=spoiled), truth).trajectory > 0.1
    errors = clip_errors(without(replace(answer, cam2world=spoiled), [3]), truth)
    assert errors.placed == FRAMES - 1
    assert errors.trajectory == pytest.approx(0, abs=1e-5)


def test_a_path_with_too_few_frames_is_not_usable(truth):
    assert clip_errors(without(told(truth), [0]), truth).usable
    assert not clip_errors(without(told(truth), [0, 1]), truth).usable
    two = clip_errors(without(told(truth), list(range(2, FRAMES))), truth)
    assert two.trajectory is None
    none = clip_errors(ClipAnswer.nothing(FRAMES, 1.0, "no model"), truth)
    assert (none.placed, none.rotation, none.focal, none.depth) == (0, None, None, None)
    assert none.failure == "no model"


def test_rotation_and_focal_errors_are_what_was_done_to_the_answer(truth):
    answer = told(truth)
    turned = answer.cam2world.copy()
    turned[0, :3, :3] = turned[0, :3, :3] @ Rotation.from_euler("y", 3, degrees=True).as_matrix()
    errors = clip_errors(replace(answer, cam2world=turned, focal=1.1 * answer.focal), truth)
    # One frame of ten is in 9 of the 45 pairs.
    assert errors.rotation == pytest.approx(3 * 9 / 45, rel=1e-2)
    assert errors.focal == pytest.approx(0.1)


def test_depth_is_measured_where_it_is_told_and_up_to_one_scale(truth):
    answer = told(truth, 2.0)
    wrong = answer.points.depth.copy()
    wrong[np.argsort(wrong)[-10:]] *= 1.5  # the median, and with it the scale, stays what it was
    errors = clip_errors(replace(answer, points=replace(answer.points, depth=wrong)), truth)
    assert errors.depth == pytest.approx(0.5 * 10 / len(wrong), rel=1e-3)
    outside = replace(answer.points, pixel=answer.points.pixel + np.array([WIDTH, 0]))
    assert clip_errors(replace(answer, points=outside), truth).depth is None


def test_a_scene_answers_in_pixels_of_its_input(truth):
    # The scene has half the resolution: its pixel (u, v) covers the clip's (2u, 2v) ... (2u + 1, 2v + 1).
    half = np.repeat(np.repeat(truth.depth[:, ::2, ::2], 2, 1), 2, 2)
    to_original = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    original = truth.intrinsics.astype(np.float64)
    scene = Scene(
        cam2world=truth.cam2world,
        intrinsics=(np.linalg.inv(to_original) @ original).astype(np.float32),
        depth=truth.depth[:, ::2, ::2].astype(np.float16),
        confidence=np.ones((FRAMES, HEIGHT // 2, WIDTH // 2), np.float16),
        dynamic=np.zeros((FRAMES, HEIGHT // 2, WIDTH // 2), np.uint8),
        rgb=np.zeros((FRAMES, HEIGHT // 2, WIDTH // 2, 3), np.uint8),
        times=truth.times,
        frame_indices=np.arange(FRAMES),
        intrinsics_original=original,
        original_sizes=np.tile([HEIGHT, WIDTH], (FRAMES, 1)),
    )
    places = told(truth).points
    found = depth_at(scene, places)
    u, v = places.pixel.astype(int).T
    np.testing.assert_allclose(found.depth, half[places.frame, v, u], rtol=1e-3)
    answer = scene_answer(scene, places, 2.0)
    np.testing.assert_allclose(answer.focal, FOCAL)
    assert clip_errors(answer, replace(truth, depth=half)).depth == pytest.approx(0, abs=1e-3)


def test_two_answers_agree_over_the_frames_that_both_place(truth):
    answer = told(truth)
    other = without(replace(told(truth, 3.0), focal=2 * answer.focal), [0, 4])
    found = agreement(answer, other)
    assert (found.frames, found.placed, found.common) == (FRAMES, (FRAMES, FRAMES - 2), FRAMES - 2)
    assert found.trajectory == pytest.approx(0, abs=1e-5)
    assert found.rotation == pytest.approx(0, abs=1e-3)
    assert found.focal == pytest.approx(-0.5)
    nothing = agreement(answer, ClipAnswer.nothing(FRAMES, 0, "no model"))
    assert (nothing.common, nothing.trajectory, nothing.rotation, nothing.focal) == (0, None, None, None)
