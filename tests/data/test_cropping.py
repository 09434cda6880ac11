import numpy as np
import pytest

from stereo4d.data.cropping import plan_crop
from stereo4d.errors import InputError
from tests.golden_numbers import load


def camera(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


@pytest.mark.parametrize("number", range(8))
def test_crops_equal_the_published_ones(number):
    golden = load("losses_data")
    given = golden[f"crop{number}_in"]
    width, height, wanted_width, wanted_height, jitter, seed = (int(value) for value in given[[0, 1, 6, 7, 8, 9]])
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack([2 * column % 256, 2 * row % 256, (column + row) % 256], -1).astype(np.uint8)
    depth = (row * width + column + 1).astype(np.float32)
    crop = plan_crop(
        (height, width),
        camera(*given[2:6]),
        (wanted_height, wanted_width),
        rng=np.random.default_rng(seed),
        portraits=True,
        jitter=jitter,
    )
    np.testing.assert_array_equal(crop.map(depth), golden[f"crop{number}_depth"])
    np.testing.assert_allclose(crop.intrinsics, golden[f"crop{number}_K"], atol=1e-4)
    # other versions of Pillow may round otherwise
    assert np.abs(np.array(crop.picture(rgb)).astype(int) - golden[f"crop{number}_img"]).max() <= 1
    assert crop.size == crop.map(depth).shape


@pytest.mark.parametrize("options", [{}, {"focal": 0.6}, {"jitter": 16}, {"jitter": 40, "anywhere": True}], ids=str)
def test_rays_of_a_crop_are_those_of_the_image(options):
    # A picture whose colours are its own pixel coordinates tells where a crop's pixels came from.
    height, width = 120, 200
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack([column, row, 0 * row], -1).astype(np.uint8)
    before = camera(150, 140, 96.3, 61.8)
    crop = plan_crop((height, width), before, (48, 64), rng=np.random.default_rng(0), **options)
    seen = np.array(crop.picture(rgb)).astype(float)[8:-8, 8:-8, :2]
    after_column, after_row = np.meshgrid(np.arange(8, 64 - 8), np.arange(8, 48 - 8))
    rays = np.stack([after_column, after_row], -1) - crop.intrinsics[:2, 2]
    rays /= crop.intrinsics[[0, 1], [0, 1]]
    expected = rays * before[[0, 1], [0, 1]] + before[:2, 2]
    assert np.abs(seen - expected).max() < 1.01  # pixels are whole numbers, and the filter blurs


def test_zoom_leaves_the_field_of_view_smaller_and_draws_from_the_given_numbers():
    fields = []
    for seed in (1, 1, 2):
        crop = plan_crop((120, 200), camera(150, 150, 100, 60), (48, 64), rng=np.random.default_rng(seed), focal=0.5)
        fields.append(64 / crop.intrinsics[0, 0])
    whole = plan_crop((120, 200), camera(150, 150, 100, 60), (48, 64), rng=np.random.default_rng(0))
    assert fields[0] == fields[1] != fields[2]
    assert max(fields) < 64 / whole.intrinsics[0, 0]


def test_portrait_images_stay_portrait_only_where_asked():
    given = ((200, 120), camera(150, 150, 60, 100), (48, 64))
    assert plan_crop(*given, rng=np.random.default_rng(0), portraits=True).size == (64, 48)
    assert plan_crop(*given, rng=np.random.default_rng(0)).size == (48, 64)


def test_intrinsics_of_another_size_are_refused():
    with pytest.raises(InputError, match="of this size"):
        plan_crop((120, 200), camera(600, 600, 400, 240), (48, 64), rng=np.random.default_rng(0))


def test_crops_from_anywhere_reach_all_corners():
    given = ((120, 160), camera(150, 150, 80, 60), (48, 64))
    windows = [
        plan_crop(*given, rng=np.random.default_rng(seed), jitter=9, anywhere=True).window for seed in range(200)
    ]
    spans = [plan_crop(*given, rng=np.random.default_rng(seed), jitter=9).window for seed in range(200)]
    assert min(window[0] for window in windows) == 0
    assert max(window[0] for window in windows) > max(window[0] for window in spans)
