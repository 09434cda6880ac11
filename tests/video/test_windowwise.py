"""A clip window by window, each holding what the one before has found."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stereo4d import AlignmentOptions, KnownFiles, Scene, align_stored
from stereo4d.alignment.windows import Window
from stereo4d.cli.main import main
from stereo4d.errors import UsageError
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.storage import map_arrays, save_arrays
from stereo4d.video.options import StoredOptions
from stereo4d.video.pair_graph import pair_graph
from stereo4d.video.prediction_files import PREDICTED
from stereo4d.video.windowwise import overlapping
from tests.truthful_predictor import install, truthful_clip
from tests.worlds import World, predict, render, smooth_cameras

FRAMES, HEIGHT, WIDTH = 9, 15, 20


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of a room, with noise, and the room."""
    folder, edges = tmp_path_factory.mktemp("pairs"), pair_graph("swin-1-noncyclic", FRAMES)
    focal = torch.full((FRAMES,), 0.9 * WIDTH, dtype=torch.float64)
    world = render(smooth_cameras(FRAMES), focal, HEIGHT, WIDTH)
    told = predict(world, torch.tensor(edges), noise=0.004)
    arrays = {name: getattr(told, name) for name in PREDICTED}
    save_arrays(folder / "pairs-00000.safetensors", {"edges": torch.tensor(edges), **arrays})
    return folder, world


def solved(folder, out, *, align: str = "window-wise", solver: str = "reweighted", window: int = 6, **known) -> Scene:
    options = AlignmentOptions(align=align, window=window, solver=solver)
    return align_stored(folder, out, options=StoredOptions(alignment=options, **known))


def error_of(scene: Scene, world: World) -> float:
    found = torch.from_numpy(np.array(scene.cam2world)).double()
    return absolute_trajectory_error(found, world.cam2world) / path_length(world.cam2world)


@pytest.mark.parametrize(
    ("frames", "options", "expected"),
    [
        (100, {}, [(0, 100)]),
        (220, {}, [(0, 100), (50, 150), (100, 200), (120, 220)]),
        (12, {"window": 6}, [(0, 6), (3, 9), (6, 12)]),
        (11, {"window": 6, "overlap": 2}, [(0, 6), (4, 10), (5, 11)]),
        (3, {"window": 6}, [(0, 3)]),
    ],
)
def test_windows_share_half_and_the_last_one_ends_with_the_clip(frames, options, expected):
    found = overlapping(frames, AlignmentOptions(**options))
    assert found == [Window(*ends) for ends in expected]


@pytest.mark.parametrize(("window", "overlap"), [(3, None), (6, 6), (6, 1)])
def test_windows_that_share_too_little_or_all_are_refused(window, overlap):
    with pytest.raises(UsageError, match=f"--window {window} --overlap"):
        overlapping(20, AlignmentOptions(window=window, overlap=overlap))


@pytest.mark.parametrize("solver", ["reweighted", "adam"])
def test_the_first_window_s_answer_stays_as_it_is(pairs, tmp_path, solver):
    scene = solved(pairs[0], tmp_path / "out", solver=solver)
    stored = map_arrays(pairs[0] / "pairs-00000.safetensors")
    inside = np.asarray(stored["edges"]).max(1) < 6
    part = {name: np.array(values[inside]) for name, values in stored.items()}
    save_arrays(tmp_path / "part" / "pairs-00000.safetensors", part)
    first = solved(tmp_path / "part", tmp_path / "first", align="joint", solver=solver)
    assert scene.cam2world[:6] == pytest.approx(first.cam2world, abs=1e-5)
    assert scene.intrinsics == pytest.approx(np.repeat(first.intrinsics[:1], FRAMES, 0), rel=1e-5)
    assert np.asarray(scene.depth[:6]) == pytest.approx(np.asarray(first.depth), rel=2e-3)
    assert error_of(scene, pairs[1]) < 0.02


def test_frames_beyond_the_first_window_are_found_too(pairs, tmp_path):
    folder, world = pairs
    scene = solved(folder, tmp_path / "out")
    assert error_of(scene, world) < 0.02
    ratio = np.asarray(scene.depth, np.float64) / world.depth.numpy()
    assert np.median(ratio[6:]) == pytest.approx(np.median(ratio[:3]), rel=0.03)
    went = scene.manifest["alignment"]
    assert went["window_wise"] == [[0, 5], [3, 8]]
    assert went["stopped"].startswith("2 windows, each holding what the one before has found")
    assert went["pairs_set_aside"] == []


def test_a_clip_of_one_window_is_one_solve(pairs, tmp_path):
    scenes = [solved(pairs[0], tmp_path / align, align=align, window=FRAMES) for align in ("window-wise", "joint")]
    assert (scenes[0].cam2world == scenes[1].cam2world).all()
    assert (np.asarray(scenes[0].depth) == np.asarray(scenes[1].depth)).all()


def test_known_intrinsics_hold_in_every_window(pairs, tmp_path):
    inner = np.array([[0.9 * WIDTH, 0, WIDTH / 2], [0, 0.9 * WIDTH, HEIGHT / 2], [0, 0, 1]])
    np.save(tmp_path / "inner.npy", inner)
    scene = solved(pairs[0], tmp_path / "out", known=KnownFiles(intrinsics=str(tmp_path / "inner.npy")))
    assert scene.intrinsics == pytest.approx(np.tile(inner, (FRAMES, 1, 1)), abs=1e-5)


def test_a_reconstruction_solves_its_windows_in_turn_and_looks_for_no_loops(tmp_path, capsys):
    frames, truth = truthful_clip(tmp_path / "clip", seed=3, frames=6)
    asked = ["--align", "window-wise", "--window", "4", "--overlap", "3", "--motion", "off", "--query-times"]
    argv = ["reconstruct", str(frames), "--out", str(tmp_path / "out"), "--weights", "truthful", *asked]
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path / "package", patch, truth)
        assert main([*argv, "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["scenes"][0]["windows"] == [4, 4, 4]
        assert main([*argv, "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["scenes"]
    assert said["alignment"]["window_wise"] == [[0, 3], [1, 4], [2, 5]]
    assert said["pairs"] == 18
    assert said["errors"]["trajectory_error"] < 0.02
