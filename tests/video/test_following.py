"""A run is seen while it works: its windows in one world, as they are finished, then its scene."""

from itertools import islice

import numpy as np
import pytest
import torch

from stereo4d import AlignmentOptions
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.video import windows
from stereo4d.video.following import follow_run
from stereo4d.video.pipeline import reconstruct
from tests.clips import write_clip
from tests.tiny_weights import write_tiny_weights
from tests.truthful_predictor import install, truthful_clip
from tests.video.test_shot_cuts import shot

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return truthful_clip(tmp_path_factory.mktemp("clip"), seed=1, frames=FRAMES)


@pytest.fixture(scope="module")
def run(clip, tmp_path_factory):
    """What is seen of a run that was killed when its windows were finished, and again when it had gone on."""
    folder = tmp_path_factory.mktemp("run")
    options = AlignmentOptions(motion="on", terms=[], window=5, overlap=2)

    def go_on():
        reconstruct(clip[0], folder / "out", weights="truthful", query_times=[], alignment=options)

    def interrupt(*given):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        install(folder / "site", patch, clip[1])
        with patch.context() as inner:
            inner.setattr(windows, "join_windows", interrupt)
            with pytest.raises(KeyboardInterrupt):
                go_on()
        before = list(islice(follow_run(folder / "out", pause=0.01), 3))
        sightings = follow_run(folder / "out", pause=0.01)
        first = next(sightings)
        go_on()
        return before, [first, *sightings]


def test_windows_come_with_the_frames_that_none_before_them_held(run):
    before, _ = run
    assert [None if seen is None else seen.name for seen in before] == ["window-000", "window-001", None]
    assert [seen.scene.frame_indices.tolist() for seen in before[:2]] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert not any(seen.finished for seen in before[:2])


def test_windows_lie_in_one_world_and_scale(clip, run):
    truth = clip[1].clip
    scenes = [seen.scene for seen in run[0][:2]]
    path = torch.from_numpy(np.concatenate([scene.cam2world for scene in scenes])).double()
    true = torch.from_numpy(np.array(truth.cam2world)).double()
    assert absolute_trajectory_error(path, true) / path_length(true) < 0.01
    depth = np.concatenate([np.asarray(scene.depth, np.float64) for scene in scenes])
    ratio = np.median(depth / truth.depth, axis=(1, 2))
    assert ratio.max() / ratio.min() < 1.02


def test_windows_bring_pictures_and_what_moves(run):
    before, after = run
    finished = after[-1].scene
    for seen in before[:2]:
        rows = seen.scene.frame_indices
        np.testing.assert_array_equal(seen.scene.rgb, np.asarray(finished.rgb)[rows])
        assert seen.scene.times == pytest.approx(finished.times[rows])
    assert np.asarray(before[1].scene.dynamic).any()


def test_the_finished_scene_comes_last_and_ends_it(run):
    _, after = run
    assert [(seen.name, seen.finished) for seen in after if seen] == [("window-000", False), ("out", True)]
    assert len(after[-1].scene) == FRAMES
    assert after[-1].scene.manifest["alignment"]["windows"]


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path):
    assert list(islice(follow_run(tmp_path / "later", pause=0.001), 3)) == [None] * 3


def test_shots_are_seen_one_after_the_other_each_in_a_world_of_its_own(tmp_path, monkeypatch):
    images = [*shot(0, 8), *shot(1, 7)]
    clip = write_clip(tmp_path / "clip.mp4", images, options={"crf": "10"})
    options = AlignmentOptions(motion="off", window=4, overlap=2)
    told = {"weights": write_tiny_weights(tmp_path), "graph": "swin-1-noncyclic", "size": 32, "query_times": []}
    join, calls = windows.join_windows, []

    def once(*given):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return join(*given)

    with monkeypatch.context() as patch:
        patch.setattr(windows, "join_windows", once)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", alignment=options, **told)
    sightings = follow_run(tmp_path / "out", pause=0.001)
    before = list(iter(lambda: next(sightings), None))
    assert [(seen.shot, seen.name, seen.finished) for seen in before] == [
        ("shot-000", "shot-000", True),
        *(("shot-001", f"window-{number:03d}", False) for number in range(3)),
    ]
    assert [seen.scene.frame_indices.tolist() for seen in before] == [[*range(8)], [8, 9, 10, 11], [12, 13], [14]]
    reconstruct(clip, tmp_path / "out", alignment=options, **told)
    assert [(seen.name, len(seen.scene)) for seen in sightings if seen] == [("shot-001", 7)]
