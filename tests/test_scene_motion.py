"""Motion, moments and tracks of scenes: exact where predictions are the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stereo4d.errors import ShapeError, UsageError
from stereo4d.scene_tracks import Tracks
from stereo4d.types import MotionSamples
from tests.moving_scenes import SECONDS, TrueScene, similar, true_scene
from tests.scenes import wall_and_ball

HALF = 2.0**-11
"""Largest relative rounding of float16."""
LAST = 7


@pytest.fixture(scope="module")
def truth() -> TrueScene:
    return true_scene(10, camera_travel=(0.2, 0.5), target_travel=0.4)


@pytest.fixture(scope="module")
def tracks(truth: TrueScene) -> Tracks:
    """Of every pixel of the first frame."""
    return truth.scene.tracks(every_pixel(truth))


@pytest.fixture(scope="module")
def paths(truth: TrueScene) -> np.ndarray:
    """(P, N, 3) where these points really are."""
    return np.stack([truth.positions(0, time).reshape(-1, 3) for time in truth.scene.times], 1)


@pytest.fixture(scope="module")
def really_visible(truth: TrueScene, paths: np.ndarray) -> np.ndarray:
    """(P, N) bool."""
    return np.stack([truth.visible(paths[:, frame], frame) for frame in range(len(truth.scene))], 1)


def every_pixel(truth: TrueScene) -> np.ndarray:
    height, width = truth.scene.depth.shape[1:]
    v, u = np.mgrid[:height, :width]
    return np.stack([u.ravel(), v.ravel()], 1)


def test_the_world_of_these_tests_has_what_they_are_about(paths: np.ndarray, really_visible: np.ndarray) -> None:
    moving = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=-1) > 0.1
    assert moving.mean() > 0.1
    hidden_between = really_visible[:, 0] & ~really_visible[:, 1:-1].all(1) & really_visible[:, -1]
    assert hidden_between.sum() > 20


@pytest.mark.parametrize(("start", "end"), [(0, 1), (4, 5), (5, 4), (LAST, LAST - 1)])
def test_motion_between_neighbours_is_the_truth_to_half_precision(truth: TrueScene, start: int, end: int) -> None:
    times = truth.scene.times
    for share in (1.0, 0.5, 0.25):
        then = times[start] + share * (times[end] - times[start])
        true = truth.positions(start, then) - truth.positions(start, times[start])
        found = truth.scene.motion(times[start], then)
        np.testing.assert_allclose(found.displacement, true, rtol=HALF, atol=1e-7)
        assert (found.confidence == 5).all()  # of the motion; the points' own is 9
    assert found.displacement.dtype == np.float32


def test_motion_between_samples_is_linear(truth: TrueScene) -> None:
    times = truth.scene.times
    shares = np.array([0.1, 0.25, 0.4, 0.5])
    moved = [truth.scene.motion(times[2], times[2] + share * (times[3] - times[2])).displacement for share in shares]
    np.testing.assert_allclose(moved[0], 0.4 * moved[1], atol=1e-6)
    np.testing.assert_allclose(moved[2], 0.4 * moved[1] + 0.6 * moved[3], atol=1e-6)


def test_motion_to_the_own_time_is_none(truth: TrueScene) -> None:
    found = truth.scene.motion(truth.scene.times[3], truth.scene.times[3])
    assert not found.displacement.any()
    assert found.visible.all()


@pytest.mark.parametrize("end", [0.55 * SECONDS, SECONDS])
def test_motion_over_many_frames_is_chained(truth: TrueScene, end: float) -> None:
    found = truth.scene.motion(0.0, end)
    true = truth.positions(0, end) - truth.positions(0, 0.0)
    error = np.linalg.norm(found.displacement - true, axis=-1)
    moving = np.linalg.norm(true, axis=-1) > 0.1
    assert np.median(error[moving & found.visible]) < 0.003
    assert found.visible[moving].mean() > 0.3
    assert np.percentile(error[moving & found.visible], 90) < 0.01
    np.testing.assert_array_equal(found.displacement[truth.scene.dynamic[0] == 0], 0)


def test_backwards_is_as_good_as_forwards(truth: TrueScene) -> None:
    found = truth.scene.motion(SECONDS, 0.0)
    true = truth.positions(LAST, 0.0) - truth.positions(LAST, SECONDS)
    error = np.linalg.norm(found.displacement - true, axis=-1)
    moving = np.linalg.norm(true, axis=-1) > 0.1
    assert np.median(error[moving & found.visible]) < 0.003


def test_tracks_of_what_is_seen_are_the_true_paths(
    tracks: Tracks, paths: np.ndarray, really_visible: np.ndarray
) -> None:
    error = np.linalg.norm(tracks.points - paths, axis=-1)
    travel = np.linalg.norm(np.diff(paths, axis=1), axis=-1).sum(1)
    share = error / np.maximum(travel, 1e-9)[:, None]
    moving = (travel > 0.1)[:, None] & tracks.visible & really_visible
    assert moving[:, -1].sum() > 100
    assert np.median(share[moving]) < 0.001
    assert np.percentile(share[moving], 95) < 0.01
    assert np.percentile(error, 95) < 0.01


def test_what_is_hidden_is_known_to_be(tracks: Tracks, paths: np.ndarray, really_visible: np.ndarray) -> None:
    agree = tracks.visible == really_visible
    assert agree.mean() > 0.97
    moving = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=-1) > 0.1
    assert agree[moving].mean() > 0.9
    # neither by calling everything seen, nor nothing
    assert tracks.visible[really_visible].mean() > 0.97
    assert tracks.visible[~really_visible].mean() < 0.1


def test_occluded_points_come_back(tracks: Tracks, paths: np.ndarray, really_visible: np.ndarray) -> None:
    hidden_between = really_visible[:, 0] & ~really_visible[:, 1:-1].all(1) & really_visible[:, -1]
    back = hidden_between & tracks.visible[:, -1]
    assert back.sum() > 0.6 * hidden_between.sum()
    assert tracks.visible[back].all(1).mean() < 0.2
    assert np.median(np.linalg.norm(tracks.points - paths, axis=-1)[back, -1]) < 0.01


def test_static_points_do_not_move(truth: TrueScene, tracks: Tracks) -> None:
    static = truth.scene.dynamic[0].ravel() == 0
    moved = np.abs(tracks.points - tracks.points[:, :1]).max((1, 2))
    assert (moved[static] == 0).mean() > 0.999
    assert not tracks.visible[static].all()  # some of them hidden meanwhile


def test_confidence_falls_while_a_point_is_hidden_and_never_rises(tracks: Tracks) -> None:
    assert (tracks.confidence[:, 0] == 9).all()
    assert (tracks.confidence[:, 1] == 5).all()
    assert (np.diff(tracks.confidence, axis=1) <= 0).all()
    hidden = ~tracks.visible[:, 1:-1]
    np.testing.assert_array_equal(tracks.confidence[:, 2:][hidden] - 1, (tracks.confidence[:, 1:-1][hidden] - 1) / 2)
    seen = tracks.visible[:, 1:-1]
    np.testing.assert_array_equal(tracks.confidence[:, 2:][seen], tracks.confidence[:, 1:-1][seen])


def test_what_is_hidden_goes_on_as_it_went() -> None:
    # the ball of this scene moves by 0.4 a frame; in frame 2 nothing is measured
    scene = wall_and_ball(frames=5)
    assert scene.dynamic[1, 12, 12]
    step = np.where(scene.dynamic[..., None] > 0, (0.4, 0, 0), 0).astype(np.float16)
    edges = np.array([(i, j) for i in range(5) for j in (i - 1, i + 1) if 0 <= j < 5])
    displacement = np.stack([step[i] * np.float16(j - i) for i, j in edges])[:, None]
    samples = MotionSamples(edges, np.array([1.0]), displacement, np.full(displacement.shape[:-1], 3, np.float16))
    blind = scene.depth.copy()
    blind[2] = 0
    track = replace(scene, depth=blind, motion_samples=samples).tracks(np.array([[12, 12], [30, 20]]), frame=1)
    np.testing.assert_allclose(np.diff(track.points[0], axis=0), [(0.4, 0, 0)] * 4, atol=1e-3)
    assert not track.visible[:, 2].any()
    assert track.visible[0, 3]
    np.testing.assert_array_equal(np.diff(track.points[1], axis=0), 0)


def test_tracks_start_in_any_frame_and_between_pixels(truth: TrueScene) -> None:
    scene = truth.scene
    whole = scene.tracks(np.array([[20, 30], [21, 30]]), frame=4)
    np.testing.assert_allclose(whole.points[:, 4], scene.points(4)[30, [20, 21]], atol=1e-5)
    assert whole.visible[:, 4].all()
    between = scene.tracks(np.array([[20.5, 30.0]]), frame=4)
    np.testing.assert_allclose(between.points[0, 4], whole.points[:, 4].mean(0), atol=0.02)
    assert whole.points.shape == (2, len(scene), 3)
    np.testing.assert_array_equal(whole.times, scene.times)


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_a_moment_between_frames_shows_the_world_as_it_is_then(truth: TrueScene, share: float) -> None:
    times = truth.scene.times
    moment = truth.scene.at(times[2] + share * (times[3] - times[2]))
    true = np.concatenate([truth.positions(frame, moment.time).reshape(-1, 3) for frame in (2, 3)])
    assert moment.points.shape == true.shape
    error = np.linalg.norm(moment.points - true, axis=-1)
    moving = np.concatenate([truth.scene.dynamic[2].ravel(), truth.scene.dynamic[3].ravel()]) > 0
    np.testing.assert_array_equal(moment.moving, moving)
    # depth is stored in half precision: that is all there is to lose at a sampled time; chords cost a little more
    depth = np.concatenate([truth.scene.depth[2].ravel(), truth.scene.depth[3].ravel()]).astype(np.float32)
    assert (error <= 2.5 * HALF * depth + (1e-5 if share == 0.5 else 2e-3)).all()
    still = np.concatenate([truth.scene.points(2).reshape(-1, 3), truth.scene.points(3).reshape(-1, 3)])
    assert np.linalg.norm(still - true, axis=-1)[moving].mean() > 20 * error[moving].mean()
    colours = np.concatenate([truth.scene.rgb[2].reshape(-1, 3), truth.scene.rgb[3].reshape(-1, 3)])
    np.testing.assert_array_equal(moment.colors, colours)
    assert (moment.confidence == 5).all()


def test_a_moment_at_a_frame_is_that_frame(truth: TrueScene) -> None:
    moment = truth.scene.at(truth.scene.times[3])
    np.testing.assert_array_equal(moment.points, truth.scene.points(3).reshape(-1, 3))
    np.testing.assert_array_equal(moment.cam2world, truth.scene.cam2world[3])
    np.testing.assert_array_equal(moment.intrinsics, truth.scene.intrinsics[3])
    assert (moment.confidence == 9).all()
    # which asks for no motion
    np.testing.assert_array_equal(
        replace(truth.scene, motion_samples=None).at(SECONDS).points[0], truth.scene.points(7)[0, 0]
    )


def test_the_camera_of_a_moment_is_half_way_half_way(truth: TrueScene) -> None:
    first, second = truth.scene.cam2world[:2].astype(np.float64)
    halfway = truth.scene.at(truth.scene.times[1] / 2).cam2world.astype(np.float64)
    np.testing.assert_allclose(halfway[:3, 3], (first[:3, 3] + second[:3, 3]) / 2, atol=1e-6)
    np.testing.assert_allclose(halfway[:3, :3] @ halfway[:3, :3].T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(
        halfway[:3, :3] @ first[:3, :3].T @ halfway[:3, :3], second[:3, :3], atol=1e-5
    )  # the same turn twice


def test_a_world_at_rest_does_not_move() -> None:
    still = true_scene(2, frames=4, height=32, width=48, moving_share=0.0)
    tracks = still.scene.tracks(every_pixel(still))
    np.testing.assert_array_equal(tracks.points, np.repeat(tracks.points[:, :1], 4, 1))
    assert not still.scene.motion(0.0, 0.9 * SECONDS).displacement.any()


def test_a_similar_scene_gives_similar_answers(truth: TrueScene, tracks: Tracks) -> None:
    turn, shift, scale = Rotation.from_rotvec([0.3, -1.2, 0.4]).as_matrix(), np.array([1.0, -2.0, 3.0]), 4.0
    scene = similar(truth.scene, turn, shift, scale)
    found = scene.tracks(every_pixel(truth))
    # points just at a threshold may fall on either side of it
    assert (found.visible == tracks.visible).mean() > 0.999
    error = np.abs(found.points - (scale * tracks.points @ turn.T + shift)).max(-1)
    assert (error < 1e-3).mean() > 0.999
    motion, before = scene.motion(0.0, 0.4), truth.scene.motion(0.0, 0.4)
    close = np.abs(motion.displacement - scale * before.displacement @ turn.T).max(-1) < 1e-3
    assert close.mean() > 0.999
    moment, then = scene.at(0.4), truth.scene.at(0.4)
    np.testing.assert_allclose(moment.points, scale * then.points @ turn.T + shift, atol=1e-3)


def test_pixels_without_measurement_have_no_track(truth: TrueScene) -> None:
    depth = truth.scene.depth.copy()
    depth[0, 10, 10] = 0
    scene = replace(truth.scene, depth=depth)
    track = scene.tracks(np.array([[10, 10], [30, 10]]))
    assert np.isnan(track.points[0]).all()
    assert not track.visible[0].any()
    assert (track.confidence[0] == 1).all()
    assert np.isfinite(track.points[1]).all()
    assert np.isnan(scene.motion(0.0, 0.5).displacement[10, 10]).all()
    assert len(scene.at(0.0).points) == depth[0].size - 1


def test_where_a_frames_motion_is_not_known_points_are_not_lost(truth: TrueScene) -> None:
    samples = truth.scene.motion_samples
    assert samples is not None
    kept = samples.edges[:, 0] != 3
    partly = replace(
        samples, edges=samples.edges[kept], displacement=samples.displacement[kept], confidence=samples.confidence[kept]
    )
    scene = replace(truth.scene, motion_samples=partly)
    found = scene.tracks(every_pixel(truth))
    assert np.isfinite(found.points).all()
    assert found.visible[:, -1].mean() > 0.3
    between = (scene.times[2] + scene.times[3]) / 2
    assert len(scene.at(between).points) == scene.depth[0].size  # of frame 2 alone


def test_what_cannot_be_answered_is_refused(truth: TrueScene) -> None:
    scene = truth.scene
    silent = replace(scene, motion_samples=None)
    for ask in (lambda: silent.motion(0, 1), lambda: silent.tracks([[1, 1]]), lambda: silent.at(0.1)):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="has no motion: reconstruct it with weights that have a motion head"):
            ask()
    with pytest.raises(UsageError, match=r"no frame is at 2\.5 s.* nearest is at 2 s"):
        scene.motion(2.5, 1.0)
    for time in (-0.1, 2.1, np.nan):
        with pytest.raises(UsageError, match="outside the clip, which lasts from 0 to 2 s"):
            scene.at(time)
        with pytest.raises(UsageError, match="outside the clip"):
            scene.motion(0.0, time)
    with pytest.raises(UsageError, match=r"pixel \(64, 3\) is outside the image of 64 x 48"):
        scene.tracks(np.array([[1, 1], [64, 3]]))
    with pytest.raises(UsageError, match="frames 0 to 7"):
        scene.tracks(np.array([[1, 1]]), frame=8)
    with pytest.raises(ShapeError, match="points, 2"):
        scene.tracks(np.array([1, 1]))
