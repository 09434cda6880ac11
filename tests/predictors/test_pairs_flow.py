"""Optical flow both ways, and where it is to be believed."""

import numpy as np
import pytest
from stereo4d_plugins.flow.dis import Dis

from stereo4d.video.flow import flow_pair
from stereo4d.video.flow_cache import FlowCache
from tests.predictors.pairs_clips import true_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return true_clip(tmp_path_factory.mktemp("flow"), seed=2, frames=3, height=144, width=256, camera_travel=(0.1, 0.2))


@pytest.fixture(scope="module")
def pair(clip):
    return flow_pair(Dis(), clip.clip.rgb[0], clip.clip.rgb[1])


def test_flow_is_where_the_pixels_went(clip, pair):
    true, seen = clip.flow(0, 1)
    error = np.linalg.norm(pair.forward - true, axis=-1)
    assert np.median(np.linalg.norm(true, axis=-1)[seen]) > 3
    assert np.median(error[seen & pair.valid0]) < 0.5


def test_what_leaves_the_image_or_is_hidden_is_seldom_valid(clip, pair):
    _, seen = clip.flow(0, 1)
    assert pair.valid0[seen].mean() > 0.8
    assert pair.valid0[~seen].mean() < 0.4
    assert (pair.error0[~pair.valid0] >= 1).all()


def test_swapped_flow_is_that_of_the_other_direction(pair):
    swapped = pair.swapped()
    np.testing.assert_array_equal(swapped.forward, pair.backward)
    np.testing.assert_array_equal(swapped.valid1, pair.valid0)
    np.testing.assert_array_equal(swapped.swapped().error0, pair.error0)


def test_images_without_any_texture_have_finite_flow():
    black = np.zeros((64, 96, 3), np.uint8)
    pair = flow_pair(Dis(), black, black)
    assert np.isfinite(pair.forward).all()
    assert np.abs(pair.forward).max() < 1e-3


def test_flow_of_a_pair_is_found_once_and_let_go(clip):
    cache = FlowCache(Dis(), clip.clip.rgb)
    there, back = cache.between(0, 1), cache.between(1, 0)
    assert cache.found == 1
    assert there.forward is back.backward
    cache.between(1, 2)
    cache.keep_only([(2, 1)])
    cache.between(1, 2)
    assert cache.found == 2
    cache.between(0, 1)
    assert (cache.found, cache.peak) == (3, 2)
