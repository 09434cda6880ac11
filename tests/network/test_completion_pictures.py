"""Pictures completed from others: what is hidden, what is shown, and which pictures are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stereo4d.errors import ShapeError
from tests.tiny_completion import tiny


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("positions", ["RoPE100", "cosine"])
def test_a_picture_is_completed_from_another(positions: str) -> None:
    network = tiny(positions)
    image, reference = picture(64, 64), picture(64, 64, seed=1)
    shown = network.complete(image, reference, seed=4)
    assert shown.hidden.shape == (4, 4)
    assert shown.hidden.sum() == 12
    for each in (shown.picture, shown.masked, shown.image, shown.reference):
        assert (each.shape, each.dtype) == ((64, 64, 3), np.float32)
        assert each.min() >= 0
        assert each.max() <= 1
    covered = np.kron(shown.hidden, np.ones((16, 16), bool))
    assert (shown.image == image.astype(np.float32) / 255).all()
    assert (shown.reference == reference.astype(np.float32) / 255).all()
    assert (shown.picture[~covered] == shown.image[~covered]).all()
    assert (shown.masked[~covered] == shown.image[~covered]).all()
    assert (shown.masked[covered] == 0.5).all()
    assert np.abs(shown.picture[covered] - shown.image[covered]).mean() > 0.01
    again, other = network.complete(image, reference, seed=4), network.complete(image, reference, seed=5)
    assert (again.picture == shown.picture).all()
    assert (other.hidden != shown.hidden).any()


def test_a_perfect_prediction_is_shown_as_the_picture_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch statistics and the normalisation of ImageNet are both undone."""
    network = tiny()
    forward = network.forward

    def perfect(*inputs: Tensor) -> object:
        found = forward(*inputs)
        mean, variance = found.target.mean(-1, keepdim=True), found.target.var(-1, keepdim=True)
        truth = (found.target - mean) / (variance + 1e-6).sqrt()
        return found.__class__(truth, found.hidden, found.target, found.image_size)

    monkeypatch.setattr(network, "forward", perfect)
    shown = network.complete(picture(64, 64), picture(64, 64, seed=1))
    np.testing.assert_allclose(shown.picture, shown.image, atol=1e-5)


def test_the_network_is_given_images_normalised_as_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    given: list[Tensor] = []
    network.register_forward_pre_hook(lambda _module, inputs: given.extend(inputs))
    black = np.zeros((64, 64, 3), np.uint8)
    network.complete(black, black + np.uint8(255))
    assert given[0][0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert given[1][0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_pictures_of_every_kind_and_size_are_taken() -> None:
    network = tiny()
    whole = picture(100, 160)
    hidden = np.zeros(16, bool)
    hidden[3:9] = True
    kinds = (
        whole,
        Image.fromarray(whole),
        Image.fromarray(whole).convert("RGBA"),
        torch.from_numpy(whole).permute(2, 0, 1),
        torch.from_numpy(whole).permute(2, 0, 1).float() / 255,
    )
    shown = [network.complete(each, kinds[0], hidden=hidden) for each in kinds]
    for each in shown:
        assert (each.picture == shown[0].picture).all()
        assert (each.hidden.ravel() == hidden).all()
    squeezed = network.complete(whole, picture(70, 30), hidden=hidden.reshape(4, 4))
    assert squeezed.reference.shape == (64, 64, 3)
    wide = network.complete(whole, whole, size=(32, 80))
    assert wide.picture.shape == (32, 80, 3)
    assert wide.hidden.shape == (2, 5)


def test_a_crop_keeps_the_middle_and_a_one_to_one_fit_keeps_every_value() -> None:
    network = tiny()
    whole = picture(64, 96)
    shown = network.complete(whole, whole)
    assert (shown.image == whole[:, 16:-16].astype(np.float32) / 255).all()


def test_pictures_that_cannot_be_completed_are_explained() -> None:
    network = tiny()
    with pytest.raises(ShapeError, match="three channels"):
        network.complete(np.zeros((8, 8), np.uint8), picture(64, 64))
    with pytest.raises(ShapeError, match="booleans"):
        network.complete(picture(64, 64), picture(64, 64), hidden=np.zeros(16))
    with pytest.raises(ShapeError, match=r"here \(1, 16\)"):
        network.complete(picture(64, 64), picture(64, 64), hidden=np.zeros(9, bool))
    with pytest.raises(ShapeError, match="multiples of the patch size"):
        network.complete(picture(64, 64), picture(64, 64), size=(60, 64))
    with pytest.raises(ShapeError, match="positions are made for 64x64"):
        tiny("cosine").complete(picture(64, 64), picture(64, 64), size=(32, 64))
