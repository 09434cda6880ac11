"""What a run will take is counted, and said before a weight is read."""

import pytest
import torch

from stereo4d.network.weights import empty_network
from stereo4d.video.network_cost import count_gflop, network_cost
from stereo4d.video.network_predictor import NetworkPredictor
from stereo4d.video.plan import make_plan
from stereo4d.video.predictor import Cost
from tests.tiny_weights import CONFIG, write_tiny_weights


def plan(frames=10, pairs=48, **changes):
    cost = network_cost(CONFIG, frames, pairs, (48, 64), device=torch.device("cpu"), dtype=torch.float32)
    return make_plan(
        cost,
        predictor="tiny",
        frames=frames,
        span=5 * frames,
        pairs=pairs,
        size=(48, 64),
        original_size=(480, 640),
        **changes,
    )


def test_the_networks_work_is_counted_as_a_hand_count_gives_it():
    encoding, decoding = count_gflop(empty_network(CONFIG), (48, 64))
    tokens, width, patch = 12, 32, 3 * 16 * 16
    # multiply and add are two: patch embedding, 12 C^2 a token for qkv, proj and mlp, 2 T C a token for attention
    assert encoding * 1e9 == 2 * tokens * width * patch + 2 * tokens * (12 * width**2 + 2 * tokens * width)
    block = 2 * tokens * (16 * width**2 + 4 * tokens * width)
    embed, head = 2 * tokens * width**2, 2 * tokens * width * 4 * 256
    assert decoding * 1e9 == 2 * (embed + block + head)


def test_pair_predictions_dominate_the_disk_and_double_when_exact():
    half, exact = plan(), plan(exact=True)
    predictions = 48 * 2 * 48 * 64 * 4 * 2
    assert exact.disk_bytes - half.disk_bytes == predictions
    assert half.disk_bytes > predictions


def test_a_graph_by_likeness_encodes_every_frame_once_more(tmp_path):
    encoding, _ = count_gflop(empty_network(CONFIG), (48, 64))
    network = NetworkPredictor(str(write_tiny_weights(tmp_path)), device=torch.device("cpu"))
    known, found = (network.cost(frames=10, pairs=48, size=(48, 64), by_similarity=asked) for asked in (False, True))
    assert found.gflop - known.gflop == pytest.approx(10 * encoding)
    assert "pairs    48 at most" in "\n".join(plan(pairs_are_most=True).lines())
    assert "at most" not in "\n".join(plan().lines())


def test_without_a_network_there_is_no_work_to_count():
    sizes = {"size": (48, 64), "original_size": (480, 640)}
    plain = make_plan(Cost(7.0, 1 << 20), predictor="classical", frames=2, span=2, pairs=2, **sizes)
    assert plain.seconds["predictions"] == 7.0
    text = "\n".join(plain.lines())
    assert "weights  classical" in text
    assert "GFLOP" not in text


def test_more_frames_and_pairs_take_more_of_everything():
    small, large = plan(), plan(frames=20, pairs=108)
    assert large.memory_bytes > small.memory_bytes
    assert large.disk_bytes > small.disk_bytes
    assert large.network_gflop > small.network_gflop
    assert small.probed_gflops > 0
    assert all(large.seconds[name] > small.seconds[name] for name in ("frames", "alignment", "recording"))


def test_the_plan_says_frames_pairs_seconds_memory_and_disk():
    text = "\n".join(plan().lines())
    for word in ("frames   10 of 64x48", "pairs    48", "seconds  about", "memory   about", "disk     about", "probed"):
        assert word in text
