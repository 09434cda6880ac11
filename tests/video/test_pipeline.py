"""From a video to a scene folder, with a tiny network of drawn weights: everything real but the knowledge."""

import json

import numpy as np
import pytest
from PIL import Image

from stereo4d import AlignmentOptions, KnownFiles, Scene, reconstruct
from stereo4d.errors import GraphError, InputError, OutputError
from stereo4d.scene_files import MANIFEST_FILE
from stereo4d.storage import map_arrays
from stereo4d.video import network_predictor, pipeline, solving
from stereo4d.video.workspace import UNFINISHED
from tests.clips import picture, write_clip
from tests.tiny_weights import write_tiny_weights

SIDEWAYS = np.eye(4)[:, :1] * np.eye(4)[3]
"""A step of one unit along x, added to a pose."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    images = [picture(i, 60, 80) for i in range(8)]
    return write_clip(
        tmp_path_factory.mktemp("clip") / "clip.mp4", images, times_ms=[0, 100, 200, 350, 400, 500, 600, 900]
    )


@pytest.fixture(scope="module")
def finished(clip, weights, tmp_path_factory):
    """A scene folder, made with every second frame and a window of two."""
    out = tmp_path_factory.mktemp("out") / "scene"
    reconstruct(clip, out, weights=weights, stride=2, graph="swin-2-noncyclic")
    return out


def test_a_video_becomes_a_scene_with_its_frames_times_and_cameras(finished):
    scene = Scene.load(finished)
    assert len(scene) == 4
    assert scene.frame_indices.tolist() == [0, 2, 4, 6]
    assert scene.times == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-6)
    assert scene.depth.shape == scene.confidence.shape == scene.dynamic.shape == (4, 48, 64)
    assert scene.cam2world[0] == pytest.approx(np.eye(4), abs=1e-5)  # the first frame's camera is the world
    assert (np.asarray(scene.depth) > 0).all()
    assert scene.scale == "unknown"


def test_intrinsics_of_the_original_undo_crop_and_resize(finished):
    scene = Scene.load(finished)
    assert scene.original_sizes.tolist() == [[60, 80]] * 4
    # 80x60 becomes 64x48 without a crop: everything grows by 1.25 about the image's edges
    for small, large in zip(scene.intrinsics, scene.intrinsics_original, strict=True):
        assert large[0, 0] == pytest.approx(1.25 * small[0, 0], rel=1e-6)
        assert large[0, 2] == pytest.approx(1.25 * (small[0, 2] + 0.5) - 0.5, rel=1e-6)


def test_the_manifest_says_where_everything_came_from_and_what_it_cost(finished, clip):
    manifest = json.loads((finished / MANIFEST_FILE).read_text())
    assert manifest["input"]["path"] == str(clip)
    assert len(manifest["input"]["sha256"]) == len(manifest["weights"]["sha256"]) == 64
    assert manifest["weights"]["licence"] == "Apache-2.0"
    assert [frame["index"] for frame in manifest["frames"]] == [0, 2, 4, 6]
    assert manifest["frames"][1]["network_to_original"]["scale_u"] == 1.25
    assert manifest["settings"]["graph"] == "swin-2-noncyclic"
    assert manifest["pairs"]["count"] == 10
    assert manifest["failed_frames"] == []
    assert manifest["alignment"]["solved_loss"] <= manifest["alignment"]["start_loss"]
    assert manifest["known"] == {}
    assert np.array(manifest["intrinsics_original"]).shape == (4, 3, 3)
    for stage in ("frames", "predictions", "alignment", "recording"):
        assert manifest["stages"][stage]["seconds"] >= 0
        assert manifest["stages"][stage]["peak_memory_bytes"] > 0


def test_the_folder_holds_scene_trajectory_recording_and_pairs_and_nothing_unfinished(finished):
    names = sorted(entry.name for entry in finished.iterdir())
    assert names == ["alignment.rrd", "manifest.json", "pairs", "scene.rrd", "scene.safetensors", "trajectory.txt"]
    pairs = map_arrays(finished / "pairs" / "pairs-00000.safetensors")
    assert pairs["edges"].shape == (10, 2)
    assert pairs["pointmap0"].shape == pairs["pointmap1"].shape == (10, 48, 64, 3)
    assert pairs["confidence0"].dtype == np.float16
    frames = map_arrays(finished / "pairs" / "frames.safetensors")
    assert frames["rgb"].shape == (4, 48, 64, 3)
    assert frames["times"].tolist() == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-6)


def test_the_same_seed_gives_the_same_scene(finished, clip, weights, tmp_path):
    again = reconstruct(clip, tmp_path / "again", weights=weights, stride=2, graph="swin-2-noncyclic")
    scene = Scene.load(finished)
    assert (again.cam2world == scene.cam2world).all()
    assert (np.asarray(again.depth) == np.asarray(scene.depth)).all()


def interrupt(*arguments, **keywords):
    raise KeyboardInterrupt


def test_an_interrupted_run_leaves_no_scene_and_uses_its_predictions_when_run_again(
    finished, clip, weights, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    settings = {"weights": weights, "stride": 2, "graph": "swin-2-noncyclic"}
    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, out, **settings)
    assert [entry.name for entry in out.iterdir()] == [UNFINISHED]
    monkeypatch.setattr(network_predictor, "load_model", interrupt)  # must not be needed again
    scene = reconstruct(clip, out, **settings)
    assert (scene.cam2world == Scene.load(finished).cam2world).all()
    stages = scene.manifest["stages"]
    assert [stages[name]["reused"] for name in ("frames", "predictions", "alignment")] == [True, True, False]


def test_a_run_interrupted_among_the_pairs_goes_on_with_those_that_are_missing(
    finished, clip, weights, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    settings = {"weights": weights, "stride": 2, "graph": "swin-2-noncyclic"}

    def some(at_work, edges, **keywords):
        yield from list(predict_pairs(at_work, edges[:4], batch_size=4))
        raise KeyboardInterrupt

    predict_pairs = pipeline.predict_pairs
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "predict_pairs", some)
        patch.setattr("stereo4d.video.prediction_files.SHARD_BYTES", 1)
        patch.setattr(pipeline.ShardWriter.__init__, "__kwdefaults__", {"exact": False, "shard_bytes": 1})
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, out, **settings)
    asked: list[int] = []

    def counted(at_work, edges, **keywords):
        asked.append(len(edges))
        return predict_pairs(at_work, edges, **keywords)

    monkeypatch.setattr(pipeline, "predict_pairs", counted)
    scene = reconstruct(clip, out, **settings)
    assert asked == [6]  # of 10
    np.testing.assert_allclose(scene.cam2world, Scene.load(finished).cam2world, atol=1e-3)


def test_a_finished_scene_is_not_overwritten_unasked(finished, clip, weights):
    before = (finished / MANIFEST_FILE).read_bytes()
    with pytest.raises(OutputError, match="finished scene"):
        reconstruct(clip, finished, weights=weights, stride=2)
    assert (finished / MANIFEST_FILE).read_bytes() == before


def test_an_interrupted_run_may_be_aligned_otherwise_and_keeps_its_predictions(clip, weights, tmp_path, monkeypatch):
    settings = {"weights": weights, "stride": 2, "graph": "swin-1-noncyclic"}
    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", **settings)
    np.save(tmp_path / "poses.npy", np.tile(np.eye(4), (4, 1, 1)) + np.arange(4)[:, None, None] * SIDEWAYS)
    monkeypatch.setattr(network_predictor, "load_model", interrupt)  # must not be needed again
    known, alignment = KnownFiles(poses=str(tmp_path / "poses.npy")), AlignmentOptions(per_frame_focal=True)
    scene = reconstruct(clip, tmp_path / "out", **settings, known=known, alignment=alignment)
    assert scene.manifest["stages"]["predictions"]["reused"]
    assert scene.manifest["settings"]["alignment"]["per_frame_focal"]
    assert scene.cam2world[:, 0, 3] == pytest.approx([0, 1, 2, 3], abs=1e-5)
    assert scene.scale == "given (poses.npy)"


def test_a_graph_by_likeness_joins_frames_that_look_alike(weights, tmp_path):
    there = [picture(4 * i, 60, 80) for i in range(4)]
    path = write_clip(tmp_path / "clip.mp4", [*there, *there[::-1]])
    scene = reconstruct(path, tmp_path / "out", weights=weights, graph="retrieval-1-1")
    edges = set(map(tuple, map_arrays(tmp_path / "out" / "pairs" / "pairs-00000.safetensors")["edges"].tolist()))
    assert {(i, 7 - i) for i in range(8)} <= edges
    assert scene.manifest["pairs"] == {"graph": "retrieval-1-1", "count": len(edges)}
    assert len(edges) < 8 * 7


def test_a_graph_by_likeness_stays_the_same_when_a_run_is_taken_up_again(clip, weights, tmp_path, monkeypatch):
    settings = {"weights": weights, "graph": "retrieval-2-2"}
    whole = reconstruct(clip, tmp_path / "whole", **settings)

    def some(at_work, edges, **keywords):
        yield from list(predict_pairs(at_work, edges[:6], batch_size=6))
        raise KeyboardInterrupt

    predict_pairs = pipeline.predict_pairs
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "predict_pairs", some)
        patch.setattr(pipeline.ShardWriter.__init__, "__kwdefaults__", {"exact": False, "shard_bytes": 1})
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", **settings)
    monkeypatch.setattr(network_predictor, "frame_similarity", interrupt)  # known from the first time
    again = reconstruct(clip, tmp_path / "out", **settings)
    assert again.manifest["pairs"] == whole.manifest["pairs"]
    assert again.cam2world == pytest.approx(whole.cam2world, abs=1e-4)


def test_exact_keeps_predictions_in_float32(clip, weights, tmp_path):
    reconstruct(clip, tmp_path / "out", weights=weights, max_frames=2, precision="exact")
    assert map_arrays(tmp_path / "out" / "pairs" / "pairs-00000.safetensors")["pointmap0"].dtype == np.float32


def test_one_image_is_paired_with_itself_and_a_warning_says_so(weights, tmp_path):
    Image.fromarray(picture(0, 60, 80)).save(tmp_path / "one.png")
    scene = reconstruct(tmp_path / "one.png", tmp_path / "out", weights=weights)
    assert len(scene) == 1
    assert scene.cam2world[0] == pytest.approx(np.eye(4), abs=1e-5)
    assert (np.asarray(scene.depth) > 0).all()
    assert any("one frame only" in warning for warning in scene.manifest["warnings"])


def test_a_portrait_clip_stays_portrait(weights, tmp_path):
    path = write_clip(tmp_path / "portrait.mp4", [picture(i, 80, 60) for i in range(3)])
    scene = reconstruct(path, tmp_path / "out", weights=weights)
    assert scene.depth.shape == (3, 64, 48)
    assert scene.original_sizes.tolist() == [[80, 60]] * 3


def test_a_list_of_images_of_several_sizes_is_one_scene_with_a_warning(weights, tmp_path):
    paths = []
    for number, size in enumerate([(60, 80), (60, 80), (90, 80)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture(number, *size)).save(paths[-1])
    scene = reconstruct(paths, tmp_path / "out", weights=weights)
    assert scene.original_sizes.tolist() == [[60, 80], [60, 80], [90, 80]]
    assert any("2.png is 80x90" in warning for warning in scene.manifest["warnings"])


def test_a_selection_without_frames_says_what_there_is(clip, weights, tmp_path):
    with pytest.raises(
        InputError, match=r"clip.mp4: no frame lies between --start and --end; its 8 frames span 0.000 to 0.9"
    ):
        reconstruct(clip, tmp_path / "out", weights=weights, start=5.0)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_cannot_be_is_refused_before_any_work(clip, weights, tmp_path):
    with pytest.raises(GraphError, match="swing-3"):
        reconstruct(clip, tmp_path / "out", weights=weights, graph="swing-3")
    assert not (tmp_path / "out").exists()
