"""Points that hang in the air are left out, and fusing frames keeps the surface."""

from __future__ import annotations

import dataclasses

import numpy as np
from stereo4d_plugins.viewers.clouds import confidence_floor, frame_cloud, seen_through, static_cloud, trusted

from tests.scenes import wall_and_ball


def test_pixels_at_a_depth_edge_are_not_trusted():
    depth = np.ones((4, 6), np.float32)
    depth[:, 3:] = 2
    expected = np.ones((4, 6), bool)
    expected[:, 2:4] = False
    np.testing.assert_array_equal(trusted(depth, np.ones((4, 6)), 1.0), expected)


def test_a_slanted_surface_is_trusted():
    depth = np.tile(np.linspace(1, 1.5, 20, dtype=np.float32), (5, 1))
    assert trusted(depth, np.ones(depth.shape), 1.0).all()


def test_unmeasured_and_unsure_pixels_are_not_trusted():
    depth = np.ones((3, 3), np.float32)
    confidence = np.full((3, 3), 2.0)
    confidence[2, 2] = 1.5
    assert not trusted(depth, confidence, 1.6)[2, 2]
    depth[:] = 0
    assert not trusted(depth, confidence, 1.0).any()


def test_the_confidence_floor_keeps_the_share_asked_for():
    scene = wall_and_ball()
    confidence = np.random.default_rng(0).uniform(1, 9, scene.confidence.shape)
    scene = dataclasses.replace(scene, confidence=confidence)
    assert abs((confidence >= confidence_floor(scene, keep=0.6)).mean() - 0.6) < 0.01


def test_a_thinned_frame_cloud_keeps_points_with_their_colours():
    scene = wall_and_ball()
    cloud = frame_cloud(scene, 1, scene.dynamic[1] == 1, limit=15)
    assert len(cloud) == 15
    assert (cloud.colors == (230, 60, 40)).all()


def test_fusing_frames_gives_one_point_a_voxel_on_the_surface():
    scene = wall_and_ball(frames=6)
    cloud = static_cloud(scene, 0.0, limit=100_000)
    pixels = int((scene.dynamic == 0).sum())
    assert len(cloud) < pixels / 3  # six frames see nearly the same wall
    np.testing.assert_allclose(cloud.points[:, 2], 4.0, atol=1e-4)
    wall = 128 + 100 * np.sin(3 * cloud.points[:, 0])
    assert np.abs(cloud.colors[:, 0] - wall).mean() < 12


def test_a_stray_point_at_the_horizon_does_not_coarsen_the_cloud():
    scene = wall_and_ball()
    depth = scene.depth.copy()
    depth[:, 10:14, 10:14] = 60_000
    far = static_cloud(dataclasses.replace(scene, depth=depth), 0.0, limit=100_000)
    near = static_cloud(scene, 0.0, limit=100_000)
    assert len(far) > 0.8 * len(near)


def test_what_moves_is_seen_through_and_left_out_even_if_the_scene_does_not_know():
    scene = wall_and_ball(frames=6, height=48, width=64)
    blind = dataclasses.replace(scene, dynamic=np.zeros_like(scene.dynamic))
    cloud = static_cloud(blind, 0.0, limit=100_000)
    on_wall = np.abs(cloud.points[:, 2] - 4.0) < 0.01
    assert on_wall.sum() > 1500
    assert on_wall.mean() > 0.99


def test_a_surface_is_not_seen_through_by_itself_nor_when_hidden():
    scene = wall_and_ball(frames=6)
    wall = scene.points(0)[scene.dynamic[0] == 0]
    assert seen_through(scene, wall).max() == 0
    assert seen_through(scene, wall + np.array([0, 0, 3.0])).max() == 0  # behind the wall
    assert np.median(seen_through(scene, 0.6 * wall)) == 1  # in the air


def test_points_that_no_frame_looks_at_are_kept():
    assert seen_through(wall_and_ball(), np.array([[0.0, 0.0, -5.0], [100.0, 0.0, 1.0]])).tolist() == [0, 0]
