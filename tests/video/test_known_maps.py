"""Depths and masks from files: brought to the network's pixels without mixing any."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d.types import PixelMap
from stereo4d.video.known_files import FrameGeometry, KnownFiles, load_known
from stereo4d.video.known_maps import any_covered, nearest
from tests.frame_geometries import CHOSEN, HEIGHT, WIDTH, clip_of_images, plain_frames


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> FrameGeometry:
    return FrameGeometry.of(clip_of_images(tmp_path_factory.mktemp("images")))


def numbered(height: int, width: int) -> np.ndarray:
    """(height, width) float32: every pixel has a number of its own, from 1."""
    return 1 + np.arange(height * width, dtype=np.float32).reshape(height, width)


def test_depth_is_that_of_the_nearest_original_pixel(frames, tmp_path):
    for index, size in ((1, (HEIGHT, WIDTH)), (3, (64, 128)), (4, (HEIGHT, WIDTH)), (5, (7, 7))):
        np.save(tmp_path / f"depth_{index:06d}.npy", numbered(*size))
    files = KnownFiles(depths=str(tmp_path), depths_weight=3)
    files.check()
    known = load_known(files, frames)
    known.check(3, frames.network_size)
    assert (known.depths.frames.tolist(), known.depths.weight) == ([0, 1, 2], 3)
    for position, (height, width) in enumerate(frames.original_sizes.tolist()):
        for v, u in ((0, 0), (5, 63), (31, 0), (17, 40), (31, 63)):
            place = frames.pixel_maps[position].matrix() @ [u, v, 1]
            found = int(known.depths.depth[position, v, u]) - 1
            away = np.abs(np.array([found % width, found // width]) - place[:2])
            assert (away <= 0.5 + 1e-5).all()
            assert 0 <= place[0] < width
            assert 0 <= place[1] < height


def test_depth_across_an_edge_is_never_mixed():
    depth = np.ones((40, 60))
    depth[:, 31:] = 9
    taken = nearest(depth, PixelMap(1.7, 1.9, 0.2, 0.4), (20, 34))
    assert set(taken.ravel()) == {1.0, 9.0}
    # by hand: 1.7 u + 0.2 rounds to 31 or more from u = 18 on (30.8)
    assert (taken[:, :18] == 1).all()
    assert (taken[:, 18:] == 9).all()


def test_halved_depth_takes_the_pixel_right_and_below_of_the_middle():
    # a network pixel lies between four pixels, as near to each
    taken = nearest(numbered(4, 6), PixelMap(2, 2, 0.5, 0.5), (2, 3))
    assert taken.tolist() == [[8, 10, 12], [20, 22, 24]]


@pytest.mark.parametrize("nothing", [0.0, -3.0, np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_measured_is_zero(nothing, tmp_path):
    depth = np.full((2, 4, 6), 2.0)
    depth[0, 1, 2] = nothing
    depth[1] = nothing
    np.save(tmp_path / "depth.npy", depth)
    known = load_known(KnownFiles(depths=str(tmp_path / "depth.npy")), plain_frames(2, (4, 6), PixelMap(), (4, 6)))
    assert known.depths.frames.tolist() == [0]  # frame 1 has nothing in it
    assert known.depths.depth[0, 1, 2] == 0
    assert int((known.depths.depth == 2).sum()) == 23


def test_depth_at_network_size_is_taken_as_it_is(frames, tmp_path):
    depth = np.stack([numbered(32, 64) + 5000 * i for i in range(2)])
    np.savez_compressed(tmp_path / "depth.npz", depth=depth, frames=[4, 3])
    known = load_known(KnownFiles(depths=str(tmp_path / "depth.npz")), frames).depths
    assert known.frames.tolist() == [1, 2]
    assert known.depth.tolist() == depth[::-1].tolist()


def test_depth_of_the_same_shape_at_another_size_is_placed_by_its_edges(tmp_path):
    # original 8x12, network 4x6, depth 2x3: each of its pixels is two by two of the network's
    np.save(tmp_path / "0.npy", numbered(2, 3))
    frames = plain_frames(1, (8, 12), PixelMap(2, 2, 0.5, 0.5), (4, 6))
    known = load_known(KnownFiles(depths=str(tmp_path)), frames).depths
    assert known.depth[0].tolist() == numbered(2, 3).repeat(2, 0).repeat(2, 1).tolist()


def test_images_of_16_bits_are_millimetres(tmp_path):
    millimetres = np.array([[0, 1500], [65535, 250]], np.uint16)
    Image.fromarray(millimetres).save(tmp_path / "depth_12.png")
    frames = replace(plain_frames(1, (2, 2), PixelMap(), (2, 2)), frame_indices=np.array([12]))
    known = load_known(KnownFiles(depths=str(tmp_path)), frames).depths
    assert known.depth[0].numpy() == pytest.approx(np.array([[0, 1.5], [65.535, 0.25]]))


def test_one_kind_of_file_is_read_from_a_folder(tmp_path):
    np.save(tmp_path / "frame_0000.npy", np.full((4, 6), 2.0))
    Image.new("RGB", (6, 4)).save(tmp_path / "frame_0000.png")  # as MonST3R leaves beside it
    (tmp_path / "notes.npy").write_bytes(b"no number, no depth")
    frames = plain_frames(1, (4, 6), PixelMap(), (4, 6))
    assert float(load_known(KnownFiles(depths=str(tmp_path)), frames).depths.depth.mean()) == 2


def covered_by_hand(mask: np.ndarray, to_original: PixelMap, size: tuple[int, int]) -> np.ndarray:
    ignored = np.zeros(size, bool)
    for v in range(size[0]):
        for u in range(size[1]):
            left = to_original.scale_u * (u - 0.5) + to_original.offset_u
            top = to_original.scale_v * (v - 0.5) + to_original.offset_v
            right, bottom = left + to_original.scale_u, top + to_original.scale_v
            for y, x in zip(*np.nonzero(mask), strict=True):
                overlap_u, overlap_v = (
                    min(right, x + 0.5) - max(left, x - 0.5),
                    min(bottom, y + 0.5) - max(top, y - 0.5),
                )
                ignored[v, u] |= overlap_u > 1e-6 and overlap_v > 1e-6
    return ignored


def test_a_network_pixel_is_ignored_if_any_pixel_it_covers_is(frames, tmp_path):
    masks = []
    for position, index in enumerate(CHOSEN):
        mask = np.random.default_rng(index).random(frames.original_sizes[position]) < 0.002
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"mask{index}.png")
        masks.append(mask)
    files = KnownFiles(masks=str(tmp_path), masks_keep=0.25)
    files.check()
    known = load_known(files, frames)
    known.check(3, frames.network_size)
    assert (known.masks.frames.tolist(), known.masks.keeps) == ([0, 1, 2], 0.25)
    assert known.masks.ignored.dtype == torch.bool
    for position, mask in enumerate(masks):
        expected = covered_by_hand(mask, frames.pixel_maps[position], frames.network_size)
        assert 0 < expected.mean() < 0.2
        assert known.masks.ignored[position].tolist() == expected.tolist()


def test_halved_and_enlarged_masks_are_what_a_hand_computes():
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = True
    assert any_covered(mask, PixelMap(2, 2, 0.5, 0.5), (2, 3)).tolist() == [[0, 1, 0], [0, 0, 0]]
    # shifted by half a pixel, pixels of the network cover parts of three pixels
    assert any_covered(mask, PixelMap(2, 2, 1, 0.5), (2, 2)).tolist() == [[1, 1], [0, 0]]
    enlarged = any_covered(mask, PixelMap(0.5, 0.5, -0.25, -0.25), (8, 12))
    assert enlarged.tolist() == mask.repeat(2, 0).repeat(2, 1).tolist()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "I;16"])
def test_what_is_not_zero_is_ignored_in_every_kind_of_image(mode, tmp_path):
    ignored = np.array([[False, True, False], [True, False, False]])
    values = {"I;16": ignored.astype(np.uint16) * 300, "1": ignored}.get(mode, ignored.astype(np.uint8))
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.fromarray(values).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])  # black or not is the palette's affair
    if mode == "RGB":
        image = Image.merge("RGB", (Image.new("L", (3, 2)), image, Image.new("L", (3, 2))))
    image.save(tmp_path / "all.png")
    assert Image.open(tmp_path / "all.png").mode == mode
    # one image holds for all frames
    known = load_known(KnownFiles(masks=str(tmp_path / "all.png")), plain_frames(2, (2, 3), PixelMap(), (2, 3)))
    assert known.masks.ignored.tolist() == [ignored.tolist()] * 2


def test_masks_are_upright_as_the_frames_are(tmp_path):
    image = Image.fromarray(np.array([[255, 0, 0], [0, 0, 0]], np.uint8))
    image.getexif()[274] = 6  # to be turned clockwise by 90 degrees
    image.save(tmp_path / "0.png", exif=image.getexif())
    known = load_known(KnownFiles(masks=str(tmp_path)), plain_frames(1, (3, 2), PixelMap(), (3, 2)))
    assert known.masks.ignored[0].tolist() == [[False, True], [False, False], [False, False]]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_come_as_arrays_too(kind, frames, tmp_path):
    masks = np.zeros((2, 32, 64), kind)
    masks[1, 3, 5] = 1
    np.savez(tmp_path / "m.npz", mask=masks, frames=[1, 4])
    np.save(tmp_path / "m.npy", masks[1])
    known = load_known(KnownFiles(masks=str(tmp_path / "m.npz")), frames).masks
    assert known.frames.tolist() == [0, 2]
    assert known.ignored.nonzero().tolist() == [[1, 3, 5]]
    for_all = load_known(KnownFiles(masks=str(tmp_path / "m.npy")), frames).masks.ignored
    assert for_all.nonzero().tolist() == [[0, 3, 5], [1, 3, 5], [2, 3, 5]]


def test_a_mask_that_leaves_nothing_is_doubted(tmp_path, caplog):
    np.save(tmp_path / "m.npy", np.ones((2, 4, 6), bool))
    with caplog.at_level(logging.WARNING, "stereo4d"):
        load_known(KnownFiles(masks=str(tmp_path / "m.npy")), plain_frames(2, (4, 6), PixelMap(), (4, 6)))
    assert "the whole of frames 0, 1 is ignored" in caplog.text
