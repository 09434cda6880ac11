"""Networks with motion heads in the pipeline: asked for times, stored, resumed, planned, and in a pair's file."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d import reconstruct
from stereo4d.cli.main import main
from stereo4d.data.transforms import prepare_image
from stereo4d.network.config import HeadChoice
from stereo4d.network.weights import empty_network, load_model, save_model
from stereo4d.storage import map_arrays
from stereo4d.video import network_predictor, solving
from stereo4d.video.network_cost import count_gflop, network_cost, suitable_batch
from stereo4d.video.network_predictor import NetworkPredictor
from stereo4d.video.plan import make_plan
from tests.clips import picture, write_clip
from tests.golden_numbers import drawn_network, small_config
from tests.tiny_weights import write_tiny_weights

NARROW = {"embed_dim": 16, "feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}
CONFIG = replace(small_config("linear", heads={"flow": HeadChoice("motion", NARROW)}), img_size=(48, 64))
PLAIN = replace(CONFIG, heads={})
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_model(drawn_network(CONFIG), folder, card={"name": "moving", "licence": "Apache-2.0"})
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture(i, 60, 80) for i in range(3)])


def interrupt(*arguments, **keywords):
    raise KeyboardInterrupt


def test_a_clip_is_asked_for_motion_and_an_interrupted_run_keeps_what_it_was_told(weights, clip, tmp_path, monkeypatch):
    settings = {"weights": weights, "graph": "swin-1-noncyclic", "query_times": [0.25]}
    with monkeypatch.context() as patch:
        patch.setattr(solving, "align_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, tmp_path / "out", **settings)
    monkeypatch.setattr(network_predictor, "load_model", interrupt)  # must not be needed again
    scene = reconstruct(clip, tmp_path / "out", **settings)
    pairs = map_arrays(tmp_path / "out" / "pairs" / "pairs-00000.safetensors")
    # whatever the head is called, its motion is found under one name
    for view in (0, 1):
        assert pairs[f"motion/displacement{view}"].shape == (4, 2, 48, 64, 3)
        assert pairs[f"motion/displacement{view}"].dtype == np.float16
        assert pairs[f"motion/confidence{view}"].shape == (4, 2, 48, 64)
    assert not pairs["motion/displacement1"][:, 1].any()  # its own time
    assert pairs["motion/displacement0"][:, 1].any()
    assert scene.motion_samples.times.tolist() == [0.25, 1.0]
    assert scene.motion_samples.edges.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert scene.manifest["heads"]["heads"]["flow"]["timed"]
    assert scene.manifest["heads"]["query_times"] == [0.25, 1.0]


def test_no_query_times_mean_no_motion(weights, clip, tmp_path):
    scene = reconstruct(clip, tmp_path / "out", weights=weights, graph="swin-1-noncyclic", query_times=[])
    assert scene.motion_samples is None
    assert not any("/" in name for name in map_arrays(tmp_path / "out" / "pairs" / "pairs-00000.safetensors"))


def test_a_plan_counts_the_work_of_every_query_time_and_what_is_stored():
    size, network = (48, 64), empty_network(CONFIG)
    _, still = count_gflop(network, size)
    _, one = count_gflop(network, size, [1.0])
    _, three = count_gflop(network, size, [0.25, 0.5, 1.0])
    assert still == count_gflop(empty_network(PLAIN), size)[1]  # without times the head does not run
    assert still < one < three
    assert three - one == pytest.approx(2 * (three - count_gflop(network, size, [0.5, 1.0])[1]))

    def plan(*times):
        cost = network_cost(CONFIG, 4, 10, size, device=CPU, dtype=torch.float32, query_times=times)
        told = {"predictor": "tiny", "frames": 4, "span": 4, "pairs": 10, "size": size, "original_size": size}
        return make_plan(cost, **told, query_times=times)

    asked = plan(0.5, 1.0)
    # both views, two times, a vector and its confidence in half precision; in the scene towards both neighbours
    assert asked.disk_bytes - plan().disk_bytes == 48 * 64 * 2 * 4 * 2 * (10 * 2 + 4 * 2)
    assert "motion   at 0.5, 1 of the way" in asked.lines()
    assert not any("motion" in line for line in plan().lines())


def test_batches_shrink_with_the_number_of_times():
    assert suitable_batch(CPU, 256, 256, maps=1) == 16
    assert suitable_batch(CPU, 256, 256, maps=4) == 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--query-times", "0.5"], "--query-times: .*no head that says how points move.*leave the option out"),
        (["--query-times", "2"], "--query-times 2: each must be above 0.*at most 1"),
    ],
)
def test_times_that_nobody_can_answer_are_refused_before_any_work(asked, words, clip, weights, tmp_path, capfd):
    chosen = weights if asked[1] == "2" else write_tiny_weights(tmp_path / "plain")
    assert main(["reconstruct", str(clip), "--out", str(tmp_path / "out"), "--weights", str(chosen), *asked]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert re.search(words, error)
    assert not (tmp_path / "out").exists()


def test_the_option_without_a_number_leaves_motion_out(clip, weights, tmp_path, capfd):
    command = ["reconstruct", str(clip), "--out", str(tmp_path / "out"), "--weights", str(weights), "--dry-run"]
    assert main(command) == 0
    assert "motion   at 0.5, 1 of the way" in capfd.readouterr().out
    assert main([*command, "--query-times"]) == 0
    assert "of the way" not in capfd.readouterr().out
    assert main([*command, "--query-times", "0.2", "0.7"]) == 0
    assert "motion   at 0.2, 0.7, 1 of the way" in capfd.readouterr().out


def images(folder):
    paths = [folder / f"image{view}.png" for view in (0, 1)]
    for view, path in enumerate(paths):
        Image.fromarray(picture(5 * view, 48, 64)).save(path)
    return [str(path) for path in paths]


def test_a_pairs_file_holds_motion_at_the_times_asked_for(weights, tmp_path):
    paths, out = images(tmp_path), tmp_path / "pair.npz"
    command = ["pair", *paths, "--out", str(out), "--weights", str(weights), "--precision", "exact", "--device", "cpu"]
    assert main([*command, "--time", "0.25", "0", "1"]) == 0
    written = np.load(out)
    assert written["times"].tolist() == [0.25, 0, 1]
    network = load_model(str(weights), device=CPU, precision="exact")
    batch = [prepare_image(Image.open(path), 64, patch_size=16).image[None] for path in paths]
    with torch.inference_mode():
        said = network(*batch, times=torch.tensor([[0.25, 0, 1]])).extras["flow"]
    for view in (0, 1):
        expected = said[f"displacement{view}"][0].numpy().copy()
        expected[1 + view] = 0  # at its own time nothing has moved, whatever the head says
        np.testing.assert_allclose(written[f"motion{view}"], expected, rtol=1e-4, atol=1e-5)
        sure = said[f"confidence{view}"][0].numpy()
        np.testing.assert_allclose(written[f"motion_confidence{view}"], sure, rtol=1e-4)
    assert written["motion0"].shape == (3, 48, 64, 3)


def test_a_pair_without_a_motion_head_says_so(tmp_path, capfd):
    plain = write_tiny_weights(tmp_path / "plain")
    command = ["pair", *images(tmp_path), "--out", str(tmp_path / "pair.npz"), "--weights", str(plain), "--time", "0.5"]
    assert main(command) == 2
    assert "no head that says how points move (motion)" in capfd.readouterr().err
    assert main([*command[:-1], "1.5"]) == 2
    assert "--time 1.5: must be from 0" in capfd.readouterr().err


def test_a_predictor_is_asked_for_times_only_if_it_takes_them(weights, tmp_path):
    assert NetworkPredictor(str(weights), device=CPU).traits.takes_times
    assert not NetworkPredictor(str(write_tiny_weights(tmp_path)), device=CPU).traits.takes_times
