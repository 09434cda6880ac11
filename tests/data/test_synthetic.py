"""The synthetic world's truth is exact: views reproject into each other and into other times, occlusion included."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose, object_poses, surface_position
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.render import camera_rays, cast, render
from stereo4d.data.synthetic.world import WALLS, World, WorldConfig, sample_world
from stereo4d.geometry.camera import pixel_grid, project, unproject
from stereo4d.geometry.rigid import invert, transform_points

HEIGHT, WIDTH, BATCH = 48, 72, 6


def in_double(world: World) -> World:
    return World(
        **{f.name: v.double() if (v := getattr(world, f.name)).is_floating_point() else v for f in fields(World)}
    )


@pytest.fixture(scope="module")
def world() -> World:
    return in_double(sample_world(WorldConfig(moving_share=0.7), BATCH, seed=11))


def at(time: float) -> torch.Tensor:
    return torch.full((BATCH,), time, dtype=torch.float64)


def seen(world: World, time: float):
    return render(world, at(time), camera_pose(world, at(time)), camera_intrinsics(world, HEIGHT, WIDTH), HEIGHT, WIDTH)


def test_depth_and_surface_points_agree(world):
    rendered = seen(world, 0.3)
    from_depth = unproject(rendered.depth, camera_intrinsics(world, HEIGHT, WIDTH))
    in_world = transform_points(camera_pose(world, at(0.3)), from_depth)
    points = surface_position(world, rendered.surface, rendered.local, at(0.3))
    torch.testing.assert_close(in_world, points, rtol=0, atol=1e-6)  # pixel_grid and intrinsics are float32


@pytest.mark.parametrize(("source", "target"), [(0.0, 1.0), (0.8, 0.1), (0.4, 0.45)])
def test_every_point_is_seen_again_at_another_time_or_something_stands_before_it(world, source, target):
    rendered = seen(world, source)
    points = surface_position(world, rendered.surface, rendered.local, at(target))
    camera, intrinsics = camera_pose(world, at(target)), camera_intrinsics(world, HEIGHT, WIDTH)
    pixels, depth = project(transform_points(invert(camera), points), intrinsics)
    ahead = depth > 0.05
    # Cast a ray through exactly where the point should be: the first hit is the point itself, or an occluder.
    again = cast(world, at(target), camera[:, :3, 3], camera_rays(camera, intrinsics, pixels.flatten(1, 2)))
    error = again.distance.view_as(depth) - depth
    same = again.surface.view_as(rendered.surface) == rendered.surface
    exact = 1e-5 * (1 + depth)  # rays that graze a silhouette lose half the digits of float64
    visible = ahead & same & (error.abs() < exact)
    occluded = ahead & (error < -exact)
    assert float(error[visible].abs().quantile(0.99)) < 1e-6  # the world was drawn in float32
    assert bool((visible | occluded | ~ahead).all())
    assert visible.double().mean() > 0.3
    local = again.local.view_as(rendered.local)
    torch.testing.assert_close(local[visible], rendered.local[visible], rtol=0, atol=1e-5)


def test_only_what_moves_moves(world):
    rendered = seen(world, 0.2)
    before = surface_position(world, rendered.surface, rendered.local, at(0.2))
    after = surface_position(world, rendered.surface, rendered.local, at(0.6))
    travelled = (after - before).norm(dim=-1)
    assert float(travelled[~rendered.moving].max()) < 1e-9
    assert float(travelled[rendered.moving].median()) > 0.01


def test_motion_is_continuous_in_time(world):
    start = object_poses(world, at(0.5))
    steps = [float((object_poses(world, at(0.5 + step)) - start).abs().max()) for step in (1e-2, 1e-3, 1e-4)]
    assert steps[0] / steps[1] == pytest.approx(10, rel=0.2)
    assert steps[1] / steps[2] == pytest.approx(10, rel=0.05)


def test_objects_of_every_shape_are_seen_moving_and_still(world):
    surfaces = torch.cat([seen(world, t).surface.flatten() for t in (0.0, 0.5, 1.0)]).unique()
    shapes = {int(surface - WALLS) % 3 for surface in surfaces if surface >= WALLS}
    assert shapes == {0, 1, 2}
    shown = seen(world, 0.5)
    assert shown.moving.any()
    assert ((shown.surface >= WALLS) & ~shown.moving).any()


def test_pointmaps_of_a_pair_lie_in_view_0s_camera():
    batch = sample_pairs(WorldConfig(), 3, 32, 48, seed=5)
    pixels, depth = project(batch.pointmap0, batch.intrinsics0)
    torch.testing.assert_close(pixels, pixel_grid(32, 48).expand(3, -1, -1, -1), rtol=0, atol=1e-3)
    assert float(depth.min()) > 0
    in_camera1 = transform_points(invert(batch.relative), batch.pointmap1)
    pixels, _ = project(in_camera1, batch.intrinsics1)
    torch.testing.assert_close(pixels, pixel_grid(32, 48).expand(3, -1, -1, -1), rtol=0, atol=2e-3)


def test_matches_join_the_same_surface_points_of_still_things():
    config = WorldConfig(moving_share=0.0)
    batch = sample_pairs(config, 4, 48, 72, seed=9)
    matched = ~batch.match0[..., 0].isnan()
    assert 0.2 < matched.float().mean() < 0.95
    # A still point has one place: where view 1's map is read at the match, it says what view 0 says.
    index = batch.match0.nan_to_num().round().long()
    there = batch.pointmap1[torch.arange(4)[:, None, None], index[..., 1], index[..., 0]]
    gap = (there - batch.pointmap0).norm(dim=-1)[matched] / batch.pointmap0[..., 2][matched]
    assert float(gap.median()) < 0.02  # half a pixel at most


def test_swapping_a_pair_twice_gives_it_back():
    batch = sample_pairs(WorldConfig(), 2, 32, 48, seed=2)
    back = batch.swapped().swapped()
    assert back.names == batch.names
    for item in (item for item in fields(batch) if item.name != "names"):
        torch.testing.assert_close(
            getattr(back, item.name), getattr(batch, item.name), rtol=1e-4, atol=1e-5, equal_nan=True
        )


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others():
    one, same, other = (sample_pairs(WorldConfig(), 2, 32, 48, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(one.image0, same.image0)
    assert not torch.equal(one.image0, other.image0)


def test_a_camera_never_starts_inside_an_object():
    world = sample_world(replace(WorldConfig(), objects=12), 64, seed=3)
    for time in torch.linspace(0, 1, 7):
        when = time.expand(64)
        poses = object_poses(world, when)
        gap = (poses[..., :3, 3] - camera_pose(world, when)[:, None, :3, 3]).norm(dim=-1) - world.half_extent.norm(
            dim=-1
        )
        assert float(gap[world.present].min()) > 0


def test_clip_truth_knows_where_points_are_at_other_times(tmp_path):
    from stereo4d.data.synthetic.clip import load_truth, synthesize_clip

    clip = synthesize_clip(tmp_path, seed=4, frames=4, height=32, width=48, fps=10)
    truth = load_truth(clip)
    assert truth.clip.depth.shape == (4, 32, 48)
    own = truth.positions(1, 0.1)
    expected = transform_points(
        torch.from_numpy(np.array(truth.clip.cam2world[1:2])),
        unproject(
            torch.from_numpy(np.array(truth.clip.depth[1:2])), torch.from_numpy(np.array(truth.clip.intrinsics[1:2]))
        ),
    )[0].numpy()
    np.testing.assert_allclose(own, expected, atol=1e-5)
    moved = np.linalg.norm(truth.positions(1, 0.3) - own, axis=-1)
    still = np.asarray(truth.clip.dynamic[1]) == 0
    assert moved[still].max() < 1e-5
    assert len(list((tmp_path / "frames").glob("*.png"))) == 4


@pytest.fixture(scope="module")
def timed() -> PairBatch:
    return sample_pairs(WorldConfig(moving_share=1.0), 6, 32, 48, seed=5, query_times=5)


def test_asking_for_motion_changes_nothing_else(timed: PairBatch) -> None:
    plain = sample_pairs(WorldConfig(moving_share=1.0), 6, 32, 48, seed=5)
    assert plain.motion0.shape == (6, 0, 32, 48, 3)
    for name in ("image0", "image1", "pointmap1", "match0", "relative"):
        assert torch.equal(torch.nan_to_num(getattr(plain, name)), torch.nan_to_num(getattr(timed, name)))


def test_points_moved_to_the_other_views_time_are_seen_where_the_match_says(timed: PairBatch) -> None:
    checked = 0
    for pair, query in (timed.times == 1).nonzero().tolist():
        moved = timed.pointmap0[pair] + timed.motion0[pair, query]
        one = slice(pair, pair + 1)
        pixel, _ = project(transform_points(invert(timed.relative[one]), moved[None]), timed.intrinsics1[one])
        seen = ~timed.match0[pair, ..., 0].isnan()
        checked += int(seen.sum())
        torch.testing.assert_close(pixel[0][seen], timed.match0[pair][seen], rtol=1e-3, atol=1e-2)
    assert checked > 500


def test_static_points_do_not_move_and_own_times_teach_nothing(timed: PairBatch) -> None:
    still = ~timed.moving0[:, None].expand(-1, 5, -1, -1)
    assert timed.motion0[still].abs().max() < 1e-5
    assert timed.motion0[~still].norm(dim=-1).max() > 0.1
    for own, motion, valid in ((0, timed.motion0, timed.motion_valid0), (1, timed.motion1, timed.motion_valid1)):
        at_own = timed.times == own
        assert at_own.any()
        assert motion[at_own].abs().max() < 1e-5
        assert (valid.flatten(2).any(-1) == ~at_own).all()


def test_half_of_the_query_times_are_ends() -> None:
    times = sample_pairs(WorldConfig(), 64, 16, 16, seed=1, query_times=8).times
    assert ((times >= 0) & (times <= 1)).all()
    assert 0.4 < ((times == 0) | (times == 1)).float().mean() < 0.6


def test_motion_seen_from_the_other_side_is_the_same_motion(timed: PairBatch) -> None:
    back = timed.swapped()
    torch.testing.assert_close(back.times, 1 - timed.times)
    after = timed.pointmap1[:, None] + timed.motion1
    expected = transform_points(invert(timed.relative), after.flatten(1, 3)).view_as(after)
    torch.testing.assert_close(back.pointmap0[:, None] + back.motion0, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(back.motion_valid0, timed.motion_valid1)
    twice = back.swapped()
    torch.testing.assert_close(twice.motion0, timed.motion0, rtol=1e-4, atol=1e-5)
