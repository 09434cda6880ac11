"""A pair that sees a place in two windows ties them together, if it and both its directions agree with them."""

import torch

from stereo4d.alignment.loops import PairInTwoWindows, measure_loop
from stereo4d.alignment.windows import see_frames
from stereo4d.geometry.camera import pinhole, unproject
from stereo4d.geometry.rigid import invert, rotation_from_vector, transform_points
from tests.worlds import render, smooth_cameras


def two_windows(*, turn: float = 0.0, bent: float = 0.0):
    """Frames 0 and 3 in windows of their own, what a pair says both ways, and the truth.

    Args:
        turn: radians by which the backward direction is wrong.
        bent: how far the shape of the second view is wrong.
    """
    world = render(smooth_cameras(4), torch.full((4,), 18.0, dtype=torch.float64), 15, 20)
    lens, sure = pinhole(world.focal, 15, 20), torch.full_like(world.depth, 3.0)
    carry = torch.eye(4, dtype=torch.float64)
    carry[:3, :3] = 1.7 * rotation_from_vector(torch.tensor([0.2, -0.5, 0.1], dtype=torch.float64))
    inside = torch.linalg.inv(carry) @ world.cam2world[3:]
    inside[:, :3, :3] *= 1.7
    first = see_frames(world.cam2world[:1], lens[:1], world.depth[:1], sure[:1])
    second = see_frames(inside, lens[3:], world.depth[3:] / 1.7, sure[3:])
    own = unproject(world.depth, lens)
    told = []
    for i, j in ((0, 3), (3, 0)):
        other = transform_points(invert(world.cam2world[i : i + 1]) @ world.cam2world[j : j + 1], own[j : j + 1])
        maps = {i: own[i], j: other[0]}
        if i == 3:
            maps[0] = maps[0] @ rotation_from_vector(torch.tensor([0.0, turn, 0.0], dtype=torch.float64)).T
        maps[3] = maps[3] * torch.stack([1 + bent * maps[3][..., 0].sin(), *torch.ones(2, *maps[3].shape[:2])], -1)
        views = tuple(2.5 * maps[frame].flatten(0, 1) for frame in (0, 3))
        told.append(PairInTwoWindows(views, (sure[0].flatten(), sure[3].flatten())))
    return first, second, tuple(told), carry


def test_an_exact_pair_ties_two_windows_exactly():
    first, second, told, carry = two_windows()
    for said in (told, told[:1]):
        loop = measure_loop(first, second, said)
        torch.testing.assert_close(loop.transform, carry, atol=1e-5, rtol=1e-5)
        assert loop.holds


def test_directions_that_contradict_each_other_are_not_believed():
    loop = measure_loop(*two_windows(turn=0.3)[:3])
    assert loop.misfit < 1e-4
    assert not loop.holds


def test_shapes_that_a_window_does_not_know_are_not_believed():
    loop = measure_loop(*two_windows(bent=1.5)[:3])
    assert loop.misfit > 0.08
    assert not loop.holds
