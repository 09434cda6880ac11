"""A clip anchored in one frame: exact where the pairs are, whatever their units, and honest where they say nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stereo4d import AlignmentOptions, KnownFiles, Scene, align_stored, reconstruct
from stereo4d.cli.main import main
from stereo4d.errors import AlignmentError, GraphError, UsageError
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.storage import map_arrays, save_arrays
from stereo4d.video.options import StoredOptions
from stereo4d.video.pair_graph import pair_graph
from stereo4d.video.prediction_files import PREDICTED
from tests.truthful_predictor import install, truthful_clip
from tests.worlds import World, predict, render, smooth_cameras

FRAMES, HEIGHT, WIDTH = 7, 24, 32
ANCHORED = AlignmentOptions(align="anchored")


def store(folder, edges, *, noise: float = 0.0, **changes) -> World:
    """Pairs of a room, every pair in a unit of its own, as a network would leave them."""
    focal = torch.full((FRAMES,), 0.9 * WIDTH, dtype=torch.float64)
    world = render(smooth_cameras(FRAMES), focal, HEIGHT, WIDTH)
    told = predict(world, torch.tensor(edges), noise=noise)
    arrays = {name: getattr(told, name) for name in PREDICTED} | changes
    save_arrays(folder / "pairs-00000.safetensors", {"edges": torch.tensor(edges), **arrays})
    return world


def anchored(pairs, out, **changes) -> Scene:
    return align_stored(pairs, out, options=StoredOptions(alignment=ANCHORED, **changes))


def error_of(scene: Scene, world: World) -> float:
    found = torch.from_numpy(np.array(scene.cam2world)).double()
    return absolute_trajectory_error(found, world.cam2world) / path_length(world.cam2world)


def test_the_graph_is_a_star_seen_from_its_middle():
    assert pair_graph("anchor", 5) == [(2, 0), (2, 1), (2, 3), (2, 4)]
    assert pair_graph("anchor-4", 5) == [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert pair_graph("anchor", 1) == [(0, 0)]
    with pytest.raises(GraphError, match="anchor-5: there are frames 0 to 4"):
        pair_graph("anchor-5", 5)


def test_exact_pairs_of_any_units_give_the_exact_scene(tmp_path):
    world = store(tmp_path / "pairs", pair_graph("anchor", FRAMES))
    scene = anchored(tmp_path / "pairs", tmp_path / "out")
    assert error_of(scene, world) < 1e-3
    assert scene.intrinsics[:, 0, 0] == pytest.approx(np.full(FRAMES, 0.9 * WIDTH), rel=1e-3)
    ratio = np.asarray(scene.depth, np.float64) / world.depth.numpy()
    assert ratio == pytest.approx(np.full(ratio.shape, np.median(ratio)), rel=5e-3)
    assert (scene.cam2world[0] == np.eye(4)).all()


def test_the_answer_is_no_worse_than_noise_allows_and_worse_than_solving_it_all(tmp_path):
    world = store(tmp_path / "pairs", pair_graph("complete", FRAMES), noise=0.005)
    quick = anchored(tmp_path / "pairs", tmp_path / "quick")
    solved = align_stored(tmp_path / "pairs", tmp_path / "solved", options=StoredOptions())
    assert error_of(solved, world) < error_of(quick, world) < 0.05


def test_the_unit_is_that_of_any_alignment(tmp_path):
    """The geometric mean of the pairs' scales is the same, so losses can be compared."""
    store(tmp_path / "pairs", pair_graph("oneref-3", FRAMES))
    quick = anchored(tmp_path / "pairs", tmp_path / "quick", graph="anchor-3")
    both = [quick.manifest["alignment"], align_stored(tmp_path / "pairs", tmp_path / "out").manifest["alignment"]]
    assert max(went["final_loss"] for went in both) < 2e-3 * np.median(quick.depth)
    depth = [np.median(Scene.load(tmp_path / name).depth) for name in ("quick", "out")]
    assert depth[0] == pytest.approx(depth[1], rel=0.15)  # of other pairs: both ways


def test_of_all_pairs_only_those_of_the_anchor_are_asked(tmp_path):
    edges = pair_graph("complete", FRAMES)
    store(tmp_path / "pairs", edges)
    garbage = {
        name: torch.from_numpy(np.array(values))
        for name, values in map_arrays(tmp_path / "pairs" / "pairs-00000.safetensors").items()
    }
    others = torch.tensor(edges)[:, 0] != 3
    for name in PREDICTED:
        garbage[name][others] = 1.0
    save_arrays(tmp_path / "garbage" / "pairs-00000.safetensors", garbage)
    scenes = [anchored(tmp_path / name, tmp_path / f"{name}-out") for name in ("pairs", "garbage")]
    assert (scenes[0].cam2world == scenes[1].cam2world).all()
    assert (np.asarray(scenes[0].depth) == np.asarray(scenes[1].depth)).all()
    went = scenes[0].manifest["alignment"]
    assert went["anchor"] == 3
    assert went["pairs_set_aside"] == []
    assert went["iterations"] == 0


def test_a_frame_that_says_nothing_stands_where_its_neighbour_does_and_is_named(tmp_path):
    edges = pair_graph("anchor", FRAMES)
    focal = torch.full((FRAMES,), 0.9 * WIDTH, dtype=torch.float64)
    told = predict(render(smooth_cameras(FRAMES), focal, HEIGHT, WIDTH), torch.tensor(edges))
    nothing = told.pointmap1.clone()
    nothing[edges.index((3, 5))] = 1.0
    store(tmp_path / "pairs", edges, pointmap1=nothing)
    scene = anchored(tmp_path / "pairs", tmp_path / "out")
    assert (scene.cam2world[5] == scene.cam2world[4]).all()
    assert (scene.cam2world[6] != scene.cam2world[4]).any()
    assert scene.manifest["alignment"]["frames_without_pose"] == [5]
    assert any("frames 5: their points say nothing" in said for said in scene.manifest["warnings"])
    assert np.isfinite(np.asarray(scene.depth, np.float32)).all()


def test_points_that_are_no_numbers_or_lie_behind_have_no_depth(tmp_path):
    edges = pair_graph("anchor", FRAMES)
    focal = torch.full((FRAMES,), 0.9 * WIDTH, dtype=torch.float64)
    told = predict(render(smooth_cameras(FRAMES), focal, HEIGHT, WIDTH), torch.tensor(edges))
    points = told.pointmap1.clone()
    points[:, :2, :, 2] -= 100
    points[:, 2] = torch.nan
    world = store(tmp_path / "pairs", edges, pointmap1=points)
    scene = anchored(tmp_path / "pairs", tmp_path / "out")
    others = [0, 1, 2, 4, 5, 6]
    assert (np.asarray(scene.depth)[others, :3] == 0).all()
    assert (np.asarray(scene.depth)[others, 3:] > 0).all()
    assert error_of(scene, world) < 1e-3


def test_an_anchor_that_sees_nothing_is_named(tmp_path):
    edges = pair_graph("anchor", FRAMES)
    store(tmp_path / "pairs", edges, pointmap0=torch.full((len(edges), HEIGHT, WIDTH, 3), -1.0))
    with pytest.raises(AlignmentError, match=r"pairs.*frames 3 and 2 says nothing"):
        anchored(tmp_path / "pairs", tmp_path / "out")


def test_known_intrinsics_are_held_and_masks_leave_pixels_out_of_the_cameras(tmp_path):
    edges = pair_graph("anchor", FRAMES)
    focal = torch.full((FRAMES,), 0.9 * WIDTH, dtype=torch.float64)
    told = predict(render(smooth_cameras(FRAMES), focal, HEIGHT, WIDTH), torch.tensor(edges))
    moved = told.pointmap1.clone()
    moved[:, :, : WIDTH * 3 // 4] += 0.2 * told.pointmap0[..., 2].median()  # most of every image walks away
    world = store(tmp_path / "pairs", edges, pointmap1=moved)
    ignored = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    ignored[:, :, : WIDTH * 3 // 4] = 1
    np.save(tmp_path / "masks.npy", ignored)
    inner = np.array([[0.9 * WIDTH, 0, WIDTH / 2], [0, 0.9 * WIDTH, HEIGHT / 2], [0, 0, 1]])
    np.save(tmp_path / "inner.npy", inner)
    files = {"masks": str(tmp_path / "masks.npy"), "intrinsics": str(tmp_path / "inner.npy")}
    without = anchored(tmp_path / "pairs", tmp_path / "without")
    scene = anchored(tmp_path / "pairs", tmp_path / "with", known=KnownFiles(**files))
    assert scene.intrinsics == pytest.approx(np.tile(inner, (FRAMES, 1, 1)), abs=1e-4)
    assert error_of(scene, world) < 1e-3 < 0.02 < error_of(without, world)


def test_a_star_is_needed(tmp_path):
    store(tmp_path / "pairs", pair_graph("swin-2-noncyclic", FRAMES))
    with pytest.raises(GraphError, match=r"frame 3 comes nearest and lacks 2 of 6: take --graph anchor"):
        anchored(tmp_path / "pairs", tmp_path / "out")


@pytest.mark.parametrize(
    "asked",
    [
        {"window": 8},
        {"solver": "adam"},
        {"terms": ["still"]},
        {"motion": "on"},
        {"per_frame_focal": True},
        {"free_principal_point": True},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_options_that_mean_nothing_here_are_refused(tmp_path, asked):
    option = "--" + next(iter(asked)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--align anchored goes without {option}"):
        align_stored(
            tmp_path, tmp_path / "out", options=StoredOptions(alignment=AlignmentOptions(align="anchored", **asked))
        )


def test_known_poses_are_refused_and_so_is_another_way(tmp_path):
    np.save(tmp_path / "poses.npy", np.tile(np.eye(4), (FRAMES, 1, 1)))
    with pytest.raises(UsageError, match="goes without --poses"):
        anchored(tmp_path, tmp_path / "out", known=KnownFiles(poses=str(tmp_path / "poses.npy")))
    with pytest.raises(UsageError, match="--align 'both': must be joint or anchored"):
        align_stored(tmp_path, tmp_path / "out", options=StoredOptions(alignment=AlignmentOptions(align="both")))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Images, and a predictor that knows the truth of them."""
    folder = tmp_path_factory.mktemp("clip")
    frames, truth = truthful_clip(folder / "clip", seed=3, frames=5)
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "package", patch, truth)
        yield frames, truth


def test_a_reconstruction_predicts_one_pair_a_frame_and_says_how_it_went(clip, tmp_path, capsys):
    frames, truth = clip
    argv = ["reconstruct", str(frames), "--out", str(tmp_path / "out"), "--weights", "truthful", "--query-times"]
    assert main([*argv, "--align", "anchored", "--precision", "exact"]) == 0
    assert "anchored in frame 2, nothing is solved, cameras by PnP" in capsys.readouterr().out
    scene = Scene.load(tmp_path / "out")
    pairs = map_arrays(next((tmp_path / "out" / "pairs").glob("pairs-*.safetensors")))["edges"]
    assert pairs.tolist() == [[2, 0], [2, 1], [2, 3], [2, 4]]
    assert (scene.manifest["pairs"]["graph"], scene.manifest["motion"]) == ("anchor", None)
    first = np.linalg.inv(truth.clip.cam2world[0].astype(np.float64))
    unit = np.median(np.asarray(scene.depth, np.float64) / truth.clip.depth)
    true = first @ truth.clip.cam2world
    true[:, :3, 3] *= unit
    assert scene.cam2world == pytest.approx(true, abs=2e-3 * float(np.median(scene.depth)))
    assert (np.asarray(scene.dynamic) == truth.clip.dynamic).mean() > 0.99
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_graph_without_a_star_is_refused_before_the_first_pair(clip, tmp_path):
    with pytest.raises(GraphError, match="take --graph anchor"):
        reconstruct(clip[0], tmp_path / "out", weights="truthful", graph="swin-1-noncyclic", alignment=ANCHORED)
    assert not (tmp_path / "out").exists()


def test_one_frame_is_a_scene(tmp_path):
    store(tmp_path / "pairs", pair_graph("anchor", 1))
    scene = anchored(tmp_path / "pairs", tmp_path / "out")
    assert len(scene) == 1
    assert (np.asarray(scene.depth) > 0).all()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["alignment"]["anchor"] == 0
