import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d.data.transforms import normalise, open_image, plan_fit, prepare_image, to_uint8
from stereo4d.errors import InputError, UsageError
from tests.golden_numbers import GOLDEN, load

CASES = json.loads((GOLDEN / "preprocess.json").read_text())["cases"]


def pattern(width: int, height: int) -> np.ndarray:
    """The generated input of the stored cases."""
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None]
    t = ((x // 5 + y // 3) % 2) * 40
    red = np.clip(255 * x // max(width - 1, 1) + t - 20, 0, 255)
    green = np.clip(255 * y // max(height - 1, 1) - t + 20, 0, 255)
    blue = ((x**2 + 3 * y**2 + x * y) // 64) % 256
    return np.stack([channel.astype(np.uint8) for channel in (red, green, blue)], -1)


def stored(folder: Path, pixels: np.ndarray, orientation: int) -> Path:
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    path = folder / "image.png"
    image.save(path, exif=image.getexif(), compress_level=0)
    return path


def test_the_generated_input_is_the_stored_one() -> None:
    assert (pattern(97, 61) == load("preprocess")["synth_97x61"]).all()


def test_all_stored_cases_are_here() -> None:
    assert len(CASES) == 66


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_prepared_pixels_are_the_reference_bytes(case: dict, tmp_path: Path) -> None:
    width, height = case["input_wh"]
    source: np.ndarray | Image.Image = pattern(width, height)
    if width * height < 1e6:  # a larger file takes long to write and shows nothing new
        source = open_image(stored(tmp_path, pattern(width, height), case["exif_orientation"]))
    view = prepare_image(source, case["size"], square_ok=case["square_ok"])
    pixels = to_uint8(view.image)
    assert list(pixels.shape[:2]) == case["output_hw"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256_uint8_hwc"]
    golden, name = load("preprocess"), case["case"]
    assert (pixels[::8, ::8] == golden[f"{name}/uint8_every8"]).all()
    if f"{name}/tensor_crop" in golden:
        assert (view.image[:, :24, :24].numpy() == golden[f"{name}/tensor_crop"]).all()


@pytest.mark.parametrize("size", [512, 224, 128])
@pytest.mark.parametrize(("width", "height"), [(1000, 601), (120, 90), (333, 801), (600, 600)])
def test_every_pixel_knows_where_it_came_from(width: int, height: int, size: int) -> None:
    v, u = np.mgrid[:height, :width]
    # colours that grow evenly with the coordinates keep growing evenly through any resampling
    ramp = np.stack([u * 250 / width, v * 250 / height, 0 * u], -1).round().astype(np.uint8)
    view = prepare_image(ramp, size)
    pixels = to_uint8(view.image).astype(float)[16:-16, 16:-16]  # away from borders, where filters are cut off
    rows, columns = np.mgrid[16 : view.image.shape[1] - 16, 16 : view.image.shape[2] - 16]
    mapped = view.to_original.matrix() @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    seen = [pixels[..., 0].ravel() * width / 250, pixels[..., 1].ravel() * height / 250]
    for found, true in zip(mapped[:2], seen, strict=True):
        # averaged over all pixels the rounding of colours cancels; forgetting the half pixel would cost more
        assert abs((found - true).mean()) < 0.12 * max(1, max(width, height) / 500)
        assert np.abs(found - true).max() < 1.2 * max(width, height) / 250 + 0.5


def test_the_corners_of_an_uncropped_image_stay_its_corners() -> None:
    view = prepare_image(pattern(1024, 768), 512)
    top_left = view.to_original.matrix() @ [-0.5, -0.5, 1]
    bottom_right = view.to_original.matrix() @ [511.5, 383.5, 1]
    np.testing.assert_allclose(top_left[:2], [-0.5, -0.5], atol=1e-12)
    np.testing.assert_allclose(bottom_right[:2], [1023.5, 767.5], atol=1e-12)


def test_intrinsics_survive_the_way_there_and_back() -> None:
    view = prepare_image(pattern(801, 333), 512)
    intrinsics = np.array([[700.0, 0, 400], [0, 690, 166], [0, 0, 1]])
    network = view.to_original.to_network(intrinsics)
    np.testing.assert_allclose(view.to_original.to_original(network), intrinsics, rtol=1e-12)
    point = np.array([0.3, -0.2, 2.0])
    there, here = intrinsics @ point, network @ point
    np.testing.assert_allclose(view.to_original.matrix() @ (here / here[2]), there / there[2], rtol=1e-12)


def test_normalising_is_undone_exactly() -> None:
    pixels = pattern(256, 64)
    image = normalise(pixels)
    assert image.dtype == torch.float32
    assert image.min() >= -1
    assert image.max() <= 1
    assert (to_uint8(image) == pixels).all()


def test_an_array_and_a_picture_give_the_same_view() -> None:
    pixels = pattern(97, 61)
    assert torch.equal(prepare_image(pixels, 64).image, prepare_image(Image.fromarray(pixels), 64).image)


@pytest.mark.parametrize("size", [64, 128, 160, 224, 528, 512])
@pytest.mark.parametrize(("width", "height"), [(640, 640), (641, 640), (37, 91), (1920, 1080)])
def test_every_size_covers_whole_patches(width: int, height: int, size: int) -> None:
    rows, columns = plan_fit(width, height, size).size
    assert rows % 16 == columns % 16 == 0
    assert min(rows, columns) > 0


def test_a_thread_of_an_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"1000x20 pixels becomes 512x10"):
        prepare_image(pattern(1000, 20), 512)


def test_a_size_below_one_patch_is_refused() -> None:
    with pytest.raises(UsageError, match="size 8"):
        prepare_image(pattern(64, 64), 8)


def test_floating_point_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        prepare_image(np.zeros((4, 4, 3), np.float32), 64)


@pytest.mark.parametrize("content", [None, b"", b"hello", pattern(64, 64).tobytes()])
def test_what_is_no_image_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"photo\.png"):
        open_image(path)


def test_an_image_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = stored(tmp_path, pattern(200, 200), 1)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"image\.png cannot be read"):
        open_image(path)


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        open_image(tmp_path)
