"""Cuts are found where another shot begins, and neither motion, flashes of exposure nor chaos is one."""

import numpy as np

from stereo4d.video.shot_cuts import cuts_in_words, find_cuts, is_cut_everywhere, shots_between


def shot(seed: int, frames: int, *, pace: int = 2, brighter: float = 0.0) -> list[np.ndarray]:
    """A camera that moves along a textured wall of its own colours."""
    generator = np.random.default_rng(seed)
    tint = generator.uniform(0.2, 1.0, 3)
    wall = generator.uniform(0, 1, (8, 60)).repeat(8, 0).repeat(8, 1)[..., None] * 255 * tint
    return [
        (wall[:, pace * k : pace * k + 96] + brighter * k).clip(0, 255).astype(np.uint8) for k in range(frames)
    ]  # fmt: skip


def test_cuts_are_found_where_other_shots_begin():
    frames = [*shot(0, 12), *shot(1, 9), *shot(2, 15)]
    assert find_cuts(frames) == [12, 21]
    assert [len(part) for part in shots_between([12, 21], 36)] == [12, 9, 15]


def test_a_fast_camera_and_a_brightening_one_are_not_cut():
    assert find_cuts(shot(0, 20, pace=6)) == []
    assert find_cuts(shot(0, 20, brighter=6.0)) == []


def test_a_clip_of_one_repeated_frame_has_no_cut():
    assert find_cuts(shot(0, 1) * 20) == []
    assert find_cuts([np.zeros((48, 64, 3), np.uint8)] * 20) == []


def test_where_every_frame_is_another_shot_nothing_stands_out():
    chaos = [shot(seed, 1)[0] for seed in range(20)]
    assert find_cuts(chaos) == []
    assert is_cut_everywhere(chaos)
    for calm in (shot(0, 20, pace=6), shot(0, 1) * 20, [*shot(0, 12), *shot(1, 12)], shot(0, 3)):
        assert not is_cut_everywhere(calm)


def test_very_short_clips_are_not_judged():
    assert find_cuts([*shot(0, 2), *shot(1, 2)]) == []
    assert shots_between([], 4) == [range(4)]


def test_words_name_frames_and_seconds_of_the_input():
    said = cuts_in_words([2], np.array([0, 5, 10]), np.array([0.0, 0.5, 1.0]))
    assert said == "it looks cut at frame 10 (1.00 s)"
