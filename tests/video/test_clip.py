"""Frames at network size: where every pixel came from is known, whatever was done to it."""

import logging

import numpy as np
import pytest
from PIL import Image

from stereo4d.errors import InputError
from stereo4d.video.clip import Clip, bring_to, camera_stands_still, read_clip
from stereo4d.video.frames import FailedFrame, Frame, Reader, describe
from stereo4d.video.sources import Source, find_source
from tests.clips import cut, picture, write_clip


def open_clip(source: Source, *, size: int = 64) -> Clip:
    listing = describe(source)
    return read_clip(source, listing, range(len(listing.times)), size=size)


def save_images(folder, images):
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return find_source([str(folder)])


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows with the column and green with the row, linearly over the image's extent, from 20 to 220."""
    u = 20 + 200 * (np.arange(width) + 0.5) / width
    v = 20 + 200 * (np.arange(height) + 0.5) / height
    return np.stack([*np.meshgrid(u, v), np.zeros((height, width))], -1).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(120, 160), (160, 120), (90, 200), (97, 131)])
def test_network_pixels_map_to_the_original_pixels_they_show(shape, tmp_path):
    clip = open_clip(save_images(tmp_path, [gradient(*shape)]))
    height, width = clip.rgb.shape[1:3]
    assert (height % 16, width % 16, max(height, width)) == (0, 0, 64)
    for v, u in [(0, 0), (height - 1, 0), (height // 2, width - 1)]:
        original = clip.pixel_map(0).matrix() @ [u, v, 1]
        shown = (clip.rgb[0, v, u, :2].astype(float) - 20) / 200 * [shape[1], shape[0]] - 0.5
        assert original[:2] == pytest.approx(shown, abs=1.2)  # one grey level is 0.8 pixels of the widest


def test_images_of_other_sizes_are_brought_to_that_of_most_and_named(tmp_path, caplog):
    images = [gradient(96, 128), gradient(48, 128), gradient(96, 128)]
    with caplog.at_level(logging.WARNING, "stereo4d"):
        clip = open_clip(save_images(tmp_path, images))
    assert clip.rgb.shape == (3, 48, 64, 3)
    assert clip.original_sizes.tolist() == [[96, 128], [48, 128], [96, 128]]
    assert "brought to 128x96" in caplog.text
    assert "1.png is 128x48" in caplog.text
    assert "0.png" not in caplog.text
    # The odd one was enlarged and cropped: its own map leads back to its own pixels.
    for v, u in [(10, 10), (40, 60)]:
        original = clip.pixel_map(1).matrix() @ [u, v, 1]
        shown = (clip.rgb[1, v, u, :2].astype(float) - 20) / 200 * [128, 48] - 0.5
        assert original[:2] == pytest.approx(shown, abs=1.2)


def test_bringing_an_image_to_its_own_size_changes_nothing():
    image = gradient(20, 30)
    same, to_original = bring_to(image, (20, 30))
    assert same is image
    assert to_original.matrix().tolist() == np.eye(3).tolist()


def test_network_input_is_the_stored_pixels_exactly(tmp_path):
    clip = open_clip(save_images(tmp_path, [picture(0), picture(5)]))
    images = clip.images([1, 0])
    assert images.shape == (2, 3, *clip.rgb.shape[1:3])
    assert ((images * 0.5 + 0.5) * 255).round().numpy().transpose(0, 2, 3, 1) == pytest.approx(clip.rgb[[1, 0]])


def test_a_clip_comes_back_from_disk_as_it_was(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    clip = open_clip(save_images(images, [picture(i) for i in range(3)]))
    clip = Clip(
        clip.rgb, clip.times, clip.frame_indices, clip.original_sizes, clip.pixel_maps, (FailedFrame(7, "torn"),)
    )
    clip.save(tmp_path / "clip.safetensors")
    again = Clip.load(tmp_path / "clip.safetensors")
    for name in ("rgb", "times", "frame_indices", "original_sizes", "pixel_maps"):
        assert (getattr(again, name) == getattr(clip, name)).all()
    assert again.failed == (FailedFrame(7, "torn"),)


def test_a_truncated_clip_warns_with_counts_and_keeps_the_rest(tmp_path, caplog):
    whole = write_clip(tmp_path / "whole.mp4", [picture(i) for i in range(40)], index_first=True)
    source = find_source([str(cut(whole, 0.6, tmp_path / "cut.mp4"))])
    with caplog.at_level(logging.WARNING, "stereo4d"):
        clip = open_clip(source)
    assert 5 < len(clip) < 38
    assert len(clip.failed) == 40 - len(clip)
    assert f"cut.mp4: {len(clip)} of 40 chosen frames could be read" in caplog.text


def test_a_clip_without_one_good_frame_is_an_error(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    source = find_source([str(tmp_path)])
    listing = describe(source)
    cut(tmp_path / "0.png", 0.5, tmp_path / "0.png")
    with pytest.raises(InputError, match="none of its 1 chosen frames can be decoded"):
        read_clip(source, listing, [0], size=64)


def test_repeated_timestamps_still_rise():
    from stereo4d.video.clip import _strictly_rising

    times = _strictly_rising(np.array([0.0, 0.1, 0.1, 0.1, 0.2]))
    assert (np.diff(times) > 0).all()
    assert times == pytest.approx([0, 0.1, 0.1, 0.1, 0.2], abs=1e-5)


def clip_of(frames) -> Clip:
    rgb = np.stack(frames)
    count = len(rgb)
    sizes = np.tile(rgb.shape[1:3], (count, 1))
    return Clip(rgb, np.arange(count) / 10, np.arange(count), sizes, np.tile([1.0, 1, 0, 0], (count, 1)))


def test_a_tripod_is_noticed_even_when_something_moves_before_it():
    rng = np.random.default_rng(0)
    frames = []
    for i in range(4):
        image = picture(0).astype(int) + rng.integers(-2, 3, (64, 96, 3))
        image[20:40, 10 + 15 * i : 30 + 15 * i] = 255
        frames.append(image.clip(0, 255).astype(np.uint8))
    assert camera_stands_still(clip_of(frames))
    assert not camera_stands_still(clip_of([picture(3 * i) for i in range(4)]))


def test_frames_are_brought_to_network_size_one_by_one(tmp_path, monkeypatch):
    """No more than two frames of original size are alive at any time."""
    alive: list = []

    class Watched(Reader):
        def opens(self, paths):
            return True

        def describe(self, paths):
            raise NotImplementedError

        def read(self, paths, indices):
            import gc
            import weakref

            for index in indices:
                rgb = picture(index, 480, 640)
                alive.append(weakref.ref(rgb))
                yield Frame(rgb, index, index / 10)
                del rgb
                gc.collect()
                most.append(sum(ref() is not None for ref in alive))

    most: list[int] = []
    monkeypatch.setattr("stereo4d.video.frames._readers", lambda source: [("watched", Watched())])
    from stereo4d.video.frames import Listing

    listing = Listing(np.arange(20) / 10, ((480, 640),))
    clip = read_clip(Source("watched", (tmp_path,)), listing, range(20), size=64)
    assert len(clip) == 20
    assert max(most) <= 2
