"""Training that starts from weights of a relative takes what fits, and says what it did with the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from stereo4d.errors import CheckpointError
from stereo4d.network.completion import CompletionConfig
from stereo4d.network.config import HeadChoice
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import empty_completion_network, start_from
from tests.golden_numbers import drawn, drawn_network
from tests.tiny_weights import CONFIG

WIDTHS = {"feature_dim": 16, "last_dim": 8, "layer_dims": [4, 8, 8, 8]}
LINEAR = replace(CONFIG, img_size=(32, 48), enc_depth=2, dec_depth=4)
DPT = replace(LINEAR, head_type="dpt", head_options=WIDTHS)
MAST3R = replace(LINEAR, head_type="catmlp+dpt", output_mode="pts3d+desc8", head_options={**WIDTHS, "two_confs": True})
DYNA = replace(DPT, heads={"motion": HeadChoice("motion", {"embed_dim": 16, **WIDTHS})})


def store(network: nn.Module, folder: Path, name: str = "model", prefix: str = "") -> Path:
    torch.save({name: {prefix + key: value for key, value in network.state_dict().items()}}, folder / "start.pth")
    return folder / "start.pth"


def completion() -> nn.Module:
    names = ("enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads", "img_size")
    network = empty_completion_network(CompletionConfig(**{name: getattr(LINEAR, name) for name in names}))
    state = {key: drawn(key, tuple(value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network


def check_equal(network: nn.Module, other: nn.Module, *groups: str) -> None:
    state, expected = network.state_dict(), other.state_dict()
    compared = [key for key in state if key.startswith(groups)]
    assert compared
    for key in compared:
        assert torch.equal(state[key], expected[key]), key


def test_a_completion_network_gives_both_decoders(tmp_path: Path) -> None:
    source, network = completion(), StereoNetwork(LINEAR)
    before = network.downstream_head1.proj.weight.clone()
    report = start_from(network, store(source, tmp_path))
    check_equal(network, source, "enc_blocks.", "dec_blocks.", "enc_norm", "decoder_embed", "mask_token")
    for key, value in source.dec_blocks.state_dict().items():
        assert torch.equal(network.dec_blocks2.state_dict()[key], value)
    assert torch.equal(network.downstream_head1.proj.weight, before)
    assert report.derived == {"dec_blocks2": report.taken["dec_blocks"]}
    assert report.fresh == {"downstream_head1.proj": 2, "downstream_head2.proj": 2}
    assert report.dropped == {"prediction_head": 2}
    assert "fresh: downstream_head1.proj (2), downstream_head2.proj (2); dropped: prediction_head (2)" in str(report)


def test_a_linear_head_makes_room_for_a_dpt_one(tmp_path: Path) -> None:
    source, network = drawn_network(LINEAR), StereoNetwork(DPT)
    report = start_from(network, store(source, tmp_path))
    check_equal(network, source, "enc_", "dec_")
    assert report.dropped == {"downstream_head1.proj": 2, "downstream_head2.proj": 2}
    assert set(report.fresh) == {"downstream_head1.dpt", "downstream_head2.dpt"}
    assert not report.derived


def test_descriptors_are_added_to_a_dpt_head(tmp_path: Path) -> None:
    source, network = drawn_network(DPT), StereoNetwork(MAST3R)
    report = start_from(network, store(source, tmp_path))
    check_equal(network, source, "enc_", "dec_", "downstream_head1.dpt", "downstream_head2.dpt")
    assert report.fresh == {"downstream_head1.head_local_features": 4, "downstream_head2.head_local_features": 4}
    assert not report.dropped


def test_motion_starts_from_the_pointmap_and_moves_nothing(tmp_path: Path) -> None:
    source, network = drawn_network(DPT), StereoNetwork(DYNA).eval()
    report = start_from(network, store(source, tmp_path))
    check_equal(network, source, "enc_", "dec_", "downstream_head")
    assert set(report.derived) == {"motion_head1.dpt", "motion_head2.dpt"}
    state = network.state_dict()
    for view in (1, 2):
        for key in ("scratch.layer2_rn.weight", "act_postprocess.0.0.bias", "head.2.weight"):
            assert torch.equal(state[f"motion_head{view}.dpt.{key}"], state[f"downstream_head{view}.dpt.{key}"])
        confidence = [state[f"{head}{view}.dpt.head.4.weight"][3] for head in ("motion_head", "downstream_head")]
        assert torch.equal(*confidence)
    images = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        maps = network(images, images.flip(-1), times=torch.tensor([[0.0, 0.4, 1.0]])).extras["motion"]
    assert not maps["displacement0"].any()
    assert not maps["displacement1"].any()
    # the first layers of time's projections are the only ones that nothing could be taken for
    assert report.fresh == {"motion_head1.dpt": 8, "motion_head2.dpt": 8}


def test_a_checkpoint_of_training_is_a_start_too(tmp_path: Path) -> None:
    source, network = drawn_network(DPT), StereoNetwork(DPT)
    report = start_from(network, store(source, tmp_path, "state_dict", "network."))
    check_equal(network, source, "")
    assert not report.fresh
    assert not report.dropped


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enc_depth": 3}, r"the file lacks enc_blocks \(12\)"),
        ({"dec_depth": 3}, r"the network has no place for dec_blocks \(24\), dec_blocks2 \(24\)"),
        ({"dec_embed_dim": 64}, r"mask_token is \(1, 1, 32\), the network needs \(1, 1, 64\).* and \d+ more"),
    ],
)
def test_another_backbone_is_no_start_and_changes_nothing(change: dict, reason: str, tmp_path: Path) -> None:
    network = StereoNetwork(replace(LINEAR, **change))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=reason):
        start_from(network, store(drawn_network(LINEAR), tmp_path))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
