"""Every frame is encoded once, waits no longer than it is needed, and nothing changes for it."""

import numpy as np
import pytest
import torch

from stereo4d.errors import SceneError
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.inference import PredictedBatch, predict_pairs
from stereo4d.video.network_predictor import EncodingCache, NetworkOnClip
from stereo4d.video.pair_graph import pair_graph, window_graph
from stereo4d.video.prediction_files import ShardWriter, read_predictions, shards, stored_edges
from tests.clips import picture
from tests.tiny_weights import tiny_network

FIELDS = ("pointmap0", "confidence0", "pointmap1", "confidence1")


def clip_of(count: int, height: int = 32, width: int = 48) -> Clip:
    rgb = np.stack([picture(5 * i, height, width) for i in range(count)])
    maps = np.tile([1.0, 1, 0, 0], (count, 1))
    return Clip(rgb, np.arange(count) / 10, np.arange(count), np.tile((height, width), (count, 1)), maps)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.mark.parametrize(("graph", "count"), [("swin-3-noncyclic", 7), ("swin-2", 6), ("oneref-2", 5), ("complete", 4)])
def test_predictions_equal_those_of_encoding_both_images_of_every_pair(graph, count, network):
    clip, edges = clip_of(count), pair_graph(graph, count)
    batches = list(predict_pairs(NetworkOnClip(network, clip, edges), edges, batch_size=3))
    assert [edge for batch in batches for edge in batch.edges] == edges
    for batch in batches:
        for slot, (i, j) in enumerate(batch.edges):
            with torch.inference_mode():
                expected = network(clip.images([i]), clip.images([j]))
            for name in FIELDS:
                found = getattr(batch.prediction, name)[slot]
                assert found.dtype == torch.float32
                torch.testing.assert_close(found, getattr(expected, name)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("graph", ["swin-3-noncyclic", "swin-3", "complete", "oneref-0"])
def test_every_frame_is_encoded_once(graph, network):
    edges = pair_graph(graph, 9)
    cache = EncodingCache(network, clip_of(9), edges)
    for start in range(0, len(edges), 4):
        with torch.inference_mode():
            cache.take(edges[start : start + 4])
    assert cache.encoded == 9
    assert not cache._held  # nothing waits for pairs that will not come


@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_cache_holds_the_window_however_long_the_clip_is(window, network):
    peaks = []
    for count in (12, 24, 48):
        edges = window_graph(count, window)
        cache = EncodingCache(network, clip_of(count), edges)
        for edge in edges:
            with torch.inference_mode():
                cache.take([edge])
        peaks.append(cache.peak)
    assert peaks == [window + 1] * 3


def test_a_batch_adds_no_more_than_its_own_frames_to_the_cache(network):
    window, batch = 3, 12  # 12 pairs belong to two frames, or reach into a third
    edges = window_graph(40, window)
    cache = EncodingCache(network, clip_of(40), edges)
    for start in range(0, len(edges), batch):
        with torch.inference_mode():
            cache.take(edges[start : start + batch])
    assert cache.peak <= window + 1 + batch // (2 * window)


def test_a_single_frame_pairs_with_itself(network):
    (batch,) = predict_pairs(NetworkOnClip(network, clip_of(1), [(0, 0)]), [(0, 0)])
    assert batch.prediction.pointmap1.shape == (1, 32, 48, 3)


def batch_of(edges, seed=0, extras=None) -> PredictedBatch:
    draw = torch.Generator().manual_seed(seed)
    maps = [torch.randn(len(edges), 4, 6, 3, generator=draw), torch.rand(len(edges), 4, 6, generator=draw) * 9 + 1]
    return PredictedBatch(tuple(edges), PairPrediction(maps[0], maps[1], 2 * maps[0], 3 * maps[1], extras or {}))


def test_what_is_stored_is_read_back_in_order_across_shards(tmp_path):
    batches = [batch_of([(0, 1), (1, 0)], 1), batch_of([(1, 2)], 2), batch_of([(2, 1), (0, 2)], 3)]
    writer = ShardWriter(tmp_path, exact=True, shard_bytes=1000)
    for batch in batches:
        writer.add(batch)
    writer.flush()
    assert len(shards(tmp_path)) > 1
    assert stored_edges(tmp_path) == [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2)]
    edges, prediction = read_predictions(tmp_path)
    assert edges.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [0, 2]]
    for name in FIELDS:
        expected = torch.cat([getattr(batch.prediction, name) for batch in batches])
        assert torch.equal(getattr(prediction, name), expected)


def test_predictions_are_stored_in_half_precision_unless_exactness_is_asked_for(tmp_path):
    writer = ShardWriter(tmp_path)
    batch = batch_of([(0, 1)])
    writer.add(batch)
    writer.flush()
    _, prediction = read_predictions(tmp_path)
    assert prediction.pointmap0.dtype == torch.float16
    torch.testing.assert_close(prediction.pointmap0.float(), batch.prediction.pointmap0, rtol=1e-3, atol=1e-4)


def test_confidence_beyond_half_precision_stays_finite(tmp_path):
    batch = batch_of([(0, 1)])
    batch.prediction.confidence0[0, 0, 0] = 1e9
    writer = ShardWriter(tmp_path)
    writer.add(batch)
    writer.flush()
    assert read_predictions(tmp_path)[1].confidence0[0, 0, 0] == 65504


def test_what_other_heads_add_is_kept_by_head_and_name(tmp_path):
    batch = batch_of([(0, 1)], extras={"motion": {"motion0": torch.ones(1, 4, 6, 3)}})
    writer = ShardWriter(tmp_path)
    writer.add(batch)
    writer.flush()
    assert read_predictions(tmp_path)[1].extras["motion"]["motion0"].shape == (1, 4, 6, 3)


def test_an_empty_folder_has_no_predictions(tmp_path):
    with pytest.raises(SceneError, match="no pair predictions"):
        read_predictions(tmp_path)
