"""All six published inventories: same keys, shapes and counts, same bytes on the disk, and little memory to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stereo4d.errors import CheckpointError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.weights import empty_network, load_model
from stereo4d.network.weights.inferring import infer
from stereo4d.network.weights.keys import name_aliases
from stereo4d.network.weights.publishing import published_config, save_published
from tests.golden_numbers import GOLDEN, drawn_network, small_config
from tests.published_files import CONFIGS, SIZES, data_bytes, empty, header_of, inventory, write_sparse

EVERY = pytest.mark.parametrize("name", CONFIGS)
HUB_CONFIGS = {
    "DUSt3R_ViTLarge_BaseDecoder_512_dpt": "dust3r_512_dpt",
    "MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt": "monst3r_512_dpt",
    "MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric": "mast3r_512_catmlpdpt_metric",
}


def test_every_stored_inventory_is_compared() -> None:
    assert {path.stem for path in (GOLDEN / "state_dicts").glob("*.json")} == set(CONFIGS)


@EVERY
def test_a_published_network_has_exactly_the_published_keys(name: str) -> None:
    published = inventory(name)
    state = empty(name).state_dict()
    aliases = name_aliases(state)
    shapes = {key: list(value.shape) for key, value in state.items()}
    assert shapes | {alias: shapes[key] for alias, key in aliases.items()} == published["shapes"]
    assert len(state) + len(aliases) == published["num_keys"]
    assert sum(value.numel() for value in state.values()) == published["num_unique_parameters"]
    twice = sum(state[key].numel() for key in aliases.values())
    assert published["num_unique_parameters"] + twice == published["num_elements_in_state_dict"]


@EVERY
def test_the_tensors_alone_tell_the_published_options(name: str) -> None:
    config = CONFIGS[name]
    family = "DUSt3R" if isinstance(config, StereoConfig) else "CroCo"
    told = type(config).from_json(infer(empty(name).state_dict(), family)).to_json()
    free = {"img_size", "landscape_only", "patch_embed_cls", "freeze"}  # no tensor shows them
    assert {key: value for key, value in told.items() if key not in free} == {
        key: value for key, value in config.to_json().items() if key not in free
    }


def test_the_unofficial_dynadust3r_layout_is_a_dust3r_and_two_motion_heads() -> None:
    name = "DUSt3R_ViTLarge_BaseDecoder_512_dpt"
    config = replace(CONFIGS[name], heads={"motion": HeadChoice("motion", {"embed_dim": 256})})
    state = empty_network(config).state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    expected = {key: shape for key, shape in inventory(name)["shapes"].items() if ".layer_rn." not in key}
    for view in (1, 2):
        place = f"downstream_head{view}."
        expected |= {
            f"motion_head{view}.{key.removeprefix(place)}": shape
            for key, shape in tuple(expected.items())
            if key.startswith(place)
        }
        for level in range(4):
            layer = f"motion_head{view}.dpt.linear_projections.{level}"
            expected |= {f"{layer}.{i}.weight": [256, 256] for i in (0, 2)} | {
                f"{layer}.{i}.bias": [256] for i in (0, 2)
            }
    assert shapes == expected
    told = StereoConfig.from_json(infer(state, "DynaDUSt3R"))
    assert told.heads == config.heads
    assert told.upright() == replace(told, landscape_only=False)


@pytest.mark.parametrize("name", SIZES)
def test_a_published_network_has_the_published_size_on_disk(name: str) -> None:
    network = empty(name)
    assert len(header_of(network)) + data_bytes(network) == SIZES[name]


@pytest.mark.parametrize("name", HUB_CONFIGS)
def test_a_config_is_written_byte_for_byte_as_published(name: str) -> None:
    assert published_config(CONFIGS[name]).encode() == (GOLDEN / f"hf_config_{HUB_CONFIGS[name]}.json").read_bytes()


def test_a_network_saved_as_published_has_the_published_header_and_comes_back(tmp_path: Path) -> None:
    network = drawn_network(small_config("dpt"))
    path = save_published(network, tmp_path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert len(metadata) == 8
    assert metadata["downstream_head2.dpt.scratch.layer_rn.3.weight"] == "downstream_head2.dpt.scratch.layer4_rn.weight"
    header = header_of(network)
    written = path.read_bytes()
    assert len(written) == len(header) + data_bytes(network)
    length = int.from_bytes(written[:8], "little")
    ours, library = json.loads(header[8:]), json.loads(written[8 : 8 + length])
    assert ours == library
    assert len(header) == 8 + length
    text = (tmp_path / "config.json").read_text()
    assert "-Infinity" in text
    assert text.endswith("}")
    back = load_model(tmp_path)
    for key, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[key], value)


def test_heads_without_a_published_layout_and_values_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    network = drawn_network(small_config("linear", heads={"second": HeadChoice("linear")}))
    with pytest.raises(CheckpointError, match=r"\(second\) have no published config"):
        save_published(network, tmp_path / "a")
    network = drawn_network(small_config("linear"))
    with torch.no_grad():
        network.enc_norm.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"enc_norm\.weight \(1 of 64 values\)"):
        save_published(network, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc, which only Linux has: run it there"
)
def test_loading_a_vit_l_takes_no_more_memory_than_it_has_bytes_and_a_tenth(tmp_path: Path) -> None:
    name = "DUSt3R_ViTLarge_BaseDecoder_512_dpt"
    folder = write_sparse(name, tmp_path / "large")
    script = (
        "import sys, torch; "
        "memory = lambda name: next(int(l.split()[1]) << 10 for l in open('/proc/self/status') if l.startswith(name)); "
        "before = memory('VmRSS'); from stereo4d.network.weights import load_model; "
        "network = load_model(sys.argv[1]); print(memory('VmHWM') - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.9 * SIZES[name] < int(done.stdout) <= 1.1 * SIZES[name]  # every value was looked at once
