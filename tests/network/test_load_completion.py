"""Files of cross-view completion networks, in each form they are found in, load as such and as nothing else."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stereo4d
from stereo4d.errors import CheckpointError
from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.weights import inspect, load_completion, load_model, save_model
from tests.golden_numbers import drawn_network, small_config

SMALL = CompletionConfig(
    img_size=(64, 64),
    enc_embed_dim=128,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=64,
    dec_depth=2,
    dec_num_heads=1,
    pos_embed="RoPE100",
)
TEXT = ", ".join(f"{name}={value!r}" for name, value in SMALL.to_json().items())


def store(config: CompletionConfig, folder: Path, **more: object) -> tuple[CompletionNetwork, Path]:
    network = CompletionNetwork(config)
    torch.save({"model": network.state_dict(), **more}, folder / "croco.pth")
    return network, folder / "croco.pth"


@pytest.mark.parametrize("pos_embed", ["RoPE100", "cosine"])
@pytest.mark.parametrize(
    "more",
    [
        lambda config: {"croco_kwargs": config.to_json()},
        lambda config: {"args": argparse.Namespace(model=f"CroCoNet({TEXT.replace('RoPE100', config.pos_embed)})")},
        lambda config: {},
    ],
    ids=["croco_kwargs", "constructor", "tensors alone"],
)
def test_a_completion_file_loads(more, pos_embed: str, tmp_path: Path) -> None:
    config = replace(SMALL, pos_embed=pos_embed)
    network, path = store(config, tmp_path, **more(config))
    loaded = stereo4d.load_completion(path)
    image = torch.rand(1, 3, 64, 64)
    hidden = torch.arange(16)[None] % 3 != 0
    with torch.no_grad():
        assert torch.equal(loaded(image, image, hidden).prediction, network(image, image, hidden).prediction)
    assert not loaded.training
    assert inspect(path).family == "CroCo"
    assert inspect(path).config_inferred == (not more(config))


def test_tensors_without_options_of_the_first_version_have_its_published_options(tmp_path: Path) -> None:
    network, path = store(CompletionConfig(pos_embed="cosine"), tmp_path)
    assert load_completion(path).config == network.config


def test_two_view_and_completion_networks_are_told_apart(tmp_path: Path) -> None:
    _, path = store(SMALL, tmp_path, croco_kwargs=SMALL.to_json())
    with pytest.raises(CheckpointError, match=r"croco\.pth is a CroCo checkpoint.*stereo4d\.load_completion"):
        load_model(path)
    save_model(drawn_network(small_config("linear")), tmp_path)
    with pytest.raises(CheckpointError, match=r"is a DUSt3R checkpoint.*stereo4d\.load_model"):
        load_completion(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img_size": 10**9}, "img_size .* must be"),
        ({"img_size": 224}, "has 196 patches, but enc_pos_embed is"),
        ({"dec_depth": 10**9}, "dec_depth is 1000000000 by its description, but 2 by its tensors"),
        ({"colour": 3}, "no options colour"),
    ],
)
def test_descriptions_of_another_completion_network_are_refused(change: dict, reason: str, tmp_path: Path) -> None:
    config = replace(SMALL, pos_embed="cosine")
    _, path = store(config, tmp_path, croco_kwargs=config.to_json() | change)
    with pytest.raises(CheckpointError, match=reason):
        load_completion(path)
