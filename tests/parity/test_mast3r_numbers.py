"""The head with descriptors computes what the published implementation computes, and has its keys."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from stereo4d_heads.activation import confidence_from_raw, points_from_raw
from stereo4d_heads.pointmap_descriptor import unit_length

from stereo4d.network.config import StereoConfig
from stereo4d.network.weights import empty_network
from tests.golden_numbers import GOLDEN, TOLERANCE, as_input, assert_close, drawn_network, load, small_config

OPTIONS = {"two_confs": True, "desc_mode": "norm", "desc_conf_mode": ("exp", 0.0, float("inf"))}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_every_stage_and_every_map_equals_the_reference() -> None:
    golden = {name.removeprefix("landscape/"): array for name, array in load("mast3r_catmlpdpt").items()}
    network = drawn_network(small_config("catmlp+dpt", output_mode="pts3d+desc24", head_options=OPTIONS))
    images = [as_input(golden[name]) for name in ("img1", "img2")]
    views = [network.encode(image) for image in images]
    for view, tokens in enumerate(network.decode(*views), start=1):
        assert (views[view - 1].positions.numpy() == golden[f"pos{view}"]).all()
        assert_close(tokens[0], golden[f"enc{view}"], "enc")
        assert_close(torch.stack(tokens[1:]), golden[f"dec{view}"], "dec")
    prediction = network(*images)
    assert_close(prediction.pointmap0, golden["pred1_pts3d"], "pointmap")
    assert_close(prediction.pointmap1, golden["pred2_pts3d_in_other_view"], "pointmap")
    assert_close(prediction.confidence0, golden["pred1_conf"], "confidence")
    assert_close(prediction.confidence1, golden["pred2_conf"], "confidence")
    maps = prediction.extras["descriptors"]
    assert len(maps) == 4
    for view in (0, 1):
        np.testing.assert_allclose(maps[f"descriptors{view}"], golden[f"pred{view + 1}_desc"], rtol=0, atol=1e-5)
        assert_close(maps[f"descriptor_confidence{view}"], golden[f"pred{view + 1}_desc_conf"], "confidence")
    assert TOLERANCE["confidence"] == 5e-5


def test_raw_maps_become_points_confidences_and_descriptors_as_in_the_reference() -> None:
    golden = load("postprocess_and_sincos")
    raw = torch.from_numpy(golden["post_mast3r/raw"]).movedim(1, -1)
    ours = {
        "pts3d": points_from_raw(raw[..., :3]),
        "conf": confidence_from_raw(raw[..., 3]),
        "desc": unit_length(raw[..., 4:9]),
        "desc_conf": confidence_from_raw(raw[..., 9], ("exp", 0.0, float("inf"))),
    }
    for name, found in ours.items():
        np.testing.assert_allclose(found.numpy(), golden[f"post_mast3r/{name}"], rtol=1e-6, atol=1e-7)


def test_the_published_config_builds_a_network_with_the_published_keys() -> None:
    inventory = json.loads(next((GOLDEN / "state_dicts").glob("MASt3R_*.json")).read_text())
    options = json.loads((GOLDEN / "hf_config_mast3r_512_catmlpdpt_metric.json").read_text())
    config = StereoConfig.from_json(options)
    assert config == replace(config.upright(), head_type="catmlp+dpt", output_mode="pts3d+desc24")
    network = empty_network(config)
    aliases = {key for key in inventory["shapes"] if ".layer_rn." in key}
    assert (len(inventory["shapes"]), len(aliases)) == (1017, 8)
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert ours == {key: shape for key, shape in inventory["shapes"].items() if key not in aliases}
    assert sum(value.numel() for value in network.parameters()) == inventory["num_unique_parameters"] == 688_638_856
