"""The head with descriptors on every kind of batch, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from stereo4d_heads.pointmap_descriptor import DescriptorHead, unit_length
from torch import Tensor

from stereo4d import registry
from stereo4d.errors import UsageError
from stereo4d.network.config import StereoConfig
from stereo4d.network.head import BackboneDims
from stereo4d.network.precision import Precision
from stereo4d.network.stereo import StereoNetwork
from tests.golden_numbers import drawn_network

DIMS = BackboneDims(patch_size=16, encoder_dim=16, decoder_dim=24, decoder_depth=4)
SMALL = {"feature_dim": 16, "last_dim": 8, "layer_dims": [4, 8, 8, 8]}
CONFIG = StereoConfig(
    img_size=(48, 64),
    enc_embed_dim=16,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=24,
    dec_depth=4,
    dec_num_heads=2,
    head_type="catmlp+dpt",
    output_mode="pts3d+desc6",
    head_options={"two_confs": True, "desc_conf_mode": ["exp", 0, "inf"], **SMALL},
    landscape_only=False,
)


def tokens(rows: int, columns: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = [DIMS.encoder_dim] + [DIMS.decoder_dim] * DIMS.decoder_depth
    return [torch.randn(batch, rows * columns, width, generator=generator) for width in widths]


def small_head(**options: object) -> DescriptorHead:
    torch.manual_seed(0)
    return DescriptorHead(DIMS, **{"output_mode": "pts3d+desc6", **SMALL, **options})  # type: ignore[arg-type]


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1


def network(**options: object) -> StereoNetwork:
    return drawn_network(replace(CONFIG, **options))  # type: ignore[arg-type]


def all_maps(prediction: object, view: int) -> dict[str, Tensor]:
    extras = prediction.extras["descriptors"]  # type: ignore[attr-defined]
    names = ("descriptors", "descriptor_confidence")
    maps = {name: getattr(prediction, f"{name}{view}") for name in ("pointmap", "confidence")}
    return maps | {name: extras[f"{name}{view}"] for name in names}


def test_it_is_found_by_its_published_name() -> None:
    assert registry.load("stereo4d.heads", "catmlp+dpt") is DescriptorHead


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (4, 2)])
def test_any_token_grid_becomes_unit_descriptors(rows: int, columns: int) -> None:
    maps = small_head(two_confs=True, desc_conf_mode=("exp", 0.0, math.inf))(
        tokens(rows, columns), (16 * rows, 16 * columns)
    )
    assert maps["descriptors"].shape == (2, 16 * rows, 16 * columns, 6)
    assert maps["descriptor_confidence"].shape == maps["confidence"].shape == (2, 16 * rows, 16 * columns)
    torch.testing.assert_close(maps["descriptors"].norm(dim=-1), torch.ones(2, 16 * rows, 16 * columns))
    assert maps["confidence"].min() > 1 > maps["descriptor_confidence"].min() > 0


def test_without_a_confidence_of_their_own_descriptors_are_trusted_as_points_are() -> None:
    maps = small_head()(tokens(2, 3), (32, 48))
    assert torch.equal(maps["descriptor_confidence"], maps["confidence"])


def test_without_a_mode_of_its_own_the_second_confidence_has_that_of_the_first() -> None:
    maps = small_head(two_confs=True)(tokens(2, 3), (32, 48))
    assert maps["descriptor_confidence"].min() > 1
    assert not torch.equal(maps["descriptor_confidence"], maps["confidence"])


@pytest.mark.parametrize("entry", [0, -1])
def test_a_token_describes_its_own_patch_only(entry: int) -> None:
    head, lists = small_head(), tokens(2, 3)
    before = head(lists, (32, 48))["descriptors"]
    lists[entry] = lists[entry].clone()
    lists[entry][:, 4] += torch.linspace(-2, 2, lists[entry].shape[-1])  # second row, second column
    changed = (head(lists, (32, 48))["descriptors"] != before).any(-1)
    assert changed[:, 16:, 16:32].all()
    changed[:, 16:, 16:32] = False
    assert not changed.any()


def test_everything_but_the_unit_that_nothing_passes_through_learns() -> None:
    head = small_head(two_confs=True)
    maps = head(tokens(2, 3), (32, 48))
    sum((value * torch.linspace(-1, 1, value.numel()).view_as(value)).sum() for value in maps.values()).backward()
    idle = {name for name, value in head.named_parameters() if value.grad is None}
    assert idle == {name for name, _ in head.named_parameters() if "refinenet4.resConfUnit1" in name}
    learning = [value.grad for name, value in head.named_parameters() if name not in idle]
    assert all(gradient.isfinite().all() and gradient.any() for gradient in learning)


def test_a_vanishing_descriptor_stays_zero_with_clean_gradients_and_no_other_number_changes() -> None:
    raw = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3e-18, 4e-18]], requires_grad=True)
    unit = unit_length(raw)
    unit[:, 0].sum().backward()
    torch.testing.assert_close(unit.detach(), torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.6, 0.8]]))
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    torch.testing.assert_close(raw.grad[1], torch.tensor([0.128, -0.096]))  # (y^2, -x y) / r^3


def test_half_precision_descriptors_have_unit_length_though_their_squares_overflow() -> None:
    unit = unit_length(torch.tensor([[300.0, 400.0]], dtype=torch.float16))
    assert unit.dtype == torch.float16
    torch.testing.assert_close(unit.float(), torch.tensor([[0.6, 0.8]]), rtol=1e-3, atol=0)


def test_a_network_in_bfloat16_still_writes_descriptors_in_float32() -> None:
    ours = network()
    exact = all_maps(ours(images(48, 64), images(48, 64).flip(-1)), 1)
    ours.precision = Precision(reduced=torch.bfloat16)
    reduced = all_maps(ours(images(48, 64), images(48, 64).flip(-1)), 1)
    assert {value.dtype for value in reduced.values()} == {torch.float32}
    torch.testing.assert_close(reduced["descriptors"].norm(dim=-1), torch.ones(2, 48, 64))
    alike = (exact["descriptors"] * reduced["descriptors"]).sum(-1)
    assert 0.99 < alike.median() < 1.0 - 1e-6


def test_the_two_views_may_differ_in_size() -> None:
    prediction = network()(images(48, 64), images(80, 32))
    assert all_maps(prediction, 0)["descriptors"].shape == (2, 48, 64, 6)
    assert all_maps(prediction, 1)["descriptors"].shape == (2, 80, 32, 6)


def test_in_a_mixed_batch_every_image_is_described_as_it_is_alone_and_upright() -> None:
    lying = network(landscape_only=True, patch_embed_cls="ManyAR_PatchEmbed")
    upright = network()
    stored = images(48, 64, batch=3)
    shapes = torch.tensor([[48, 64], [64, 48], [48, 64]])  # the second image is a portrait, stored lying on its side
    mixed = lying(stored, stored, shapes, shapes)
    for sample, portrait in enumerate([False, True, False]):
        image = stored[sample : sample + 1]
        alone = upright(*[image.transpose(2, 3) if portrait else image] * 2)
        for view in (0, 1):
            for name, expected in all_maps(alone, view).items():
                laid_down = expected.transpose(1, 2) if portrait else expected
                found = all_maps(mixed, view)[name][sample : sample + 1]
                torch.testing.assert_close(found, laid_down, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"output_mode": "pts3d"}, "output_mode 'pts3d'.*'pts3d.desc24'"),
        ({"output_mode": "pts3d+desc0"}, r"output_mode 'pts3d\+desc0'"),
        ({"output_mode": "pts3d+desc24+x"}, r"output_mode 'pts3d\+desc24\+x'"),
        ({"desc_mode": "raw"}, "desc_mode 'raw'.*unit length"),
        ({"depth_mode": ("cube", -math.inf, math.inf)}, "depth_mode 'cube'; known: exp, square, linear"),
        ({"depth_mode": ("exp", 0.0, math.inf)}, "depth_mode .*bounds"),
        ({"conf_mode": ("tanh", 1.0, math.inf)}, "conf_mode 'tanh'; known: exp, sigmoid"),
        ({"desc_conf_mode": ("tanh", 0.0, 1.0)}, "desc_conf_mode 'tanh'"),
        ({"desc_conf_mode": ("sigmoid", 0.0, math.inf)}, "desc_conf_mode .*finite for sigmoid"),
        ({"desc_conf_mode": ("exp", 3.0, 1.0)}, "below the highest"),
        ({"desc_conf_mode": "exp"}, "mode 'exp' is not .kind, lowest, highest."),
    ],
)
def test_modes_that_are_not_defined_are_named_when_the_head_is_made(options: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        small_head(**options)


@pytest.mark.parametrize("highest", [math.inf, "inf", "Infinity", None])
def test_the_descriptors_confidence_may_be_told_as_files_tell_it(highest: object) -> None:
    assert small_head(desc_conf_mode=["exp", 0, highest]).desc_conf_mode == ("exp", 0.0, math.inf)
