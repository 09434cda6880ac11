"""A contact sheet has every chosen frame in its place, in colours that tell the value."""

from __future__ import annotations

import numpy as np
import pytest
from stereo4d_plugins.viewers.contact_sheet import GAP, UNKNOWN, ContactSheet, coarse, colored, percent


def tile(sheet: ContactSheet, picture: np.ndarray, place: int) -> np.ndarray:
    """One frame's part of a sheet, a few pixels within its border."""
    caption = sheet.size[0] // -(-len(sheet.frames) // sheet.columns) - sheet.tile[0] - GAP
    row, column = divmod(place, sheet.columns)
    top, left = row * (sheet.tile[0] + caption + GAP) + caption, column * (sheet.tile[1] + GAP)
    return picture[top + 3 : top + sheet.tile[0] - 3, left + 3 : left + sheet.tile[1] - 3]


@pytest.mark.parametrize(("num_frames", "chosen"), [(1, 1), (3, 3), (8, 8), (60, 8)])
def test_frames_are_spread_evenly_from_the_first_to_the_last(num_frames, chosen):
    frames = ContactSheet.of(num_frames, (30, 40)).frames
    assert len(frames) == chosen
    assert (frames[0], frames[-1]) == (0, num_frames - 1)
    strides = np.diff(frames)
    assert num_frames == 1 or strides.max() - strides.min() <= 1


@pytest.mark.parametrize("image_size", [(288, 512), (512, 288), (20, 400), (1, 1)])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 8])
def test_tiles_keep_the_shape_of_the_images_and_fill_their_rows(image_size, num_frames):
    sheet = ContactSheet.of(num_frames, image_size)
    assert sheet.tile[1] / sheet.tile[0] == pytest.approx(image_size[1] / image_size[0], rel=0.03)
    assert num_frames % sheet.columns == 0 or num_frames < 5
    height, width = sheet.size
    assert sheet.pictures(np.zeros((num_frames, *image_size, 3), np.uint8)).shape[1] == width
    assert width < 4000
    assert height < 2500


def test_every_picture_lies_at_the_place_of_its_frame():
    rgb = np.zeros((20, 6, 8, 3), np.uint8)
    rgb[:] = np.arange(20)[:, None, None, None] * 12
    sheet = ContactSheet.of(20, (6, 8))
    picture = sheet.pictures(rgb)
    for place, frame in enumerate(sheet.frames):
        assert (tile(sheet, picture, place) == 12 * frame).all()


def test_values_lie_at_the_places_of_the_pictures_and_brighten_with_the_value():
    values = np.linspace(0, 0.05, 8)[:, None, None] * np.ones((8, 3, 4))
    sheet = ContactSheet.of(8, (60, 80))
    picture = sheet.shares(values, 0.05)
    assert picture.shape == sheet.pictures(np.zeros((8, 60, 80, 3), np.uint8)).shape
    for place in range(8):
        expected = colored(values[place], 0.05)[0, 0]
        assert (tile(sheet, picture, place) == expected).all()
    lightness = colored(np.linspace(0, 1, 256)[None], 1.0)[0].astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[0] < 5
    assert lightness[-1] > 240


def test_values_past_the_end_are_as_bright_as_can_be_and_missing_ones_are_grey():
    colors = colored(np.array([[1.0, 7.0, np.inf, np.nan]]), 1.0)[0]
    assert (colors[0] == colors[1]).all()
    assert (colors[2:] == UNKNOWN).all()


def test_the_colour_of_what_is_missing_is_not_in_the_colour_map():
    ramp = colored(np.linspace(0, 1, 256)[None], 1.0)[0].astype(int)
    assert np.abs(ramp - UNKNOWN).max(-1).min() > 15


def test_a_frame_without_any_value_is_shown_all_the_same():
    values = np.full((2, 3, 4), np.nan)
    values[1] = 0.01
    sheet = ContactSheet.of(2, (30, 40))
    picture = sheet.shares(values, 0.02)
    assert (tile(sheet, picture, 0) == UNKNOWN).all()
    assert not (tile(sheet, picture, 1) == UNKNOWN).all()


def test_fine_grids_are_averaged_over_what_is_known_and_coarse_ones_are_left_alone():
    values = np.arange(100.0 * 130).reshape(100, 130)
    values[:3, :3] = np.nan
    values[3, 3] = np.inf
    means = coarse(values)
    assert means.shape == (34, 44)  # blocks of 3 x 3, fewer at the ends
    assert np.isnan(means[0, 0])
    known = values[3:6, 3:6].ravel()[1:]
    assert means[1, 1] == pytest.approx(known.mean())
    assert means[33, 43] == values[99, 129]
    np.testing.assert_array_equal(coarse(values[10:40, :50]), values[10:40, :50])


@pytest.mark.parametrize(("share", "text"), [(0.01234, "1.2 %"), (0.5, "50 %"), (0.000123, "0.012 %"), (0, "0 %")])
def test_shares_are_written_with_two_digits(share, text):
    assert percent(share) == text
