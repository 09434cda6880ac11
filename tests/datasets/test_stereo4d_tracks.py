"""Clips of the Stereo4D release: decoded as the release's own loader does, cameras and tracks those of the truth."""

import pickle

import numpy as np
import pytest
from stereo4d_plugins.datasets.stereo4d_tracks import Stereo4dTracks, dense_tracks

from stereo4d import registry
from stereo4d.errors import InputError
from tests.datasets.miniatures import HEIGHT, WIDTH, Filmed, film, write_release
from tests.golden_numbers import load

NAME = "aBcD-123_4_5005000"


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    return film(frames=4)


@pytest.fixture(scope="module")
def clips(filmed, tmp_path_factory) -> Stereo4dTracks:
    return Stereo4dTracks(str(write_release(tmp_path_factory.mktemp("release"), filmed)))


def golden_arrays() -> dict[str, np.ndarray]:
    stored = load("dyna")
    return {name.removeprefix("s4d_raw_"): stored[name] for name in stored if name.startswith("s4d_")}


def test_it_is_found_by_its_name():
    assert registry.load("stereo4d.datasets", "stereo4d") is Stereo4dTracks


def test_tracks_are_decoded_as_the_release_decodes_them():
    golden = golden_arrays()
    np.testing.assert_array_equal(dense_tracks({**golden}, "golden"), golden["s4d_track3d"])


def test_cameras_are_the_inverse_of_those_that_the_release_hands_out():
    golden = golden_arrays()
    there_and_back = golden["s4d_world2cam"].astype(float) @ np.concatenate(
        [golden["camera2world"], np.tile([[[0, 0, 0, 1.0]]], (6, 1, 1))], 1
    )
    np.testing.assert_allclose(there_and_back, np.tile(np.eye(4)[:3], (6, 1, 1)), atol=1e-6)


def test_a_clip_reads_back_as_its_truth(clips, filmed):
    assert clips.scenes() == [NAME]
    np.testing.assert_allclose(clips.times(NAME), 5.005 + np.arange(4) * 0.1)
    for index in (3, 0, 2):
        frame = clips.frame(NAME, index)
        assert frame.depth is None
        np.testing.assert_allclose(frame.cam2world, filmed.cam2world[index], atol=1e-6)
        np.testing.assert_allclose(frame.intrinsics, filmed.intrinsics, rtol=1e-7)
        assert np.abs(frame.rgb.astype(int) - filmed.rgb[index]).mean() < 6  # video is not exact
        others = [np.abs(frame.rgb.astype(int) - filmed.rgb[other]).mean() for other in range(4)]
        assert np.argmin(others) == index


def test_tracks_are_where_their_frame_shows_them(clips, filmed):
    """A seen point projects into the image, at the depth that the truth has there."""
    for index in range(4):
        frame, tracks = clips.frame(NAME, index), clips.tracks(NAME, index)
        seen = tracks[np.isfinite(tracks).all(1)]
        assert len(seen) > 200
        in_camera = (seen - frame.cam2world[:3, 3]) @ frame.cam2world[:3, :3]
        u, v = np.rint((in_camera @ frame.intrinsics.T)[:, :2].T / in_camera[:, 2]).astype(int)
        assert ((u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)).all()
        np.testing.assert_allclose(in_camera[:, 2], filmed.depth[index][v, u], atol=0.06)


def test_a_row_is_the_same_surface_point_in_every_frame(clips, filmed):
    table = np.stack([clips.tracks(NAME, index) for index in range(4)], 1)
    seen = np.isfinite(filmed.tracks).all(2).any(1)
    assert len(table) == len(filmed.tracks)
    np.testing.assert_allclose(table[seen], filmed.tracks[seen], atol=1e-5, equal_nan=True)


def test_tracks_are_not_sent_to_other_processes(clips):
    clips.tracks(NAME, 0)
    assert len(pickle.dumps(clips)) < 2000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clips)).tracks(NAME, 1), clips.tracks(NAME, 1))


def test_what_is_missing_or_damaged_is_named(tmp_path, filmed):
    with pytest.raises(InputError, match=r"nowhere: no such folder: no clip in it; looked for \*.npz"):
        Stereo4dTracks(str(tmp_path / "nowhere")).scenes()
    root = write_release(tmp_path, filmed)
    clips = Stereo4dTracks(str(root))
    with pytest.raises(InputError, match=r"-left_rectified.mp4: frame 9 cannot be decoded"):
        clips.frame(NAME, 9)
    (root / f"{NAME}-left_rectified.mp4").unlink()
    with pytest.raises(InputError, match=r"-left_rectified.mp4: no such file"):
        clips.frame(NAME, 0)
    (root / f"{NAME}.npz").write_bytes((root / f"{NAME}.npz").read_bytes()[:500])
    with pytest.raises(InputError, match=r"5005000.npz: not an .npz file, or cut short"):
        clips.times(NAME)


def test_arrays_that_do_not_belong_together_are_refused():
    golden = golden_arrays()
    with pytest.raises(InputError, match="do not belong together"):
        dense_tracks({**golden, "track_indices": golden["track_indices"][:-1]}, "clip.npz")
    with pytest.raises(InputError, match=r"clip.npz: track_indices reach 6, but there are 6 frames"):
        dense_tracks({**golden, "track_indices": golden["track_indices"] + 1}, "clip.npz")
