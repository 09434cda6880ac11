"""Windows cover every frame and every short pair, and lie on one another where they share frames."""

from itertools import pairwise

import pytest
import torch

from stereo4d.alignment.windows import Window, cut_into_windows, find_seam, see_frames
from stereo4d.errors import UsageError
from stereo4d.geometry.rigid import rotation_from_vector
from tests.worlds import render, smooth_cameras


@pytest.mark.parametrize(
    ("frames", "window", "overlap"), [(100, 40, 10), (71, 40, 10), (9, 8, 4), (41, 40, 20), (7, 4, 2)]
)
def test_windows_hold_every_frame_and_every_pair_no_longer_than_the_overlap(frames, window, overlap):
    windows = cut_into_windows(frames, window, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == frames
    assert all(len(one) == window for one in windows)
    assert all(len(a.shared_with(b)) >= overlap for a, b in pairwise(windows))
    for first in range(frames - overlap):
        assert any(one.start <= first and first + overlap < one.stop for one in windows)


def test_a_window_longer_than_the_clip_is_the_clip():
    assert cut_into_windows(5, 40, 8) == [Window(0, 5)]
    assert cut_into_windows(1, 4, 2) == [Window(0, 1)]


@pytest.mark.parametrize(
    ("window", "overlap", "said"), [(3, 1, "--window 3"), (8, 1, "--overlap 1"), (8, 5, "2 to 4 frames")]
)
def test_windows_that_cannot_be_are_refused_with_what_can(window, overlap, said):
    with pytest.raises(UsageError, match=said):
        cut_into_windows(50, window, overlap)


def seen_twice(*, spoil: float = 0.0):
    """Four frames as two windows see them, the second in a world of its own, and the similarity between them."""
    world = render(smooth_cameras(4), torch.full((4,), 18.0, dtype=torch.float64), 15, 20)
    lens = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
    lens[:, 0, 0] = lens[:, 1, 1] = 18.0
    lens[:, 0, 2], lens[:, 1, 2] = 10.0, 7.5
    sure = torch.full_like(world.depth, 3.0)
    first = see_frames(world.cam2world, lens, world.depth, sure)
    carry = torch.eye(4, dtype=torch.float64)
    carry[:3, :3] = 1.7 * rotation_from_vector(torch.tensor([0.2, -0.5, 0.1], dtype=torch.float64))
    carry[:3, 3] = torch.tensor([1.0, 2.0, -0.5])
    placed = torch.linalg.inv(carry) @ world.cam2world
    placed[:, :3, :3] *= 1.7
    depth = world.depth / 1.7
    wrong = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < spoil
    return first, see_frames(placed, lens, torch.where(wrong, 3 * depth, depth), sure), carry, wrong


def test_one_window_is_laid_exactly_onto_another_that_sees_the_same():
    first, second, carry, _ = seen_twice()
    seam = find_seam(first, second)
    torch.testing.assert_close(seam.transform, carry, atol=1e-6, rtol=1e-6)
    assert max(seam.points_error, seam.centre_error, seam.rotation_error) < 1e-5


def test_a_quarter_of_wrong_depths_does_not_move_the_seam():
    first, second, carry, _ = seen_twice(spoil=0.25)
    torch.testing.assert_close(find_seam(first, second).transform, carry, atol=0.02, rtol=0.02)


def test_pixels_that_move_tell_nothing_unless_there_are_no_others():
    world = render(smooth_cameras(1), torch.full((1,), 18.0, dtype=torch.float64), 15, 20)
    lens, sure = torch.eye(3).double()[None], torch.full_like(world.depth, 3.0)
    moving = torch.zeros_like(world.depth, dtype=torch.bool)
    moving[:, :7] = True
    seen = see_frames(world.cam2world, lens, world.depth, sure, moving)
    assert 0.4 < float((seen.weight == 0).double().mean()) < 0.55
    assert bool((see_frames(world.cam2world, lens, world.depth, sure, ~torch.zeros_like(moving)).weight > 0).all())
