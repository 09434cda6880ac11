"""Which clip INPUT means, and which of its frames are taken."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from stereo4d.errors import InputError, UsageError
from stereo4d.video.frames import DEFAULT_MAX_FRAMES, Selection
from stereo4d.video.sources import find_source, group_inputs, sha256

TENTHS = np.arange(100) / 10


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(stride=30), [0, 30, 60, 90]),
        (Selection(stride=30, max_frames=2), [0, 30]),
        (Selection(fps=0.5), [0, 20, 40, 60, 80]),
        (Selection(fps=0.5, max_frames=3, start=2.0), [20, 40, 60]),
        (Selection(start=1.0, end=1.3), [10, 11, 12, 13]),
        (Selection(max_frames=4), [0, 25, 50, 75]),
        (Selection(max_frames=3, start=5.0), [50, 67, 84]),
        (Selection(start=50.0), []),
    ],
)
def test_selection_takes_what_it_says(selection, expected):
    assert selection.choose(TENTHS) == expected


def test_frames_a_second_follow_the_timestamps_not_the_count():
    times = np.array([0, 0.1, 0.2, 1.0, 1.1, 2.0])
    assert Selection(fps=1).choose(times) == [0, 3, 5]


def test_a_tick_between_frames_takes_the_frame_on_screen_once():
    assert Selection(fps=10).choose(np.array([0, 0.5, 1.0])) == [0, 1, 2]


def test_without_a_word_a_long_clip_is_spread_over_its_whole_length():
    chosen = Selection().choose(np.arange(1000) / 30)
    assert len(chosen) <= DEFAULT_MAX_FRAMES
    assert chosen[-1] > 950
    assert len(set(np.diff(chosen))) == 1


def test_a_short_clip_is_taken_whole():
    assert Selection().choose(np.arange(5) / 30) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"fps": -1.0}, {"max_frames": 0}, {"stride": 2, "fps": 1.0}])
def test_a_selection_that_means_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        Selection(**wrong)


def make_images(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_plain_image_files_are_one_clip_and_everything_else_its_own(tmp_path):
    make_images(tmp_path, ["a.png", "b.jpg"])
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.jpg")
    assert group_inputs(["x.mp4", a, str(tmp_path), b, "*.png"]) == [["x.mp4"], [a, b], [str(tmp_path)], ["*.png"]]
    assert [path.name for path in find_source([b, a]).paths] == ["b.jpg", "a.png"]


def test_a_pattern_finds_images_in_natural_order(tmp_path):
    make_images(tmp_path, ["f10.png", "f9.png", "g1.png"])
    assert [path.name for path in find_source([f"{tmp_path}/f*.png"]).paths] == ["f9.png", "f10.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_taken_for_itself(tmp_path):
    make_images(tmp_path, ["a[1].png"])
    assert find_source([str(tmp_path / "a[1].png")]).paths == (tmp_path / "a[1].png",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no.mp4", "no such file"),
        ("empty", "no images in this folder"),
        ("*.png", "no file matches"),
        ("0.mp4", "empty"),
    ],
)
def test_what_is_not_there_is_named(name, reason, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "0.mp4").touch()
    with pytest.raises(InputError) as caught:
        find_source([str(tmp_path / name)])
    assert str(tmp_path / name) in str(caught.value)
    assert reason in str(caught.value)


def test_a_quoted_pattern_of_several_videos_is_refused(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="matches 2 videos"):
        find_source([f"{tmp_path}/*.mp4"])


def test_the_checksum_of_a_file_is_what_sha256sum_says_and_of_images_that_of_their_list(tmp_path):
    make_images(tmp_path, ["a.png", "b.png"])
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert sha256(find_source([str(tmp_path / "a.png")])) == digest
    listing = f"{digest}  a.png\n{digest}  b.png\n"
    assert sha256(find_source([str(tmp_path)])) == hashlib.sha256(listing.encode()).hexdigest()
