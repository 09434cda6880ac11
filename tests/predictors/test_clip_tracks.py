"""Points are followed to small parts of a pixel, through turning, growing and changes of light."""

import cv2
import numpy as np
import pytest
from stereo4d_plugins.predictors.classical.hypotheses import image_motion, key_frames, largest_motion
from stereo4d_plugins.predictors.classical.patches import cut_out, find_again
from stereo4d_plugins.predictors.classical.tracks import Tracks, track_clip

from tests.predictors.clip_worlds import filmed


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(160, 220) float32, smooth."""
    noise = np.random.default_rng(0).normal(size=(160, 220)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX)


def grid(spacing: int = 25) -> np.ndarray:
    u, v = np.meshgrid(np.arange(40, 180, spacing), np.arange(40, 120, spacing))
    return np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)


@pytest.mark.parametrize(("degrees", "scale", "gain", "offset"), [(0, 1, 1, 0), (8, 1.1, 1, 0), (-5, 0.92, 0.7, 30)])
def test_patches_are_found_though_they_turn_grow_and_change_brightness(picture, degrees, scale, gain, offset):
    motion = cv2.getRotationMatrix2D((110, 80), degrees, scale) + np.array([[0, 0, 0.4], [0, 0, -0.7]])
    other = gain * cv2.warpAffine(picture, motion, (220, 160), flags=cv2.INTER_CUBIC) + np.float32(offset)
    pixels = grid()
    truth = pixels @ motion[:, :2].T + motion[:, 2]
    guess = truth + np.random.default_rng(1).uniform(-0.8, 0.8, truth.shape)
    found, _, likeness = find_again(
        cut_out(picture, pixels, 15), other.astype(np.float32), guess, np.tile(np.eye(2), (len(pixels), 1, 1))
    )
    assert (likeness > 0.97).mean() > 0.9
    error = np.linalg.norm(found - truth, axis=1)[likeness > 0.97]
    assert np.median(error) < 0.03
    assert error.max() < 0.2


def test_a_patch_that_is_not_there_is_not_recognised(picture):
    other = cv2.flip(picture, -1)
    _, _, likeness = find_again(cut_out(picture, grid(), 15), other, grid(), np.tile(np.eye(2), (len(grid()), 1, 1)))
    assert (likeness < 0.85).mean() > 0.9


def test_an_edge_is_less_sure_of_its_place_than_a_corner():
    corner = np.zeros((60, 60), np.float32)
    corner[30:, 30:] = 200
    edge = np.zeros((60, 60), np.float32)
    edge[:, 30:] = 200
    middle = np.array([[30.0, 30.0]])
    spreads = [float(cut_out(cv2.GaussianBlur(one, (0, 0), 1), middle, 15).spread[0]) for one in (corner, edge)]
    assert spreads[0] < 0.1 * spreads[1]


def test_tracks_stay_on_their_surface_points_for_the_whole_clip():
    clip = filmed(5)
    tracks = track_clip(clip.rgb)
    focal, height, width = clip.intrinsics[0, 0], *clip.depth.shape[1:]
    begins = np.flatnonzero(np.diff(tracks.track, prepend=-1) > 0)[tracks.track]
    start, pixels = tracks.frame[begins], tracks.pixels[begins].astype(float)
    nearest = np.rint(pixels).astype(int).clip(0, [width - 1, height - 1])
    depth = clip.depth[start, nearest[:, 1], nearest[:, 0]]
    local = np.concatenate([(pixels - clip.intrinsics[:2, 2]) / focal, np.ones((len(depth), 1))], 1) * depth[:, None]
    world = np.einsum("oij,oj->oi", clip.cam2world[start, :3, :3], local) + clip.cam2world[start, :3, 3]
    world2cam = np.linalg.inv(clip.cam2world)[tracks.frame]
    there = np.einsum("oij,oj->oi", world2cam[:, :3, :3], world) + world2cam[:, :3, 3]
    image = focal * there[:, :2] / there[:, 2:] + clip.intrinsics[:2, 2]
    error = np.linalg.norm(tracks.pixels - image, axis=1)
    old = tracks.frame - start >= 8
    assert old.sum() > 300
    assert np.median(error[old]) < 0.15


def test_observations_are_sorted_and_every_track_has_two(picture):
    frames = np.stack([np.roll(picture, 2 * step, 1) for step in range(5)]).astype(np.uint8)
    tracks = track_clip(np.repeat(frames[..., None], 3, -1))
    assert tracks.count > 50
    assert tracks.lengths().min() >= 2
    assert (np.diff(tracks.track) >= 0).all()
    assert (np.diff(tracks.frame)[np.diff(tracks.track) == 0] > 0).all()
    assert image_motion(tracks) == pytest.approx([2] * 4, abs=0.02)


def test_points_are_found_again_after_a_black_frame(picture):
    frames = np.stack([np.roll(picture, 2 * step, 1) for step in range(6)]).astype(np.uint8)
    frames[3] = 0
    tracks = track_clip(np.repeat(frames[..., None], 3, -1))
    across = np.intersect1d(tracks.track[tracks.frame == 2], tracks.track[tracks.frame == 4])
    assert not (tracks.frame == 3).any()
    assert len(across) > 40


def test_the_longest_tracks_are_taken_and_laid_out():
    track, frame = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 1, 2])
    tracks = Tracks(track, frame, np.arange(14, dtype=np.float32).reshape(7, 2), 3)
    frames = np.array([0, 1, 2])
    assert tracks.longest(frames, at_least=2, at_most=1).tolist() == [1]
    assert tracks.longest(np.array([0, 2]), at_least=2, at_most=9).tolist() == [1]
    table = tracks.table(frames, np.array([0, 2]))
    assert table[0, 0].tolist() == [0, 1]
    assert np.isnan(table[0, 2]).all()
    assert table[1, 2].tolist() == [12, 13]


def test_key_frames_follow_the_motion_of_the_image():
    motion = np.array([0.0, 0, 0, 0, 10, 10, 10, 10])
    assert key_frames(motion, 10, at_least=3, at_most=9).tolist()[-3:] == [6, 7, 8]
    assert key_frames(motion, 1e9, at_least=3, at_most=9).tolist()[0] == 0
    assert len(key_frames(motion, 1e9, at_least=3, at_most=9)) == 3
    assert key_frames(np.zeros(0), 10, at_least=3, at_most=9).tolist() == [0]


def test_frames_without_common_points_do_not_compare():
    assert largest_motion(np.full((30, 4, 2), np.nan)) is None
    assert largest_motion(np.zeros((30, 4, 2))) == 0
