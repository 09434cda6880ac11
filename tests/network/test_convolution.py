from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stereo4d_heads.pointmap_dpt import DptPointmapHead
from torch.nn import functional

from stereo4d.network.config import StereoConfig
from stereo4d.network.convolution import Conv3x3, convolutions, fewer_products_pay
from stereo4d.network.head import BackboneDims
from stereo4d.network.precision import Precision, choose
from stereo4d.network.settling import settle
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import empty_network
from tests.golden_numbers import drawn_network, small_config

CPU = torch.device("cpu")
needs_nnpack = pytest.mark.skipif(
    not fewer_products_pay(CPU), reason="this CPU convolves directly: run it on one with AVX2 and without AVX-512"
)


def pictures(count: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def network() -> StereoNetwork:
    config: StereoConfig = small_config("dpt")
    return drawn_network(config).eval()


@needs_nnpack
@pytest.mark.parametrize("shape", [(1, 24, 32), (3, 23, 37), (2, 40, 13)])
@pytest.mark.parametrize("bias", [True, False])
def test_fewer_products_give_the_same_maps_up_to_rounding(shape: tuple[int, int, int], bias: bool) -> None:
    torch.manual_seed(0)
    convolution = Conv3x3(16, 24, bias=bias)
    maps = torch.randn(shape[0], 16, *shape[1:]).contiguous(memory_format=torch.channels_last)
    exact = functional.conv2d(
        maps.double(), convolution.weight.double(), convolution.bias.double() if bias else None, padding=1
    )
    with torch.no_grad(), convolutions(fewer_products=True):
        quick = convolution(maps)
    assert not torch.equal(quick, convolution(maps)), "the quick way was not taken"
    torch.testing.assert_close(quick.double(), exact, rtol=1e-4, atol=1e-4)


@needs_nnpack
def test_training_and_exact_precision_convolve_directly() -> None:
    convolution, maps = Conv3x3(16, 16), torch.randn(1, 16, 32, 32)
    usual = functional.conv2d(maps, convolution.weight, convolution.bias, padding=1)
    with convolutions(fewer_products=True):
        assert torch.equal(convolution(maps), usual)
    with torch.no_grad(), choose("exact", CPU).heads(CPU):
        assert torch.equal(convolution(maps), usual)
    with torch.no_grad(), choose("auto", CPU).heads(CPU):
        assert not torch.equal(convolution(maps), usual)
    with torch.no_grad():
        assert torch.equal(convolution(maps), usual), "it must not outlast the block"


@needs_nnpack
def test_a_batch_image_by_image_is_the_batch() -> None:
    torch.manual_seed(0)
    dims = BackboneDims(patch_size=16, encoder_dim=16, decoder_dim=24, decoder_depth=4)
    head = DptPointmapHead(dims, feature_dim=16, last_dim=8, layer_dims=[4, 8, 8, 8])
    tokens = [torch.randn(3, 24, width) for width in (16, 24, 24, 24, 24)]
    with torch.no_grad():
        together = head(tokens, (64, 96))["pointmap"]
        with convolutions(fewer_products=True):
            quick = head(tokens, (64, 96))["pointmap"]
    assert not torch.equal(quick, together)
    torch.testing.assert_close(quick, together, rtol=1e-4, atol=1e-5)


def test_reduced_convolutions_deviate_more_than_the_backbone_alone_but_little() -> None:
    deviations = []
    model = network()
    with torch.no_grad():
        exact = model(pictures(2), pictures(2).flip(-1)).pointmap1
        for precision in (Precision(torch.bfloat16), Precision(torch.bfloat16, convolutions=torch.bfloat16)):
            model.precision = precision
            found = model(pictures(2), pictures(2).flip(-1)).pointmap1
            assert found.dtype == torch.float32
            deviations.append(((found - exact).norm(dim=-1) / exact.norm(dim=-1)).median().item())
    assert 1e-4 < deviations[0] < deviations[1] < 0.05


@pytest.mark.parametrize(
    "precision",
    [
        Precision(full=True),
        Precision(torch.bfloat16),
        Precision(torch.bfloat16, convolutions=torch.bfloat16),
        Precision(fewer_products=True),
    ],
    ids=["exact", "bf16", "fast", "quick"],
)
def test_settling_changes_neither_keys_nor_predictions(precision: Precision) -> None:
    model = network()
    keys = {key: value.shape for key, value in model.state_dict().items()}
    model.precision = precision
    with torch.no_grad():
        before = model(pictures(1), pictures(1).flip(-1))
        after = settle(model, precision)(pictures(1), pictures(1).flip(-1))
    assert {key: value.shape for key, value in model.state_dict().items()} == keys
    # sums of another order are rounded otherwise, and in bfloat16 coarsely
    tolerance = 1e-4 if precision.convolutions is None else 5e-2
    torch.testing.assert_close(after.pointmap1, before.pointmap1, rtol=tolerance, atol=tolerance)
    assert (model.enc_blocks[0].attn.qkv.weight.dtype == torch.bfloat16) == (precision.reduced is not None)
    assert model.enc_norm.weight.dtype == model.downstream_head1.dpt.head[0].weight.dtype == torch.float32
    kernels = model.downstream_head1.dpt.head[0].weight
    assert kernels.is_contiguous(memory_format=torch.channels_last) != precision.fewer_products


def test_fast_reduces_convolutions_only_where_bfloat16_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stereo4d.network.precision.has_native_bf16", lambda device: True)
    assert choose("fast", CPU) == Precision(torch.bfloat16, convolutions=torch.bfloat16)
    assert choose("auto", CPU).convolutions is None
    monkeypatch.setattr("stereo4d.network.precision.has_native_bf16", lambda device: False)
    assert choose("fast", CPU) == replace(choose("auto", CPU), reduced=None)


def test_a_network_without_storage_runs_so_that_its_work_can_be_counted() -> None:
    model = empty_network(small_config("dpt"))
    with torch.inference_mode(), torch.device("meta"):
        for precision in (Precision(), Precision(full=True), Precision(fewer_products=True)):
            with precision.heads(torch.device("cpu")):
                tokens = [torch.empty(1, 24, 64)] + [torch.empty(1, 24, 48)] * 12
                assert model.downstream_head1(tokens, (64, 96))["pointmap"].shape == (1, 64, 96, 3)
