import numpy as np
import pytest

from stereo4d.data.seen import moved
from stereo4d.data.sparse_maps import of_tracks, winning_tracks
from tests.golden_numbers import load

FRAMES = {"v0_q": (0, 2), "v1_q": (4, 2), "v0_1": (0, 4), "v1_0": (4, 0)}


@pytest.mark.parametrize("name", FRAMES)
def test_maps_of_tracks_equal_the_reference(name):
    golden = load("dyna")
    own, then = FRAMES[name]
    intrinsics = golden["gt_K"].copy()
    intrinsics[:2, 2] -= 0.5  # stored with the image's corner at (0, 0)
    world2cam = [np.linalg.inv(pose) for pose in golden["gt_cam2world"]]
    tracks = golden["gt_tracks_world"]
    winners = winning_tracks(moved(world2cam[own], tracks[:, own]), intrinsics, (32, 32))
    np.testing.assert_array_equal(winners, golden[f"gtmap_{name}_track"])
    in_view0 = [moved(world2cam[0], tracks[:, index]) for index in (own, then)]
    points, motion = of_tracks(in_view0[0], winners), of_tracks(in_view0[1] - in_view0[0], winners)
    valid, known = golden[f"gtmap_{name}_valid"], golden[f"gtmap_{name}_mvalid"]
    np.testing.assert_array_equal(np.isfinite(points).all(-1), valid)
    np.testing.assert_array_equal(np.isfinite(motion).all(-1), known)
    np.testing.assert_allclose(points[valid], golden[f"gtmap_{name}_pts"][valid], atol=1e-12)
    np.testing.assert_allclose(motion[known], golden[f"gtmap_{name}_motion"][known], atol=1e-12)


def test_the_nearest_of_several_tracks_in_a_pixel_wins():
    points = np.array([[0, 0, 3.0], [0, 0, 2.0], [0, 0, -1.0], [np.nan, 0, 1.0], [9, 9, 1.0]])
    intrinsics = np.array([[10, 0, 2], [0, 10, 1], [0, 0, 1.0]])
    winners = winning_tracks(points, intrinsics, (3, 5))
    assert winners[1, 2] == 1
    assert (winners >= 0).sum() == 1


def test_no_tracks_give_an_empty_map():
    assert (winning_tracks(np.zeros((0, 3)), np.eye(3), (2, 3)) == -1).all()
    assert np.isnan(of_tracks(np.zeros((0, 3)), np.full((2, 3), -1))).all()
