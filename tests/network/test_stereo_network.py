"""What the network promises beyond numbers: caching, starting values, options, precision."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stereo4d.errors import CheckpointError, PluginError, ShapeError, UsageError
from stereo4d.network.config import HeadChoice
from stereo4d.network.head import Head, Output
from stereo4d.network.precision import Precision, choose
from stereo4d.network.stereo import Encoded, StereoConfig, StereoNetwork
from tests.golden_numbers import small_config

TINY = StereoConfig(
    img_size=(32, 48),
    enc_embed_dim=16,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=24,
    dec_depth=4,
    dec_num_heads=3,
)


@pytest.fixture
def network() -> StereoNetwork:
    torch.manual_seed(0)
    return StereoNetwork(TINY)


def images(count: int, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pairs_of_cached_features_equal_pairs_of_images(network: StereoNetwork) -> None:
    frames = images(3)
    once = [network.encode(frame[None]) for frame in frames]
    edges = [(0, 1), (1, 0), (0, 2), (2, 1)]
    together = network.predict_encoded(
        Encoded.stack([once[i] for i, _ in edges]), Encoded.stack([once[j] for _, j in edges])
    )
    for row, (i, j) in enumerate(edges):
        alone = network(frames[i : i + 1], frames[j : j + 1])
        torch.testing.assert_close(together.pointmap0[row], alone.pointmap0[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.pointmap1[row], alone.pointmap1[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.confidence1[row], alone.confidence1[0], rtol=1e-5, atol=1e-5)


def test_both_decoders_start_equal_and_then_go_their_own_way(network: StereoNetwork) -> None:
    for first, second in zip(network.dec_blocks.parameters(), network.dec_blocks2.parameters(), strict=True):
        assert torch.equal(first, second)
        assert first.data_ptr() != second.data_ptr()


def test_weights_start_as_croco_does(network: StereoNetwork) -> None:
    def bound(values: Tensor) -> float:
        return values.abs().max().item()

    glorot = (6 / (16 + 768)) ** 0.5
    assert glorot * 0.98 < bound(network.patch_embed.proj.weight) <= glorot
    assert 0 < bound(network.patch_embed.proj.bias) <= 768**-0.5
    qkv = network.get_submodule("enc_blocks.0.attn.qkv")
    assert (6 / 64) ** 0.5 * 0.98 < bound(qkv.weight) <= (6 / 64) ** 0.5
    assert bound(qkv.bias) == 0
    assert 0 < bound(network.mask_token) < 0.12
    assert network.get_submodule("dec_blocks.1.norm_y").weight.unique().tolist() == [1]
    head = network.get_submodule("downstream_head1.proj")
    assert 24**-0.5 * 0.98 < bound(head.weight) <= 24**-0.5
    assert not torch.equal(head.weight, network.get_submodule("downstream_head2.proj").weight)


def test_cross_attention_logits_are_those_the_fused_path_uses(network: StereoNetwork) -> None:
    view0, view1 = network.encode(images(2)), network.encode(images(2).flip(0))
    block = network.dec_blocks[0]
    inside: dict[str, Tensor] = {}
    block.cross_attn.register_forward_hook(
        lambda _m, inputs, out: inside.update(query=inputs[0], memory=inputs[1], out=out)
    )
    lists = network.decode(view0, view1)
    start = [network.decoder_embed(entries[0]) for entries in lists]
    logits = block.cross_logits(*start, view0.positions, view1.positions)
    assert logits.shape == (2, 3, 6, 6)
    values = block.cross_attn.projv(inside["memory"]).unflatten(-1, (3, 8)).transpose(1, 2)
    mixed = (logits.softmax(-1) @ values).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(block.cross_attn.proj(mixed), inside["out"], rtol=1e-5, atol=1e-5)


def test_every_parameter_but_the_unused_ones_learns(network: StereoNetwork) -> None:
    prediction = network(images(2), images(2).flip(0))
    total = sum(
        value.square().mean()
        for value in (prediction.pointmap0, prediction.pointmap1, prediction.confidence0, prediction.confidence1)
    )
    total.backward()
    idle = {name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()}
    assert idle == {"mask_token"}


def test_features_of_inference_mode_leave_no_trace_in_training(network: StereoNetwork) -> None:
    with torch.inference_mode():
        network(images(1), images(1))
    network(images(1), images(1)).pointmap0.sum().backward()


@pytest.mark.parametrize(
    ("mode", "frozen"),
    [
        ("none", set()),
        ("mask", {"mask_token"}),
        ("encoder", {"mask_token", "patch_embed", "enc_blocks"}),
        ("encoder_and_decoder", {"mask_token", "patch_embed", "enc_blocks", "dec_blocks", "dec_blocks2"}),
    ],
)
def test_freezing_freezes_exactly_its_parts(mode: str, frozen: set[str]) -> None:
    network = StereoNetwork(replace(TINY, freeze=mode))
    found = {name.split(".")[0] for name, value in network.named_parameters() if not value.requires_grad}
    assert found == frozen


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"freeze": "half"}, UsageError, "half"),
        ({"pos_embed": "cosine"}, UsageError, "rotary"),
        ({"pos_embed": "RoPEx"}, UsageError, "RoPEx"),
        ({"head_type": "nose"}, PluginError, "nose"),
        ({"patch_embed_cls": "Puzzle"}, UsageError, "Puzzle"),
        ({"enc_num_heads": 8}, UsageError, "multiple of 4"),
        ({"enc_num_heads": 3, "enc_embed_dim": 25}, UsageError, "not a multiple of 3 heads"),
        ({"head_type": "dpt", "dec_depth": 3}, UsageError, "four depths"),
        ({"head_type": "dpt", "patch_size": 8}, UsageError, "patch size 16"),
    ],
)
def test_options_that_make_no_network_are_named(change: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        StereoNetwork(replace(TINY, **change))


def test_unnormalised_memory_has_no_parameters() -> None:
    keys = StereoNetwork(replace(TINY, norm_im2_in_dec=False)).state_dict()
    assert not any("norm_y" in key for key in keys)


def test_images_that_do_not_fit_are_refused(network: StereoNetwork) -> None:
    with pytest.raises(ShapeError, match="40x48"):
        network(images(1, 40), images(1, 40))
    with pytest.raises(ShapeError, match="must be"):
        network.encode(torch.zeros(3, 32, 48))
    with pytest.raises(ShapeError, match="do not pair up"):
        network.predict_encoded(network.encode(images(1)), network.encode(images(2)))
    with pytest.raises(ShapeError, match="different image sizes"):
        Encoded.stack([network.encode(images(1)), network.encode(images(1, 48, 32))])


def test_portrait_storage_and_mixed_batches_are_refused_where_they_cannot_work() -> None:
    config = replace(TINY, patch_embed_cls="ManyAR_PatchEmbed")
    with pytest.raises(ShapeError, match="stored portrait"):
        StereoNetwork(config).encode(images(1, 48, 32))
    shapes = torch.tensor([[32, 48], [48, 32]])
    with pytest.raises(ShapeError, match="mixes"):
        StereoNetwork(replace(config, landscape_only=False))(images(2), images(2), shapes, shapes)


def test_a_config_survives_json() -> None:
    config = small_config("dpt", head_options={"feature_dim": 16}, conf_mode=("sigmoid", 1.0, 3.0))
    assert StereoConfig.from_json(config.to_json()) == config
    beside = replace(config, heads={"normals": HeadChoice("dpt", {"feature_dim": 16}, shared=True)})
    assert StereoConfig.from_json(json.loads(json.dumps(beside.to_json(), allow_nan=False))) == beside
    with pytest.raises(CheckpointError, match=r"heads\.normals .*must be a mapping with head_type"):
        StereoConfig.from_json({"heads": {"normals": {"size": 3}}})


def test_an_option_that_neither_network_nor_head_has_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown network options colour: .*head 'linear'"):
        StereoNetwork(StereoConfig.from_json(TINY.to_json() | {"colour": "blue"}))


class Tattling(Head):
    """Reports the numerics around it."""

    outputs = (Output("pointmap", (3,)), Output("confidence"), Output("motion"))

    def forward(self, tokens: list[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        self.dtypes = {entry.dtype for entry in tokens}
        self.autocast = torch.is_autocast_enabled("cpu")
        self.tf32 = torch.backends.cudnn.allow_tf32
        maps = torch.ones(len(tokens[0]), *image_size)
        return {"pointmap": maps[..., None].expand(-1, -1, -1, 3), "confidence": maps, "motion": maps}


def test_heads_run_in_float32_under_any_autocast(network: StereoNetwork) -> None:
    network.downstream_head1 = network.downstream_head2 = head = Tattling()  # type: ignore[assignment]
    with torch.autocast("cpu", torch.bfloat16):
        network(images(1), images(1))
    assert (head.dtypes, head.autocast) == ({torch.float32}, False)
    network.precision = Precision(reduced=torch.bfloat16)
    network(images(1), images(1))
    assert (head.dtypes, head.autocast, head.tf32) == ({torch.float32}, False, True)
    network.precision = Precision(full=True)
    network(images(1), images(1))
    assert head.tf32 is False
    assert torch.backends.cudnn.allow_tf32 is True


def test_exact_precision_ignores_the_callers_autocast(network: StereoNetwork) -> None:
    network.precision = choose("exact", torch.device("cpu"))
    frames = images(2)
    plain = network(frames, frames.flip(0))
    with torch.autocast("cpu", torch.bfloat16):
        shielded = network(frames, frames.flip(0))
    assert torch.equal(plain.pointmap0, shielded.pointmap0)


def test_reduced_precision_stays_near_and_is_not_the_same(network: StereoNetwork) -> None:
    frames = images(2)
    full = network(frames, frames.flip(0))
    network.precision = choose("bf16", torch.device("cpu"))
    reduced = network(frames, frames.flip(0))
    assert reduced.pointmap0.dtype == torch.float32
    deviation = (reduced.pointmap0 - full.pointmap0).norm() / full.pointmap0.norm()
    assert 1e-4 < deviation < 0.05


def test_what_further_maps_a_head_makes_arrives_in_extras(network: StereoNetwork) -> None:
    network.downstream_head1 = network.downstream_head2 = Tattling()  # type: ignore[assignment]
    assert set(network(images(1), images(1)).extras["extras"]) == {"motion0", "motion1"}


def test_a_head_that_writes_what_it_does_not_declare_is_named(network: StereoNetwork) -> None:
    network.downstream_head1 = network.downstream_head2 = Tattling()  # type: ignore[assignment]
    Tattling.outputs, declared = (*Tattling.outputs[:2], Output("sky", (2,))), Tattling.outputs
    try:
        written = r"wrote motion \(1, 32, 48\), sky not written"
        with pytest.raises(PluginError, match=rf"head Tattling {written}; .* motion not at all, sky \(1, 32, 48, 2\)"):
            network(images(1), images(1))
    finally:
        Tattling.outputs = declared
