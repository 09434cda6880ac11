"""Bundle adjustment finds exact cameras from exact observations, and bears wrong ones."""

from dataclasses import replace

import numpy as np
import pytest
from stereo4d_plugins.predictors.classical.bundle import Bundle, Observations, adjust, distances
from stereo4d_plugins.predictors.classical.registration import begin, extend, misfit, triangulate
from stereo4d_plugins.predictors.classical.rotations import between, rotation_between, rotations_of

FOCAL, LIMIT = 200.0, 1.0


@pytest.fixture
def random():
    return np.random.default_rng(7)


@pytest.fixture
def true(random) -> Bundle:
    """Eight cameras on an arc before a cloud of points that fills the view in depth."""
    steps = np.linspace(-1, 1, 8)
    rotation = rotations_of(np.stack([0.05 * steps, -0.25 * steps, 0.03 * steps], -1))
    centre = np.stack([steps, 0.2 * steps**2, 0.3 * steps], -1)
    points = random.uniform([-2, -1.5, 3], [2, 1.5, 8], (150, 3))
    return Bundle(rotation, -np.einsum("nij,nj->ni", rotation, centre), points, FOCAL)


def observed(bundle: Bundle, noise: np.ndarray | float = 0.0, hidden: float = 0.2) -> Observations:
    seen = np.random.default_rng(1).random((len(bundle.points), len(bundle.rotation))) > hidden
    local = np.einsum("nij,tj->tni", bundle.rotation, bundle.points) + bundle.translation
    return Observations(np.where(seen[..., None], bundle.focal * local[..., :2] / local[..., 2:] + noise, 0), seen)


def shaken(bundle: Bundle, random: np.random.Generator) -> Bundle:
    turn = rotations_of(0.02 * random.normal(size=bundle.translation.shape))
    moved = bundle.translation + 0.03 * random.normal(size=bundle.translation.shape)
    return Bundle(turn @ bundle.rotation, moved, bundle.points + 0.1 * random.normal(size=bundle.points.shape), 240.0)


def same_cameras(first: Bundle, second: Bundle) -> float:
    """Largest difference after bringing both to one world and scale."""
    a, b = first.translation - first.rotation @ np.linalg.solve(first.rotation[0], first.translation[0]), None
    b = second.translation - second.rotation @ np.linalg.solve(second.rotation[0], second.translation[0])
    a, b = a / np.linalg.norm(a[-1]), b / np.linalg.norm(b[-1])
    turned = first.rotation @ first.rotation[0].T - second.rotation @ second.rotation[0].T
    return max(float(np.abs(a - b).max()), float(np.abs(turned).max()))


def test_exact_observations_give_exact_cameras_and_focal(true, random):
    done = adjust(shaken(true, random), observed(true), free_focal=True, rounds=60, tolerance=1e-9)
    assert done.bundle.focal == pytest.approx(FOCAL, rel=1e-4)
    assert same_cameras(done.bundle, true) < 1e-3
    assert np.nanmax(done.residuals) < 0.01


def test_a_focal_that_is_held_stays(true, random):
    done = adjust(replace(shaken(true, random), focal=FOCAL), observed(true), free_focal=False, rounds=40)
    assert done.bundle.focal == FOCAL
    assert done.focal_deviation == np.inf
    assert same_cameras(done.bundle, true) < 0.01


def test_wrong_observations_do_not_bend_the_cameras(true, random):
    observations = observed(true)
    wrong = random.random(150) < 0.2
    strayed = observations.offsets + np.where(wrong[:, None, None], random.normal(0, 15, observations.offsets.shape), 0)
    done = adjust(shaken(true, random), replace(observations, offsets=strayed), free_focal=True, rounds=60)
    assert same_cameras(done.bundle, true) < 5e-3
    assert np.nanmedian(done.residuals[wrong]) > 5


def test_the_deviation_of_the_focal_is_that_of_repeated_trials(true):
    found, said = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        noise = 0.2 * random.normal(size=(150, 8, 2))
        done = adjust(true, observed(true, noise), free_focal=True, rounds=30)
        found.append(np.log(done.bundle.focal / FOCAL))
        said.append(done.focal_deviation)
    assert 0.5 < np.mean(said) / np.sqrt(np.mean(np.square(found))) < 2


def test_cameras_that_only_turn_are_adjusted_without_a_baseline(true, random):
    still = replace(true, translation=np.zeros_like(true.translation))
    start = replace(still, rotation=rotations_of(0.02 * random.normal(size=(8, 3))) @ still.rotation, focal=230.0)
    done = adjust(start, observed(still), motion="rotation", free_focal=True, rounds=40, tolerance=1e-9)
    assert not done.bundle.translation.any()
    assert done.bundle.focal == pytest.approx(FOCAL, rel=1e-3)


def test_a_point_behind_a_camera_is_a_large_error(true):
    behind = replace(true, points=true.points * [1, 1, -1])
    assert np.nanmin(distances(behind, observed(true))) > 100


def test_triangulation_meets_the_points_and_knows_their_parallax(true):
    points, spread = triangulate(observed(true), true, np.ones(8, bool))
    assert np.allclose(points, true.points, atol=1e-6)
    near, far = true.points[:, 2] < 4, true.points[:, 2] > 7
    assert np.median(spread[near]) > 1.5 * np.median(spread[far])
    lonely, nothing = triangulate(observed(true), true, np.arange(8) == 0)
    assert not lonely.any()
    assert not nothing.any()


def test_a_path_grows_from_tracks_alone(true):
    observations = observed(true)
    path = begin(observations, FOCAL, LIMIT, seed=0)
    assert path is not None
    assert path.placed.sum() == 2
    path = extend(path, observations, LIMIT, free_focal=False, seed=0)
    assert path.placed.all()
    assert same_cameras(path.bundle, true) < 0.01
    assert misfit(path, observations, LIMIT) < 0.1


def test_a_wrong_focal_explains_the_tracks_worse(true):
    observations = observed(true)
    values = []
    for focal in (FOCAL, 1.5 * FOCAL):
        path = begin(observations, focal, LIMIT, seed=0)
        assert path is not None
        values.append(misfit(extend(path, observations, LIMIT, free_focal=False, seed=0), observations, LIMIT))
    assert values[0] < 0.3 * values[1]


def test_no_parallax_no_beginning(true):
    still = replace(true, translation=np.zeros_like(true.translation))
    assert begin(observed(still), FOCAL, LIMIT, seed=0) is None


def test_rotation_between_rays_ignores_a_third_of_wrong_partners(random):
    rays = random.normal(size=(90, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rotation = rotations_of(np.array([0.1, -0.2, 0.05]))
    partners = rays @ rotation.T
    partners[:30] = -partners[:30]
    found, angle = rotation_between(rays, partners, rounds=30)
    assert np.abs(found - rotation).max() < 1e-3
    assert (angle[:30] > 1).all()


def test_rotations_in_between_are_halfway():
    known = rotations_of(np.array([[0, 0, 0], [0, 0, 0], [0, 0.4, 0.0], [0, 0, 0]]))
    filled = between(known, np.array([True, False, True, False]))
    assert np.allclose(filled[1], rotations_of(np.array([0, 0.2, 0.0])))
    assert np.allclose(filled[3], known[2])
