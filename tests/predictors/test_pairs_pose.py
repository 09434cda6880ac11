"""Which camera motion two views show, and how exactly it is found."""

import numpy as np
import pytest
from stereo4d_plugins.predictors.classical.pair_pose import relative_pose, triangulated_depths

FOCAL = 450.0
THRESHOLD = 1.0 / FOCAL


def rotation_of(*vector):
    angle = np.linalg.norm(vector)
    x, y, z = np.array(vector) / angle if angle else np.zeros(3)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def matches(rotation, offset, *, plane=False, moving=0.0, wrong=0.0, noise=0.2, count=1500, seed=0):
    """Normalised matches of a random scene (or a tilted wall); some move together, some are nonsense."""
    generator = np.random.default_rng(seed)
    image = generator.uniform((-0.55, -0.3), (0.55, 0.3), (count, 2))
    depth = 3 / (1 + 0.5 * image[:, 0] + 0.3 * image[:, 1]) if plane else generator.uniform(2, 8, count)
    points = np.concatenate([image, np.ones((count, 1))], 1) * depth[:, None]
    walkers = generator.random(count) < moving
    then = (points + walkers[:, None] * np.array([0.12, -0.2, 0.05])) @ rotation.T + offset
    seen = then[:, :2] / then[:, 2:] + generator.normal(0, noise / FOCAL, (count, 2))
    nonsense = generator.random(count) < wrong
    seen[nonsense] += generator.uniform(-0.2, 0.2, (nonsense.sum(), 2))
    image = image + generator.normal(0, noise / FOCAL, (count, 2))
    return image, seen, walkers | nonsense


def degrees_between(first, second):
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def rotation_error(found, true):
    return np.degrees(2 * np.arcsin(min(1, np.linalg.norm(found - true) / 8**0.5)))


OFFSETS = [(0.4, 0.05, 0.1), (0.05, 0.02, -0.5), (0.0, -0.3, 0.02)]


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_the_baseline_is_found_among_a_third_of_wrong_matches(offset):
    rotation = rotation_of(0.03, -0.05, 0.02)
    image, seen, bad = matches(rotation, np.array(offset), moving=0.15, wrong=0.2)
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "parallax"
    assert rotation_error(pose.world2cam1[:3, :3], rotation) < 0.1
    assert degrees_between(pose.world2cam1[:3, 3], np.array(offset)) < 1
    assert np.linalg.norm(pose.world2cam1[:3, 3]) == pytest.approx(1)
    assert pose.rival is None
    assert pose.inliers[~bad].mean() > 0.97
    assert pose.inliers[bad].mean() < 0.25


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
@pytest.mark.parametrize("turn", [(0.03, -0.05, 0.02), (0.0, 0.0, 0.0)], ids=["turning", "straight"])
def test_the_baseline_is_found_from_a_single_wall(offset, turn):
    rotation = rotation_of(*turn)
    image, seen, bad = matches(rotation, np.array(offset), plane=True, moving=0.15, wrong=0.2)
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "parallax"
    # Two motions explain a wall unless one of them puts part of it behind a camera.
    found = [pose.world2cam1] if pose.rival is None else [pose.world2cam1, pose.rival]
    errors = [rotation_error(motion[:3, :3], rotation) for motion in found]
    assert min(errors) < 0.4
    assert degrees_between(found[int(np.argmin(errors))][:3, 3], np.array(offset)) < 3
    assert pose.inliers[~bad].mean() > 0.97


def test_a_wall_that_is_walked_towards_allows_two_motions_and_the_smaller_turn_is_taken():
    image, seen, _ = matches(np.eye(3), np.array([0.0, 0.0, 0.3]), plane=True)
    pose = relative_pose(image, seen, THRESHOLD)
    assert rotation_error(pose.world2cam1[:3, :3], np.eye(3)) < 0.1
    assert pose.rival is not None
    assert rotation_error(pose.rival[:3, :3], np.eye(3)) > 2


def test_a_short_baseline_is_found():
    rotation, offset = rotation_of(0.01, 0.02, 0.0), np.array([0.03, 0.0, 0.01])
    image, seen, _ = matches(rotation, offset, noise=0.1)
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "parallax"
    assert degrees_between(pose.world2cam1[:3, 3], offset) < 8


@pytest.mark.parametrize("plane", [False, True], ids=["scene", "wall"])
def test_turning_alone_gets_no_baseline(plane):
    rotation = rotation_of(0.05, -0.1, 0.02)
    image, seen, bad = matches(rotation, np.zeros(3), plane=plane, moving=0.15, wrong=0.1)
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "rotation"
    assert not pose.world2cam1[:3, 3].any()
    assert rotation_error(pose.world2cam1[:3, :3], rotation) < 0.05
    assert pose.inliers[bad].mean() < 0.1


def test_a_camera_on_a_tripod_stands_still_while_people_walk():
    image, seen, bad = matches(np.eye(3), np.zeros(3), moving=0.25)
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "static"
    np.testing.assert_array_equal(pose.world2cam1, np.eye(4))
    assert pose.inliers[~bad].mean() > 0.98
    assert pose.inliers[bad].mean() < 0.1


def test_nonsense_says_nothing():
    generator = np.random.default_rng(0)
    image, seen = generator.uniform(-0.5, 0.5, (2, 800, 2))
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "none"
    assert not pose.inliers.any()


@pytest.mark.parametrize("count", [0, 3, 11])
def test_a_handful_of_matches_says_nothing(count):
    image, seen, _ = matches(np.eye(3), np.array([0.3, 0, 0]), count=count)
    assert relative_pose(image, seen, THRESHOLD).kind == "none"


def test_matches_that_are_not_finite_never_agree():
    image, seen, _ = matches(np.eye(3), np.array([0.3, 0, 0]))
    seen[::3] = np.nan
    pose = relative_pose(image, seen, THRESHOLD)
    assert pose.kind == "parallax"
    assert not pose.inliers[::3].any()


def test_the_same_point_everywhere_is_no_motion():
    points = np.full((100, 2), 0.1)
    pose = relative_pose(points, points, THRESHOLD)
    assert pose.kind == "static"


def test_the_same_seed_gives_the_same_pose():
    image, seen, _ = matches(rotation_of(0.03, -0.05, 0.02), np.array([0.4, 0.05, 0.1]), wrong=0.3, count=4000)
    first, second = (relative_pose(image, seen, THRESHOLD, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.world2cam1, second.world2cam1)


def test_depths_of_exact_matches_are_exact():
    image, seen, _ = matches(rotation := rotation_of(0.0, 0.1, 0.0), offset := np.array([0.5, 0.0, 0.1]), noise=0.0)
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, offset
    rays0, rays1 = (np.concatenate([points, np.ones((len(points), 1))], 1) for points in (image, seen))
    depth0, depth1 = triangulated_depths(motion, rays0, rays1)
    np.testing.assert_allclose(rays0 * depth0[:, None] @ rotation.T + offset, rays1 * depth1[:, None], atol=1e-9)
    assert (depth0 > 1.9).all()
