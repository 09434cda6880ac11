"""The friendly call: pictures of any kind in, pointmaps out; the raw network stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d.data.transforms import prepare_image
from stereo4d.errors import InputError, ShapeError, UsageError
from stereo4d.network.config import HeadChoice
from stereo4d.network.precision import choose
from stereo4d.network.stereo import StereoNetwork
from tests.golden_numbers import drawn_network, small_config
from tests.tiny_weights import tiny_network

NARROW = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}


def pixels(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> StereoNetwork:
    return tiny_network()


def test_every_kind_of_picture_gives_the_same_pointmaps(network: StereoNetwork, tmp_path: Path) -> None:
    arrays = [pixels(0), pixels(1)]
    with torch.no_grad():
        expected = network(*(prepare_image(array, 64).image[None] for array in arrays))
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    kinds = {
        "array": arrays,
        "floating array": [array / np.float64(255) for array in arrays],
        "tensor": [torch.from_numpy(array).permute(2, 0, 1) for array in arrays],
        "floating tensor": [torch.from_numpy(array).permute(2, 0, 1) / 255 for array in arrays],
        "pillow": [Image.fromarray(array) for array in arrays],
        "path": paths,
        "text": [str(path) for path in paths],
        "batch": [array[None] for array in arrays],
        "batch of tensors": [torch.from_numpy(array).permute(2, 0, 1)[None] for array in arrays],
    }
    for name, (first, second) in kinds.items():
        found = network.predict(first, second)
        assert torch.equal(found.pointmap0, expected.pointmap0), name
        assert torch.equal(found.confidence1, expected.confidence1), name


def test_several_pairs_are_predicted_at_once(network: StereoNetwork) -> None:
    together = network.predict([pixels(0), pixels(1)], np.stack([pixels(2), pixels(3)]))
    assert together.pointmap0.shape == (2, 48, 64, 3)
    alone = network.predict(pixels(1), pixels(3))
    torch.testing.assert_close(together.pointmap1[1], alone.pointmap1[0], rtol=1e-5, atol=1e-5)


def test_pictures_of_a_pair_may_differ_in_size_and_orientation(network: StereoNetwork) -> None:
    found = network.predict(pixels(0), pixels(1, height=90, width=50))
    assert found.pointmap0.shape == (1, 48, 64, 3)
    assert found.pointmap1.shape == (1, 64, 32, 3)


def test_the_size_can_be_chosen(network: StereoNetwork) -> None:
    assert network.predict(pixels(0), pixels(1), size=32).pointmap0.shape == (1, 16, 32, 3)


def test_motion_comes_at_the_times_that_were_asked_for() -> None:
    choice = HeadChoice("motion", {"embed_dim": 16, **NARROW})
    network = drawn_network(small_config("dpt", head_options=NARROW, heads={"motion": choice}))
    found = network.predict(pixels(0), pixels(1), times=[0.0, 0.5, 1.0], size=64).extras["motion"]
    assert found["displacement0"].shape == (1, 3, 48, 64, 3)
    with pytest.raises(UsageError, match="no head that takes them"):
        tiny_network().predict(pixels(0), pixels(1), times=[0.5])


def test_what_comes_back_is_plain_numbers_in_full_precision(network: StereoNetwork) -> None:
    network.precision = choose("bf16", torch.device("cpu"))
    try:
        found = network.predict(pixels(0), pixels(1))
    finally:
        network.precision = choose("auto", torch.device("cpu"))
    assert found.pointmap0.dtype == torch.float32
    assert not found.pointmap0.requires_grad
    assert np.isfinite(found.pointmap0.numpy()).all()


@pytest.mark.parametrize(
    ("first", "second", "error", "reason"),
    [
        (pixels(0)[..., 0], pixels(1), ShapeError, r"\(60, 80\) must be \(H, W, 3\)"),
        (torch.zeros(60, 80, 3), pixels(1), ShapeError, r"must be \(3, H, W\)"),
        (torch.zeros(3, 60, 80) - 1, pixels(1), ShapeError, r"-1 \.\.\. 0 must lie in 0 \.\.\. 1"),
        (pixels(0).astype(np.float32), pixels(1), ShapeError, r"divide 0 \.\.\. 255 by 255"),
        (np.full((60, 80, 3), np.nan), pixels(1), ShapeError, "nan"),
        (pixels(0).astype(np.int64), pixels(1), ShapeError, "int64"),
        ([pixels(0), pixels(1)], [pixels(2)], ShapeError, "2 first pictures and 1 second"),
        ([], [], ShapeError, "image0 must be of one size"),
        ([pixels(0), pixels(1, 90)], [pixels(2), pixels(3)], ShapeError, "image0 must be of one size.*64x48"),
        ("nowhere.png", pixels(1), InputError, r"nowhere\.png: no such file"),
    ],
)
def test_what_is_no_picture_is_named(
    network: StereoNetwork, first: object, second: object, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        network.predict(first, second)  # type: ignore[arg-type]
