"""A clip solved in windows is the clip solved at once, taken up where it was left, and honest about its seams."""

import json

import numpy as np
import pytest
import torch

from stereo4d import AlignmentOptions, KnownFiles, Scene
from stereo4d.errors import GraphError, UsageError
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.storage import save_arrays
from stereo4d.video import solving
from stereo4d.video.options import StoredOptions
from stereo4d.video.prediction_files import PREDICTED
from stereo4d.video.realign import align_stored
from tests.worlds import predict, render, smooth_cameras

FRAMES, HEIGHT, WIDTH = 20, 15, 20


def edges_of(frames: int = FRAMES, reach: int = 2, extra: tuple[tuple[int, int], ...] = ()) -> torch.Tensor:
    one_way = [(i, i + d) for d in range(1, reach + 1) for i in range(frames - d)] + list(extra)
    return torch.tensor([edge for i, j in one_way for edge in ((i, j), (j, i))])


def store(folder, path: torch.Tensor, edges: torch.Tensor, *, noise: float = 0.0):
    """Pair predictions of a room seen along a path, a few in a file; those of frames far apart are exact."""
    world = render(path, torch.full((len(path),), 0.9 * WIDTH, dtype=torch.float64), HEIGHT, WIDTH)
    near = (edges[:, 0] - edges[:, 1]).abs() <= 3
    for number, rows in enumerate([*near.nonzero()[:, 0].split(20), (~near).nonzero()[:, 0]]):
        if len(rows):
            said = predict(world, edges[rows], noise=noise if bool(near[rows[0]]) else 0.0)
            arrays = {name: getattr(said, name).half() for name in PREDICTED}
            save_arrays(folder / f"pairs-{number:05d}.safetensors", {"edges": edges[rows], **arrays})
    return world


def windowed(window: int | None, overlap: int | None = None, **changes) -> StoredOptions:
    return StoredOptions(alignment=AlignmentOptions(window=window, overlap=overlap), **changes)


def error_of(scene: Scene, world) -> float:
    found = torch.from_numpy(np.array(scene.cam2world)).double()
    return absolute_trajectory_error(found, world.cam2world) / path_length(world.cam2world)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    return folder, store(folder, smooth_cameras(FRAMES), edges_of(), noise=0.004)


@pytest.fixture(scope="module")
def both(pairs, tmp_path_factory):
    """The same pairs solved at once and in windows."""
    out = tmp_path_factory.mktemp("out")
    return [align_stored(pairs[0], out / str(n), options=windowed(n, 3)) for n in (FRAMES, 8)]


def test_windows_find_the_path_as_well_as_one_solve_does(pairs, both):
    at_once, in_windows = (error_of(scene, pairs[1]) for scene in both)
    assert in_windows < 2 * at_once + 1e-4
    assert np.isfinite(np.asarray(both[1].depth, np.float32)).all()


def test_depth_is_finished_in_the_scene_s_own_unit_everywhere(pairs, both):
    scene, world = both[1], pairs[1]
    ratio = np.asarray(scene.depth, np.float64) / world.depth.numpy()
    assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.02
    per_frame = np.median(ratio, axis=(1, 2))
    assert per_frame.max() / per_frame.min() < 1.02


def test_the_world_is_the_first_camera_s_and_has_the_unit_of_one_solve(both):
    at_once, in_windows = both
    assert in_windows.cam2world[0] == pytest.approx(np.eye(4), abs=1e-5)
    assert np.median(in_windows.depth) == pytest.approx(np.median(at_once.depth), rel=0.02)


def test_the_manifest_says_how_windows_fit(both):
    at_once, in_windows = (scene.manifest["alignment"] for scene in both)
    assert "windows" not in at_once
    said = in_windows["windows"]
    assert [entry["frames"] for entry in said] == [[0, 7], [4, 11], [8, 15], [12, 19]]
    assert said[0]["seam_to_the_one_before"] is None
    for entry in said[1:]:
        assert 0 < entry["seam_to_the_one_before"]["points"] < 0.02
        assert entry["seam_to_the_one_before"]["degrees"] < 1
    assert in_windows["loops"] == []


def test_a_window_longer_than_the_clip_is_one_solve(pairs, both, tmp_path):
    scene = align_stored(pairs[0], tmp_path / "out", options=windowed(1000))
    assert (scene.cam2world == both[0].cam2world).all()


def test_a_killed_run_goes_on_after_the_last_finished_window(pairs, both, tmp_path, monkeypatch):
    solve, calls = solving.align_pairs, []

    def two_and_no_more(*given, **named):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(given[2]))
        return solve(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", two_and_no_more)
        with pytest.raises(KeyboardInterrupt):
            align_stored(pairs[0], tmp_path / "out", options=windowed(8, 3))
    assert len(list((tmp_path / "out" / ".unfinished" / "windows").glob("*.safetensors"))) == 2
    left = []
    monkeypatch.setattr(solving, "align_pairs", lambda *given, **named: left.append(1) or solve(*given, **named))
    scene = align_stored(pairs[0], tmp_path / "out", options=windowed(8, 3))
    assert len(left) == 2
    assert (scene.cam2world == both[1].cam2world).all()
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_pairs_far_apart_close_a_loop(tmp_path):
    circle = smooth_cameras(FRAMES)
    turns = torch.linspace(0, 2 * torch.pi, FRAMES, dtype=torch.float64)
    circle[:, 0, 3], circle[:, 1, 3] = turns.sin(), 0.5 * (1 - turns.cos())
    circle[:, :3, :3] = torch.eye(3, dtype=torch.float64)
    errors = []
    for name, extra in (("open", ()), ("closed", ((0, FRAMES - 1), (1, FRAMES - 2)))):
        world = store(tmp_path / name, circle, edges_of(reach=1, extra=extra), noise=0.05)
        scene = align_stored(tmp_path / name, tmp_path / f"{name}-scene", options=windowed(8, 2))
        ends = torch.from_numpy(np.array(scene.cam2world)).double()[[0, -1]]
        true = torch.linalg.inv(world.cam2world[0]) @ world.cam2world[-1]
        size = float(np.median(scene.depth)) / float(world.depth.median())
        errors.append(float((ends[1, :3, 3] / size - true[:3, 3]).norm()))
        loops = scene.manifest["alignment"]["loops"]
        assert len(loops) == len(extra)
        assert all(loop["believed"] for loop in loops)
    assert errors[1] < errors[0] / 2


def test_known_poses_hold_in_every_window(pairs, tmp_path):
    world = pairs[1]
    np.save(tmp_path / "poses.npy", world.cam2world.numpy())
    known = KnownFiles(poses=str(tmp_path / "poses.npy"))
    scene = align_stored(pairs[0], tmp_path / "out", options=windowed(8, 3, known=known))
    assert scene.cam2world == pytest.approx(world.cam2world.numpy(), abs=1e-4)
    assert scene.scale == "given (poses.npy)"
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text())["known"]["poses"]["residuals"]) == 2


def test_pairs_that_do_not_hold_a_window_together_are_named(pairs, tmp_path):
    store(tmp_path / "star", smooth_cameras(FRAMES), torch.tensor([(0, j) for j in range(1, FRAMES)]))
    with pytest.raises(GraphError, match=r"window of frames 4 to 11 fall into \d+ parts"):
        align_stored(tmp_path / "star", tmp_path / "out", options=windowed(8, 3))


@pytest.mark.parametrize(("window", "overlap", "said"), [(3, None, "--window 3"), (10, 6, "--overlap 6")])
def test_windows_that_cannot_be_are_refused(pairs, tmp_path, window, overlap, said):
    with pytest.raises(UsageError, match=said):
        align_stored(pairs[0], tmp_path / "out", options=windowed(window, overlap))
