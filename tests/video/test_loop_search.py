"""Frames far apart that look alike are found, each place once, and none where there is no such place."""

import numpy as np

from stereo4d.video.clip import Clip
from stereo4d.video.loop_search import keyframes, loop_pairs, thumbnail_similarity


def walk(places: np.ndarray) -> Clip:
    """Frames that look out of a window moving along a long textured wall."""
    noise = np.random.default_rng(0).uniform(0, 255, (16, 1300)).repeat(6, 0)
    smooth = np.stack([np.convolve(row, np.full(24, 1 / 24), "same") for row in noise]).clip(0, 255)
    wall = smooth[..., None].repeat(3, -1)
    rgb = np.stack([wall[:, place : place + 64] for place in places]).astype(np.uint8)
    count = len(rgb)
    return Clip(
        rgb,
        np.arange(count, dtype=np.float64),
        np.arange(count),
        np.tile([96, 64], (count, 1)),
        np.tile([1.0, 1.0, 0.0, 0.0], (count, 1)),
    )


def found(places: np.ndarray, window: int = 16) -> list[tuple[int, int]]:
    clip = walk(places)
    frames = keyframes(len(clip), window)
    return loop_pairs(thumbnail_similarity(clip, frames), frames, window)


def test_a_camera_that_comes_back_is_found_where_it_does():
    there = np.arange(0, 4 * 48, 4)
    pairs = found(np.concatenate([there, there[::-1]]))
    assert pairs
    assert all(abs(low + high - 95) <= 2 for low, high in pairs)
    assert {edge[::-1] for edge in pairs} == set(pairs)
    assert len(pairs) <= 2 * 96 // 16


def test_a_camera_that_goes_on_and_on_has_no_loops():
    assert found(np.arange(0, 6 * 96, 6)) == []


def test_frames_that_are_all_the_same_are_like_no_other():
    assert found(np.zeros(40, np.int64)) == []


def test_no_pair_lies_within_a_window():
    similarity = np.ones((10, 10))
    assert loop_pairs(similarity, np.arange(10) * 4, 37) == []
    assert all(abs(a - b) >= 12 for a, b in loop_pairs(similarity, np.arange(10) * 4, 12))
