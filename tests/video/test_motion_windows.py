"""Motion found window by window is what is found at once, waits on disk, and is not looked for twice."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from stereo4d_plugins.flow.dis import Dis

from stereo4d import AlignmentOptions, Scene
from stereo4d.alignment.known import Known
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.storage import save_arrays
from stereo4d.video import motion, motion_windows, solving
from stereo4d.video.camera_kind import CameraKind
from stereo4d.video.clip import Clip
from stereo4d.video.dynamics import masks_on_disk
from stereo4d.video.motion import Motion
from stereo4d.video.motion_windows import load_motion, save_motion
from stereo4d.video.pipeline import reconstruct
from stereo4d.video.prediction_files import FRAMES_FILE, shards
from stereo4d.video.windows_plan import plan_windows
from tests.truthful_predictor import install, truthful_clip
from tests.video.test_motion import clip_of

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return truthful_clip(tmp_path_factory.mktemp("clip"), seed=1, frames=FRAMES)


def made(clip, out, patch, window: int, mask_by: str = "ego-flow") -> Scene:
    frames, truth = clip
    install(out.parent / f"site-{len(list(out.parent.iterdir()))}", patch, truth)
    options = AlignmentOptions(motion="on", mask_by=mask_by, terms=[], window=window, overlap=2)
    return reconstruct(frames, out, weights="truthful", query_times=[], alignment=options)


@pytest.fixture(scope="module")
def both(clip, tmp_path_factory):
    """At once and in windows."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        return [made(clip, out / str(window), patch, window) for window in (FRAMES, 5)]


@pytest.fixture(scope="module")
def stored(both, clip, tmp_path_factory):
    """The folder of pairs of a reconstruction."""
    out = tmp_path_factory.mktemp("stored") / "scene"
    with pytest.MonkeyPatch.context() as patch:
        made(clip, out, patch, FRAMES, mask_by="heads")
    return out / "pairs"


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    first, second = (np.asarray(mask).astype(bool) for mask in (first, second))
    return float((first & second).sum() / (first | second).sum())


def test_masks_of_windows_are_those_of_one_look(both):
    at_once, in_windows = both
    assert len(in_windows.manifest["alignment"]["windows"]) == 2
    assert np.asarray(at_once.dynamic).any()
    assert agreement(in_windows.dynamic, at_once.dynamic) > 0.8


def test_cameras_of_windows_are_true_where_much_moves(clip, both):
    truth = torch.from_numpy(np.array(clip[1].clip.cam2world)).double()
    for scene in both:
        found = torch.from_numpy(np.array(scene.cam2world)).double()
        assert absolute_trajectory_error(found, truth) / path_length(truth) < 0.03


def test_the_manifest_tells_of_all_frames(both):
    at_once, in_windows = (scene.manifest["motion"] for scene in both)
    assert in_windows["mask_by"] == at_once["mask_by"] == "ego-flow"
    assert in_windows["camera"] == at_once["camera"]
    assert len(in_windows["moving_share"]) == FRAMES
    shares = np.asarray(both[1].dynamic).astype(bool).mean((1, 2))
    np.testing.assert_allclose(in_windows["moving_share"], shares, atol=1e-4)


def test_masks_that_pairs_bring_are_the_same_in_windows(clip, tmp_path, monkeypatch):
    scene = made(clip, tmp_path / "heads", monkeypatch, 5, mask_by="heads")
    np.testing.assert_array_equal(np.asarray(scene.dynamic), np.asarray(clip[1].clip.dynamic))


@pytest.mark.parametrize(("terms", "looks"), [(None, 3), (["flow"], 13), (["acceleration"], 13)])
def test_where_pairs_bring_masks_flow_is_found_for_terms_alone(clip, stored, terms, looks, monkeypatch):
    class Counting(Dis):
        def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
            asked.append(image0.shape)
            return super().flow(image0, image1)

    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(motion, "_CAMERA_LOOKS", 3)
    search = motion.Search(Counting(), AlignmentOptions(terms=terms))
    found = motion.find_motion(shards(stored), Clip.load(stored / FRAMES_FILE), Known(), search)
    assert found.mask_by == "heads"
    assert found.camera is CameraKind.MOVES
    np.testing.assert_array_equal(found.dynamic, np.asarray(clip[1].clip.dynamic).astype(bool))
    assert len(asked) == 2 * looks


def test_a_killed_run_goes_on_after_the_last_window_that_was_looked_at(clip, both, tmp_path, monkeypatch):
    find, calls = motion_windows.find_motion, []

    def one_and_no_more(*given, **named):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(named["start"])
        return find(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(motion_windows, "find_motion", one_and_no_more)
        with pytest.raises(KeyboardInterrupt):
            made(clip, tmp_path / "out", patch, 5)
    left = []
    monkeypatch.setattr(motion_windows, "find_motion", lambda *a, **n: left.append(n["start"]) or find(*a, **n))
    scene = made(clip, tmp_path / "out", monkeypatch, 5)
    assert (len(calls), len(left)) == (1, 1)
    assert (scene.cam2world == both[1].cam2world).all()
    np.testing.assert_array_equal(np.asarray(scene.dynamic), np.asarray(both[1].dynamic))


def test_windows_are_solved_with_their_own_masks_and_flow(clip, tmp_path, monkeypatch):
    solve, seen = solving.align_pairs, []

    def watched(edges, told, part, **named):
        seen.append((len(part), named["motion"].dynamic.shape[0], int(named["motion"].flow.pairs.max())))
        return solve(edges, told, part, **named)

    monkeypatch.setattr(solving, "align_pairs", watched)
    made(clip, tmp_path / "out", monkeypatch, 5)
    assert seen == [(5, 5, 4)] * 2


def test_what_is_not_whole_on_disk_is_nothing(tmp_path):
    path = tmp_path / "motion.safetensors"
    assert load_motion(path) is None
    dynamic = np.random.default_rng(0).random((2, 4, 6)) > 0.5
    save_motion(path, Motion(dynamic, None, CameraKind.TURNS, "heads"))
    found = load_motion(path)
    assert found is not None
    np.testing.assert_array_equal(found.dynamic, dynamic)
    assert (found.flow, found.camera, found.mask_by) == (None, CameraKind.TURNS, "heads")
    path.write_bytes(path.read_bytes()[:-5])
    assert load_motion(path) is None


def test_frames_that_move_everywhere_are_judged_by_all_and_said(clip, tmp_path, monkeypatch, caplog):
    found = motion_windows.find_motion

    def covering(*given, **named):
        motion = found(*given, **named)
        return Motion(np.ones_like(motion.dynamic), motion.flow, motion.camera, motion.mask_by)

    monkeypatch.setattr(motion_windows, "find_motion", covering)
    scene = made(clip, tmp_path / "out", monkeypatch, 5)
    assert f"in {FRAMES} of {FRAMES} frames more than 80 % of the pixels seem to move" in caplog.text
    assert np.asarray(scene.dynamic).all()
    assert np.isfinite(scene.cam2world).all()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["warnings"]


def memory_of(folder, frames: int) -> int:
    """The most bytes that looking for motion takes in a clip of so many frames, in windows of six."""
    height, width = 64, 80
    edges = np.array([edge for i in range(frames - 1) for edge in ((i, i + 1), (i + 1, i))])
    points = np.random.default_rng(0).uniform(1, 2, (len(edges), height, width, 3)).astype(np.float16)
    sure = np.full((len(edges), height, width), 3, np.float16)
    moving = {f"dynamics/moving{side}": (sure * 0).astype(np.float16) for side in (0, 1)}
    arrays = {"pointmap0": points, "pointmap1": points, "confidence0": sure, "confidence1": sure, **moving}
    save_arrays(folder / "pairs-00000.safetensors", {"edges": edges, **arrays})
    whole = clip_of(np.random.default_rng(1).integers(0, 255, (frames, height, width, 3), np.uint8))
    options = AlignmentOptions(motion="on", window=6, overlap=2)
    windows = plan_windows(options, frames, edges, (height, width))
    tracemalloc.start()
    found = motion_windows.find_clip_motion(
        [folder / "pairs-00000.safetensors"], whole, Known(), options, windows, folder / "motion", "stamp"
    )
    assert found is not None
    found.of(windows[-1])
    masks_on_disk(found.masks(), folder / "masks.u8", (frames, height, width))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_set_by_the_window_and_not_by_the_clip(tmp_path):
    short, long = (memory_of(tmp_path / str(frames), frames) for frames in (14, 42))
    assert long < 1.15 * short
