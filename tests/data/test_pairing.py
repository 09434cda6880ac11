from dataclasses import dataclass, replace

import numpy as np
import pytest

from stereo4d.data.overlap import ByOverlap, overlaps
from stereo4d.data.pairing import ByStride, FramePair, SameImage, Within
from stereo4d.data.posed_frames import Frame
from stereo4d.errors import InputError, UsageError
from tests.posed_worlds import WorldFrames

RNG = np.random.default_rng(0)


def test_strides_pair_every_frame_with_those_so_far_ahead():
    table = ByStride((1, 3)).table(WorldFrames(count=2, length=4))
    pairs = [table[number] for number in range(len(table))]
    once = [(0, 1), (0, 3), (1, 2), (2, 3)]
    assert pairs == [FramePair(scene, *pair) for scene in ("0", "1") for pair in once]
    assert len(ByStride((1,), every=2).table(WorldFrames(count=1, length=6))) == 3


def test_weights_thin_the_strides_that_weigh_less_in_the_same_way_every_time():
    frames = WorldFrames(count=30, length=12)
    table = ByStride((1, 2, 9), weights=(1.0, 2.0, 2.0)).table(frames)
    gaps = table.rows[:, 2] - table.rows[:, 1]
    # all strides 2 and 9 offer, and half as many of stride 1 as the heaviest offers
    assert [(gaps == gap).sum() for gap in (1, 2, 9)] == [150, 300, 90]
    assert len(np.unique(table.rows, axis=0)) == len(table)
    assert len(np.unique(table.rows[gaps == 1, 0])) > 25  # of all scenes
    np.testing.assert_array_equal(table.rows, ByStride((1, 2, 9), weights=(1.0, 2.0, 2.0)).table(frames).rows)


def test_strides_longer_than_any_scene_are_said():
    with pytest.raises(InputError, match="no two frames are 7, 9 apart; its 2 scenes have at most 5 frames"):
        ByStride((7, 9)).table(WorldFrames())


def test_pairs_within_reach_are_drawn_anew_and_cover_all_gaps():
    frames = WorldFrames(count=3, length=20)
    rule = Within(most=6, least=2, per_scene=2)
    table = rule.table(frames)
    assert [table[number].scene for number in range(len(table))] == ["0", "0", "1", "1", "2", "2"]
    drawn = [rule.settle(frames, table[0], RNG) for _ in range(400)]
    assert {pair.second - pair.first for pair in drawn} == {2, 3, 4, 5, 6}
    assert {pair.first for pair in drawn} == set(range(18))
    assert max(pair.second for pair in drawn) == 19
    with pytest.raises(InputError, match="worlds, scene 0: none of its 5 frames are 9 apart"):
        Within(most=9, least=9).settle(WorldFrames(), table[0], RNG)


def test_a_share_of_pairs_shows_one_image_twice():
    frames = WorldFrames()
    rule = SameImage(ByStride((2,)), share=0.3)
    settled = [rule.settle(frames, rule.table(frames)[0], RNG) for _ in range(500)]
    twice = [pair for pair in settled if pair.first == pair.second]
    assert 0.2 < len(twice) / 500 < 0.4
    assert set(settled) == {FramePair("0", 0, 2), FramePair("0", 0, 0)}


@dataclass
class Panning(WorldFrames):
    """A camera that turns by a quarter of its field of view from frame to frame, inside a sphere."""

    def frame(self, scene: str, index: int) -> Frame:
        angle = 0.25 * index * np.radians(40)
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        focal = 40 / np.tan(np.radians(20))
        column, row = np.meshgrid(np.arange(80.0), np.arange(60.0))
        depth = 5 / np.sqrt(1 + ((column - 39.5) / focal) ** 2 + ((row - 29.5) / focal) ** 2)
        camera = np.array([[focal, 0, 39.5], [0, focal, 29.5], [0, 0, 1]])
        return Frame(np.zeros((60, 80, 3), np.uint8), camera, pose, depth.astype(np.float32))


def test_overlap_of_a_turning_camera_is_what_geometry_says():
    shares = overlaps(Panning(count=1, length=6), "0")
    apart = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    for gap, expected in ((0, 1.0), (1, 0.74), (2, 0.49), (3, 0.24), (4, 0.0), (5, 0.0)):
        # some rows of an image leave the other at its top and bottom
        assert np.abs(shares[apart == gap] - expected).max() < 0.07
    assert np.isnan(overlaps(Panning(count=1, length=6), "0", most_apart=2)[apart > 2]).all()


def test_a_wall_between_two_cameras_leaves_no_overlap():
    class Behind(WorldFrames):
        def frame(self, scene: str, index: int) -> Frame:
            frame = super().frame(scene, 0)
            return replace(frame, depth=np.full_like(frame.depth, 2.0 if index else 4.0))

    assert overlaps(Behind(length=2), "0")[0, 1] == 0


def test_pairs_by_overlap_lie_in_the_range_and_are_kept_in_the_named_folder(tmp_path):
    rule = ByOverlap(0.2, 0.6, cache=str(tmp_path))
    frames = Panning(count=2, length=6)
    table = rule.table(frames)
    assert set(np.unique(table.rows[:, 2] - table.rows[:, 1])) == {2, 3}
    assert len(list(tmp_path.iterdir())) == 2

    class Unreadable(Panning):
        def frame(self, scene: str, index: int) -> Frame:
            raise AssertionError("what is known is not measured again")

    np.testing.assert_array_equal(rule.table(Unreadable(count=2, length=6)).rows, table.rows)
    with pytest.raises(InputError, match=r"share 0\.8 to 1.* largest share is 0\.[67]"):
        ByOverlap(0.8, 1.0, cache=str(tmp_path)).table(frames)


def test_overlap_of_tracks_is_the_share_that_both_frames_know():
    frames = WorldFrames(has_depth=False, has_tracks=True)
    shares = overlaps(frames, "0")
    known = [np.isfinite(frames.tracks("0", index)).all(1) for index in range(5)]
    assert shares[1, 3] == pytest.approx((known[1] & known[3]).sum() / known[1].sum())
    with pytest.raises(InputError, match="worlds, scene 0, frame 0 has neither depth nor tracks"):
        overlaps(WorldFrames(has_depth=False), "0")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ByStride(()),
        lambda: ByStride((0, 1)),
        lambda: ByStride((1, 2), weights=(1.0,)),
        lambda: Within(most=2, least=3),
        lambda: SameImage(ByStride(), share=1.5),
        lambda: ByOverlap(0.5, 0.4),
    ],
)
def test_rules_that_pair_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
