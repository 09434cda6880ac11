"""Every reader tells the truth about times, orientation and damage, and they agree with one another."""

import numpy as np
import pytest
from PIL import Image
from stereo4d_plugins.readers.av_reader import AvReader
from stereo4d_plugins.readers.decord_reader import DecordReader
from stereo4d_plugins.readers.image_reader import ImageReader

from stereo4d.errors import InputError
from stereo4d.video.frames import FailedFrame, Frame, describe, read
from stereo4d.video.sources import Source, find_source
from tests.clips import cut, picture, set_rotation, write_clip

VIDEO_READERS = [AvReader, DecordReader]


def source_of(path) -> Source:
    return find_source([str(path)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i) for i in range(12)])


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_frames_come_with_their_index_their_time_and_their_pixels(reader, clip):
    frames = list(reader().read([clip], [0, 3, 11]))
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (3, 0.3), (11, 1.1)]
    for frame in frames:
        assert frame.rgb.dtype == np.uint8
        assert np.abs(frame.rgb.astype(int) - picture(frame.index)).mean() < 8  # compressed, yet clearly this frame
        assert np.abs(frame.rgb.astype(int) - picture(frame.index + 2)).mean() > 12


def test_both_video_readers_give_the_same_pixels(clip):
    for a, b in zip(DecordReader().read([clip], range(12)), AvReader().read([clip], range(12)), strict=True):
        assert (a.rgb == b.rgb).all()


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_a_variable_frame_rate_keeps_its_real_timestamps(reader, tmp_path):
    stamps = [0, 100, 200, 900, 1000, 1500]
    path = write_clip(tmp_path / "vfr.mp4", [picture(i) for i in range(6)], times_ms=stamps)
    assert reader().describe([path]).times == pytest.approx(np.array(stamps) / 1000, abs=1e-6)
    assert [f.time for f in reader().read([path], range(6))] == pytest.approx([s / 1000 for s in stamps], abs=1e-6)


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_time_starts_at_the_first_frame_even_if_the_file_starts_late(reader, tmp_path):
    path = write_clip(tmp_path / "late.mp4", [picture(i) for i in range(3)], times_ms=[700, 800, 900])
    assert reader().describe([path]).times == pytest.approx([0, 0.1, 0.2], abs=1e-6)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_rotation_is_honoured(reader, degrees, tmp_path):
    path = set_rotation(write_clip(tmp_path / "turned.mp4", [picture(i) for i in range(2)]), degrees)
    (frame,) = reader().read([path], [1])
    expected = np.rot90(picture(1), k=-degrees // 90)  # np.rot90 turns counter-clockwise
    assert reader().describe([path]).sizes == (expected.shape[:2],)
    assert frame.rgb.shape == expected.shape
    assert np.abs(frame.rgb.astype(int) - expected).mean() < 8


def test_a_narrow_clip_that_decord_misreads_is_read_by_av(tmp_path):
    source = source_of(write_clip(tmp_path / "narrow.mp4", [picture(i, 64, 48) for i in range(3)]))
    assert describe(source).sizes == ((64, 48),)
    assert [frame.rgb.shape for frame in read(source, range(3))] == [(64, 48, 3)] * 3


@pytest.mark.parametrize(("name", "codec"), [("clip.gif", "gif"), ("clip.mp4", "libsvtav1")])
def test_what_decord_cannot_open_is_read_by_av(name, codec, tmp_path, capfd):
    path = write_clip(tmp_path / name, [picture(i, 64, 64) for i in range(4)], codec=codec)
    capfd.readouterr()  # what the encoder said
    source = source_of(path)
    assert describe(source).times == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [frame.index for frame in read(source, range(4))] == [0, 1, 2, 3]
    assert capfd.readouterr().err == ""


def test_a_clip_that_was_cut_short_gives_its_good_frames_and_names_the_others(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", [picture(i) for i in range(40)], index_first=True)
    source = source_of(cut(whole, 0.6, tmp_path / "cut.mp4"))
    listing = describe(source)
    assert len(listing.times) == 40  # what the file declares
    assert (np.diff(listing.times) > 0).all()
    frames = list(read(source, range(40)))
    good = [frame for frame in frames if isinstance(frame, Frame)]
    bad = [frame for frame in frames if isinstance(frame, FailedFrame)]
    assert 5 < len(good) < 38
    assert [frame.index for frame in good] == list(range(len(good)))
    assert [frame.index for frame in bad] == list(range(len(good), 40))
    for frame in good[:-3]:  # the last ones may be torn
        assert np.abs(frame.rgb.astype(int) - picture(frame.index)).mean() < 12


def test_a_damaged_packet_ends_the_clip_before_it(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(20)]
    path = write_clip(tmp_path / "flipped.mp4", noise, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(byte ^ 0x5A for byte in data[middle : middle + 4000])
    path.write_bytes(data)
    frames = list(read(source_of(path), range(20)))
    good = [frame.index for frame in frames if isinstance(frame, Frame)]
    assert 5 <= len(good) < 20
    assert good == list(range(len(good)))
    assert all(frame.reason for frame in frames[len(good) :])


@pytest.mark.parametrize(
    ("content", "reason"), [(b"just some words\n" * 99, "cannot be read|can be read"), (b"", "empty")]
)
def test_what_is_no_video_is_refused_by_name_without_noise(content, reason, tmp_path, capfd):
    path = tmp_path / "words.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"words.mp4: .*({reason})"):
        describe(source_of(path))
    assert capfd.readouterr().err == ""


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"sound.mp4: .*no video stream"):
        describe(source_of(path))


def test_images_are_read_in_natural_order_with_exif_orientation(tmp_path):
    for number in (10, 2, 1):
        Image.fromarray(picture(number)).save(tmp_path / f"frame{number}.png")
    turned = Image.fromarray(np.rot90(picture(11)))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    turned.save(tmp_path / "frame11.png", exif=exif)
    source = source_of(tmp_path)
    assert [path.name for path in source.paths] == ["frame1.png", "frame2.png", "frame10.png", "frame11.png"]
    assert ImageReader().describe(source.paths).sizes == ((64, 96),) * 4
    frames = list(read(source, range(4)))
    assert [frame.time for frame in frames] == [0, 1, 2, 3]
    assert all((frame.rgb == picture(n)).all() for frame, n in zip(frames, (1, 2, 10, 11), strict=True))


def test_a_damaged_image_does_not_stop_the_others(tmp_path):
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    cut(tmp_path / "1.png", 0.5, tmp_path / "1.png")
    frames = list(read(source_of(tmp_path), range(3)))
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == [0, 2]
    (bad,) = (frame for frame in frames if isinstance(frame, FailedFrame))
    assert "1.png" in bad.reason
