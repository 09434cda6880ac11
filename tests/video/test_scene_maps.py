"""What heads say of pairs arrives in the scene: motion in the world, maps in the frame's own camera."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from stereo4d import Scene, reconstruct
from stereo4d.errors import PluginError, SceneError, UsageError
from stereo4d.storage import map_arrays, read_metadata, save_arrays
from stereo4d.types import PairPrediction
from stereo4d.video.head_maps import METADATA, WrittenMaps, maps_written_in, query_times_of
from stereo4d.video.inference import PredictedBatch, predict_pairs
from stereo4d.video.options import StoredOptions
from stereo4d.video.prediction_files import ShardWriter
from stereo4d.video.realign import align_stored
from stereo4d.video.scene_maps import motion_samples
from tests.truthful_predictor import DOWN, HEADS, TruthOnClip, install, truthful_clip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A scene that was made of exact predictions, its folder, and the truth."""
    folder = tmp_path_factory.mktemp("truthful")
    frames, truth = truthful_clip(folder / "clip", seed=3)
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "package", patch, truth)
        scene = reconstruct(frames, folder / "scene", weights="truthful", precision="exact", query_times=[0.25, 0.5])
    return scene, folder / "scene", truth


def similarity(scene: Scene, truth) -> tuple[float, np.ndarray]:
    """Scale and rotation from the true world to the scene's, which is the first frame's camera in some unit."""
    scale = float(np.median(np.asarray(scene.depth, np.float64) / truth.clip.depth))
    return scale, scene.cam2world[0, :3, :3] @ np.linalg.inv(truth.clip.cam2world[0, :3, :3])


def true_displacement(scene: Scene, truth, frame: int, time: float) -> np.ndarray:
    """(H, W, 3) from a frame's points to where they are at a time, in the scene's world and unit."""
    scale, rotation = similarity(scene, truth)
    moved = truth.positions(frame, time) - truth.positions(frame, truth.clip.times[frame])
    return scale * moved @ rotation.T


def far(scene: Scene) -> float:
    """How large the scene is: errors are shares of it."""
    return float(np.median(np.asarray(scene.depth, np.float32)))


def test_motion_towards_both_neighbours_is_the_truth_in_the_scenes_world(told):
    scene, _, truth = told
    samples, times = scene.motion_samples, truth.clip.times
    frames = len(scene)
    assert sorted(map(tuple, samples.edges.tolist())) == sorted(
        (i, j) for i in range(frames) for j in (i - 1, i + 1) if 0 <= j < frames
    )
    assert samples.times.tolist() == [0.25, 0.5, 1.0]  # the other frame is always asked for
    moving = np.asarray(scene.dynamic) != 0
    assert 0.02 < moving.mean() < 0.6
    for (first, second), found in zip(samples.edges.tolist(), samples.displacement, strict=True):
        for share, moved in zip(samples.times, np.asarray(found, np.float64), strict=True):
            expected = true_displacement(scene, truth, first, times[first] + share * (times[second] - times[first]))
            assert np.abs(moved - expected).max() < 5e-4 * far(scene)
            assert np.abs(moved[~moving[first]]).max() < 1e-6 * far(scene)
    longest = np.linalg.norm(np.asarray(samples.displacement, np.float32), axis=-1).max()
    assert longest > 0.02 * far(scene)  # a hundred times the error allowed
    assert (np.asarray(samples.confidence) == 2).all()


def in_scene(scene: Scene, truth, points: np.ndarray) -> np.ndarray:
    """True world points in the scene's world and unit."""
    scale, rotation = similarity(scene, truth)
    return scale * (points - truth.clip.cam2world[0, :3, 3]) @ rotation.T


def test_the_scene_tells_how_far_a_frames_pixels_move_until_its_neighbours_and_between(told):
    scene, _, truth = told
    for frame, towards, share in ((1, 2, 1.0), (3, 2, 1.0), (0, 1, 0.25), (4, 3, 0.5)):
        step = scene.times[towards] - scene.times[frame]
        moved = scene.motion(scene.times[frame], scene.times[frame] + share * step).displacement
        time = truth.clip.times[frame] + share * (truth.clip.times[towards] - truth.clip.times[frame])
        assert np.abs(moved - true_displacement(scene, truth, frame, time)).max() < 1e-3 * far(scene)


def test_between_frames_the_scene_is_where_the_world_is_then(told):
    scene, _, truth = told
    share, pixels = 0.25, scene.depth[0].size
    moment = scene.at(scene.times[1] + share * (scene.times[2] - scene.times[1]))
    time = truth.clip.times[1] + share * (truth.clip.times[2] - truth.clip.times[1])
    # first the pixels of the frame before, then those of the frame behind, whose sample at 0.75 lies on a straight line
    expected = in_scene(scene, truth, truth.positions(1, time)).reshape(-1, 3)
    assert len(moment.points) == 2 * pixels
    assert np.linalg.norm(moment.points[:pixels] - expected, axis=1).max() < 2e-3 * np.abs(expected).max()
    moving = moment.moving[:pixels]
    still = in_scene(scene, truth, truth.positions(1, truth.clip.times[1])).reshape(-1, 3)
    gone = np.linalg.norm(expected - still, axis=1)
    assert gone[moving].max() > 0.01 * far(scene)
    assert gone[~moving].max() < 1e-5 * far(scene)


def test_tracks_follow_what_moves_and_stay_on_what_stands_still(told):
    scene, _, truth = told
    v, u = np.mgrid[4:44:2, 4:60:2]
    pixels = np.stack([u.ravel(), v.ravel()], 1)
    tracks = scene.tracks(pixels, frame=0)
    moving = np.asarray(scene.dynamic[0])[pixels[:, 1], pixels[:, 0]] != 0
    assert 10 < moving.sum() < len(pixels) - 100
    true = np.stack([in_scene(scene, truth, truth.positions(0, time)) for time in truth.clip.times], 2)
    error = np.linalg.norm(tracks.points - true[pixels[:, 1], pixels[:, 0]], axis=2) / far(scene)
    seen = tracks.visible[moving]
    assert seen[:, :3].any(0).all()  # before it leaves the picture
    assert np.quantile(error[moving][seen], 0.95) < 2e-3
    assert error[~moving].max() < 2e-3


def test_what_moves_is_known_from_the_head_of_that_name(told):
    scene, _, truth = told
    assert (np.asarray(scene.dynamic) == truth.clip.dynamic).all()


def test_directions_are_in_the_frames_own_camera(told):
    scene, _, truth = told
    for frame, normals in enumerate(scene.maps["upright.normal"]):
        expected = truth.clip.cam2world[frame, :3, :3].T @ DOWN
        assert np.abs(np.asarray(normals, np.float32) - expected).max() < 1e-3
    told_of = scene.manifest["maps"]["upright.normal"]
    assert told_of == {"frame": "own", "activation": "unit length", "shown_as": "normals"}


def test_vectors_that_have_a_length_are_in_the_unit_of_the_scene(told):
    scene, _, _ = told
    for frame, points in enumerate(scene.maps["middle.offset"]):
        assert np.abs(np.asarray(points[..., 2], np.float32) / scene.depth[frame].astype(np.float32) - 1).max() < 3e-3


def test_numbers_are_means_over_the_pairs_that_begin_with_the_frame(told):
    scene, _, _ = told
    paired = [[1, 2], [0, 2, 3], [0, 1, 3, 4], [1, 2, 4], [2, 3]]
    found = np.asarray(scene.maps["middle.share"], np.float32)
    for frame, others in enumerate(paired):
        np.testing.assert_allclose(found[frame], np.mean(others), rtol=1e-3)


def test_a_scene_keeps_no_map_that_nothing_shows(told):
    scene, folder, _ = told
    assert set(scene.maps) == {"dynamics.moving", "upright.normal", "middle.offset", "middle.share"}
    assert "words/descriptor0" in map_arrays(folder / "pairs" / "pairs-00000.safetensors")


def test_the_manifest_says_which_heads_spoke_and_at_which_times(told):
    scene, _, _ = told
    assert scene.manifest["heads"]["query_times"] == [0.25, 0.5, 1.0]
    assert set(scene.manifest["heads"]["heads"]) == set(HEADS)
    assert scene.manifest["heads"]["heads"]["motion"]["timed"]
    assert scene.manifest["settings"]["query_times"] == [0.25, 0.5, 1.0]


def test_an_alignment_of_the_stored_pairs_carries_motion_and_maps_over(told, tmp_path):
    scene, folder, _ = told
    again = align_stored(folder, tmp_path / "again", options=StoredOptions())
    assert again.motion_samples.edges.tolist() == scene.motion_samples.edges.tolist()
    np.testing.assert_array_equal(again.motion_samples.displacement, scene.motion_samples.displacement)
    assert set(again.maps) == set(scene.maps)
    assert again.manifest["heads"] == scene.manifest["heads"]
    assert again.manifest["maps"] == scene.manifest["maps"]


def test_a_pair_that_is_missing_leaves_its_edge_out(told, tmp_path):
    scene, folder, _ = told
    stored = folder / "pairs" / "pairs-00000.safetensors"
    arrays = map_arrays(stored)
    keep = ~(arrays["edges"] == [2, 3]).all(1)
    save_arrays(tmp_path / "part.safetensors", {k: v[keep] for k, v in arrays.items()}, read_metadata(stored))
    path = tmp_path / "part.safetensors"
    edges = motion_samples(scene, {path: maps_written_in(path)}).edges.tolist()
    assert [2, 3] not in edges
    assert [3, 2] in edges
    assert len(edges) == 7


def test_motion_without_its_times_is_refused_by_file(told, tmp_path):
    scene, folder, _ = told
    path = tmp_path / "timeless.safetensors"
    save_arrays(path, map_arrays(folder / "pairs" / "pairs-00000.safetensors"))
    with pytest.raises(SceneError, match=r"timeless\.safetensors: pairs hold motion without query times"):
        motion_samples(scene, {path: maps_written_in(path)})


@pytest.mark.parametrize("text", ["{", "[]", '{"heads": {"a": {}}, "query_times": []}', '{"heads": {}}'])
def test_metadata_of_others_that_make_no_sense_are_refused_by_file(text, tmp_path):
    path = save_arrays(tmp_path / "odd.safetensors", {"edges": np.zeros((1, 2), np.int64)}, {METADATA: text})
    with pytest.raises(SceneError, match=r"odd\.safetensors: its metadata 'heads'"):
        maps_written_in(path)


def test_what_is_written_is_read_back_from_the_file(tmp_path):
    written = WrittenMaps(HEADS, (0.5, 1.0))
    points, sure = torch.ones(1, 4, 6, 3), torch.ones(1, 4, 6)
    writer = ShardWriter(tmp_path)
    writer.add(PredictedBatch(((0, 1),), PairPrediction(points, sure, points, sure), written))
    writer.flush()
    assert maps_written_in(tmp_path / "pairs-00000.safetensors") == written
    assert json.loads(read_metadata(tmp_path / "pairs-00000.safetensors")[METADATA])["query_times"] == [0.5, 1.0]


class Spoilt(TruthOnClip):
    """Changes one map before it hands it out."""

    def __init__(self, truth, clip, change):
        super().__init__(truth, clip, (1.0,))
        self.change = change

    def predict(self, edges):
        said = super().predict(edges)
        head, name, value = self.change(said.extras)
        return replace(said, extras={**said.extras, head: {**said.extras[head], name: value}})


def with_nan(extras):
    value = extras["upright"]["normal1"].clone()
    value[1, 5, 7, 2] = float("nan")
    return "upright", "normal1", value


def too_small(extras):
    return "motion", "displacement0", extras["motion"]["displacement0"][:, :, 1:]


def of_another_width(extras):
    return "upright", "normal0", extras["upright"]["normal0"][..., :2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            with_nan,
            r"head 'upright' of Spoilt wrote NaN or infinity into normal1 of the pair of frames 1 and 0; .*bound",
        ),
        (too_small, r"head 'motion' of Spoilt wrote displacement0 \(2, 1, 47, 64, 3\).*must be \(2, 1, 48, 64, 3\)"),
        (of_another_width, r"head 'upright' of Spoilt wrote normal0 \(2, 48, 64, 2\).*must be \(2, 48, 64, 3\)"),
    ],
)
def test_a_bad_map_is_named_by_its_head_the_rule_and_the_way_out(told, change, words):
    scene, _, truth = told
    with pytest.raises(PluginError, match=words):
        list(predict_pairs(Spoilt(truth, scene, change), [(0, 1), (1, 0)]))


def test_query_times_begin_above_the_frame_itself_and_end_at_the_other(told):
    assert query_times_of(None) == (0.5, 1.0)
    assert query_times_of([]) == ()
    assert query_times_of([0.75, 0.25, 0.75]) == (0.25, 0.75, 1.0)
    for wrong in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(UsageError, match="--query-times"):
            query_times_of([wrong])
