"""What a run will take is counted, and said before a weight is read."""

import re

import pytest
import torch

from stereo4d import AlignmentOptions
from stereo4d.cli.main import main
from stereo4d.errors import UsageError
from stereo4d.network.weights import empty_network
from stereo4d.video.frames import describe
from stereo4d.video.job import open_job
from stereo4d.video.network_cost import count_gflop, network_cost
from stereo4d.video.network_predictor import NetworkPredictor
from stereo4d.video.options import Options
from stereo4d.video.plan import make_plan
from stereo4d.video.predictor import Cost
from stereo4d.video.sources import find_source
from tests.clips import picture, write_clip
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


def job_of(folder, **alignment):
    source = find_source([str(write_clip(folder / "clip.mp4", [picture(i, 48, 64) for i in range(12)]))])
    options = Options(
        str(write_tiny_weights(folder)), graph="swin-2-noncyclic", size=32, alignment=AlignmentOptions(**alignment)
    )
    return open_job(source, describe(source), options)


def test_the_work_of_optical_flow_is_counted_and_windows_count_what_they_share_twice(tmp_path):
    at_once = job_of(tmp_path, motion="on").plan()
    assert at_once.flow.pairs == 11 + 10
    assert "flow     of 21 pairs of frames, both ways\n" in "\n".join(at_once.lines())
    assert at_once.seconds["motion"] > 0
    in_windows = job_of(tmp_path, motion="auto", window=7, overlap=2).plan()
    assert in_windows.windows == (7, 7)
    assert in_windows.flow.pairs == 2 * (6 + 5)
    assert "if frames follow one another as in a video" in "\n".join(in_windows.lines())
    off = job_of(tmp_path, motion="off").plan()
    assert off.flow.pairs == 0
    assert "motion" not in off.seconds
    assert "flow " not in "\n".join(off.lines())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"flow": "nothing"}, "--flow 'nothing' is neither installed"),
        ({"mask_by": "guess"}, "--mask-by 'guess' is not installed"),
        ({"terms": ["speed=2"]}, "--terms speed=2: 'speed' is not installed"),
        ({"terms": ["flow=-1"]}, "--terms flow=-1: the weight must be a number above 0"),
    ],
)
def test_a_dry_run_refuses_names_that_the_run_would_refuse(tmp_path, capsys, wrong, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        job_of(tmp_path, **wrong)
    ((name, value),) = wrong.items()
    values = value if isinstance(value, list) else [value]
    clip, weights = str(tmp_path / "clip.mp4"), str(write_tiny_weights(tmp_path))
    argv = ["reconstruct", clip, "--out", str(tmp_path / "out"), "--weights", weights, "--dry-run"]
    assert main([*argv, "--" + name.replace("_", "-"), *values]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
