"""Triangulation, sub-pixel matching, fusion, confidence and filling, against exact truth."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from stereo4d_plugins.flow.dis import Dis
from stereo4d_plugins.predictors.classical.clip_depths import ClipDepths
from stereo4d_plugins.predictors.classical.confidence import LEAST, MOST, confidence
from stereo4d_plugins.predictors.classical.epipolar_matching import match
from stereo4d_plugins.predictors.classical.filling import fill
from stereo4d_plugins.predictors.classical.frame_depths import grey, partners_of, sphere
from stereo4d_plugins.predictors.classical.fusion import fuse
from stereo4d_plugins.predictors.classical.measuring import Measured
from stereo4d_plugins.predictors.classical.standing import stand
from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid, parallax_degrees, triangulate, unproject

from stereo4d.video.pair_graph import pair_graph
from tests.predictors.pairs_clips import true_clip

FRAMES = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    return true_clip(folder, seed=2, frames=FRAMES, height=160, width=256, camera_travel=(0.3, 0.6), target_travel=0.4)


@pytest.fixture(scope="module")
def depths(clip):
    edges = pair_graph("swin-3-noncyclic", FRAMES)
    found = ClipDepths(clip.clip.rgb, edges, clip.calibration, Dis())
    return [found.pair((frame, frame))[0] for frame in range(FRAMES)]


def motion_between(clip, first, second):
    world2cam = clip.calibration.world2cam
    return world2cam[second] @ np.linalg.inv(world2cam[first])


def grid_between(clip, first, second):
    cameras = clip.calibration
    size = clip.truth.clip.depth.shape[1:]
    return EpipolarGrid.between(
        cameras.intrinsics[first], cameras.intrinsics[second], motion_between(clip, first, second), size
    )


def test_exact_flow_gives_exact_depth(clip):
    static = clip.truth.clip.dynamic[1] == 0
    found = triangulate(clip.flow(1, 4)[0].astype(np.float32), grid_between(clip, 1, 4))
    relative = np.abs(found.inverse_depth * clip.truth.clip.depth[1] - 1)[static]
    assert np.quantile(relative, 0.99) < 1e-3
    assert np.quantile(found.residual[static], 0.99) < 1e-2


def test_what_moves_leaves_its_epipolar_line(clip):
    moving = clip.truth.clip.dynamic[1] == 1
    assert moving.mean() > 0.01
    residual = triangulate(clip.flow(1, 4)[0].astype(np.float32), grid_between(clip, 1, 4)).residual
    assert np.median(residual[moving]) > 1


def test_the_parallax_angle_is_that_between_the_rays(clip):
    inverse_depth = 1 / clip.truth.clip.depth[1]
    angle = parallax_degrees(inverse_depth, clip.calibration.intrinsics[1], motion_between(clip, 1, 4))
    np.testing.assert_allclose(angle, clip.parallax(1, 4), atol=0.02)


def test_without_a_baseline_all_motion_is_residual():
    grid = EpipolarGrid.between(np.diag([50, 50, 1.0]), np.diag([50, 50, 1.0]), np.eye(4), (4, 6))
    flow = np.full((4, 6, 2), [3.0, 4.0], np.float32)
    found = triangulate(flow, grid)
    np.testing.assert_allclose(found.residual, 5, rtol=1e-5)
    assert not found.inverse_depth.any()
    assert not found.slope.any()


def test_matching_along_the_line_takes_a_pixel_of_error_out(clip):
    grid = grid_between(clip, 1, 2)
    true = (1 / clip.truth.clip.depth[1]).astype(np.float32)
    _, _, slope_u, slope_v = grid.project(true)
    pixels_per_unit = np.hypot(slope_u, slope_v)
    images = [grey(clip.clip.rgb[frame]) for frame in (1, 2)]
    matched = match(*images, true + 0.8 / pixels_per_unit, grid)
    seen = clip.flow(1, 2)[1] & (clip.truth.clip.dynamic[1] == 0) & (matched.deviation < 0.1)
    assert seen.mean() > 0.2
    assert np.median((np.abs(matched.inverse_depth - true) * pixels_per_unit)[seen]) < 0.15


def test_depth_of_static_pixels_with_parallax_is_within_a_tenth(clip, depths):
    errors = []
    for frame, depth in enumerate(depths):
        true = clip.truth.clip.depth[frame]
        parallax = np.max([clip.parallax(frame, other) for other in range(FRAMES) if abs(other - frame) <= 3], 0)
        wanted = (clip.truth.clip.dynamic[frame] == 0) & (parallax >= 2)
        errors.append(np.abs(1 / depth.inverse_depth / true - 1)[wanted])
    errors = np.concatenate(errors)
    assert len(errors) > 50_000
    assert errors.mean() < 0.08


def test_confidence_falls_as_error_rises(clip, depths):
    static = clip.truth.clip.dynamic == 0
    sure = np.stack([depth.confidence for depth in depths])[static]
    error = np.abs(1 / np.stack([depth.inverse_depth for depth in depths]) / clip.truth.clip.depth - 1)[static]
    assert spearmanr(sure, error).statistic < -0.4
    classes = [(1, 2), (2, 5), (5, 10), (10, MOST + 1)]
    medians = [np.median(error[(sure >= low) & (sure < high)]) for low, high in classes]
    assert medians == sorted(medians, reverse=True)
    # Confidence promises 0.2 / (C - 0.8) of relative error.
    assert np.mean(error[sure > 5]) < 0.2 / 4.2


def test_moving_objects_get_a_third_of_the_confidence_at_most(clip, depths):
    moving = clip.truth.clip.dynamic == 1
    sure = np.stack([depth.confidence for depth in depths])
    assert moving.mean() > 0.01
    assert sure[moving].mean() < sure[~moving].mean() / 3


def measured(inverse_depth, deviation, contradicts=False):
    shape = (2, 3)
    return Measured(
        np.full(shape, inverse_depth, np.float32),
        np.full(shape, deviation, np.float32),
        np.full(shape, contradicts),
        np.full(shape, True),
        True,
        100.0,
    )


def test_partners_that_agree_outvote_a_more_certain_one_that_does_not():
    fused = fuse([measured(0.5, 0.02), measured(0.51, 0.02), measured(0.9, 0.015)])
    np.testing.assert_allclose(fused.inverse_depth, 0.505, atol=1e-4)
    assert (fused.deviation > 0.02).all()


def test_agreeing_partners_make_each_other_surer():
    alone = fuse([measured(0.5, 0.02)])
    together = fuse([measured(0.5, 0.02), measured(0.5, 0.02), measured(0.5, 0.02)])
    assert (together.deviation < 0.02).all()
    assert (alone.deviation > 0.02).all()


def test_what_no_partner_shows_stays_unknown():
    fused = fuse([measured(0.0, np.inf), measured(0.0, np.inf, contradicts=True)])
    assert np.isinf(fused.deviation).all()
    np.testing.assert_allclose(fused.moving, 0.5)


def test_confidence_is_bounded_and_least_for_what_moves_or_is_unknown():
    rho = np.array([1.0, 1.0, 1.0, 1.0, 1e-9])
    deviation = np.array([1e-6, 0.05, 0.05, np.inf, 0.1])
    moving = np.array([0.0, 0.0, 0.6, 0.0, 0.0])
    sure = confidence(rho, deviation, moving)
    np.testing.assert_allclose(sure, [MOST, 1 + 0.2 / 0.05 - 0.2, LEAST, LEAST, LEAST], rtol=1e-5)


def test_holes_are_filled_between_their_surroundings_and_known_values_stay():
    values = np.tile(np.linspace(1, 2, 60, dtype=np.float32), (40, 1))
    weights = np.ones((40, 60), np.float32)
    weights[10:30, 20:40] = 0
    holed = np.where(weights > 0, values, 99).astype(np.float32)
    filled = fill(holed, weights, 0.0)
    np.testing.assert_allclose(filled[weights > 0], values[weights > 0], rtol=1e-5)
    np.testing.assert_allclose(filled[weights == 0], values[weights == 0], atol=0.2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 4), (64, 64)])
def test_where_nothing_was_measured_the_given_value_stands(shape):
    np.testing.assert_allclose(fill(np.zeros(shape, np.float32), np.zeros(shape, np.float32), 0.7), 0.7, rtol=1e-5)


def test_points_on_the_sphere_are_equally_far():
    intrinsics = np.array([[40, 0, 8], [0, 40, 6], [0, 0, 1.0]])
    points = unproject(sphere((12, 16), intrinsics, 0.5), intrinsics)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 2, rtol=1e-5)


def test_partners_are_those_of_the_pairs_and_those_some_strides_away():
    assert partners_of([(0, 1), (1, 0), (2, 1)], (), 3) == {0: (1,), 1: (0, 2), 2: (1,)}
    assert partners_of([(0, 1), (1, 0)], (2,), 4) == {0: (1, 2), 1: (0, 3)}
    assert partners_of([(0, 0)], (), 1) == {0: ()}


def test_what_moves_is_put_where_it_touches_the_ground_and_never_behind_its_surroundings():
    inverse_depth = np.full((60, 80), 0.1, np.float32)
    inverse_depth[40:] = np.linspace(0.1, 0.5, 20, dtype=np.float32)[:, None]  # a floor that comes nearer
    moving = np.zeros((60, 80), bool)
    moving[20:50, 30:45] = True
    moving[5, 5] = True  # a speckle
    standing = stand(inverse_depth, ~moving, moving)
    np.testing.assert_allclose(standing[22:48, 32:43], inverse_depth[50, 0], rtol=1e-5)
    np.testing.assert_array_equal(standing[~moving], inverse_depth[~moving])
    assert standing[5, 5] == np.float32(0.1)
    away = stand(inverse_depth[::-1].copy(), ~moving, moving)
    assert (away >= inverse_depth[::-1]).all()
