from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stereo4d_heads.activation import confidence_from_raw, points_from_raw
from stereo4d_heads.dpt import Dpt, FusionBlock, double
from stereo4d_heads.pointmap_dpt import DptPointmapHead
from stereo4d_heads.pointmap_linear import LinearPointmapHead
from torch import Tensor

from stereo4d import registry
from stereo4d.errors import UsageError
from stereo4d.network.head import BackboneDims, Head

DIMS = BackboneDims(patch_size=16, encoder_dim=16, decoder_dim=24, decoder_depth=4)


def tokens(rows: int, columns: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = [DIMS.encoder_dim] + [DIMS.decoder_dim] * DIMS.decoder_depth
    return [torch.randn(batch, rows * columns, width, generator=generator) for width in widths]


def small_dpt() -> DptPointmapHead:
    torch.manual_seed(0)
    return DptPointmapHead(DIMS, feature_dim=16, last_dim=8, layer_dims=[4, 8, 8, 8])


def test_the_shipped_heads_are_found_by_entry_point() -> None:
    assert registry.load("stereo4d.heads", "linear") is LinearPointmapHead
    assert registry.load("stereo4d.heads", "dpt") is DptPointmapHead


@pytest.mark.parametrize("head", [LinearPointmapHead(DIMS), small_dpt()], ids=["linear", "dpt"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (4, 2)])
def test_any_token_grid_becomes_an_image(head: Head, rows: int, columns: int) -> None:
    maps = head(tokens(rows, columns), (16 * rows, 16 * columns))
    assert maps["pointmap"].shape == (2, 16 * rows, 16 * columns, 3)
    assert maps["confidence"].shape == (2, 16 * rows, 16 * columns)
    assert (maps["confidence"] > 1).all()


def test_a_token_of_the_linear_head_writes_its_own_patch_only() -> None:
    head, lists = LinearPointmapHead(DIMS), tokens(2, 3)
    before = head(lists, (32, 48))["pointmap"]
    lists[-1] = lists[-1].clone()
    lists[-1][:, 4] += 1  # second row, second column
    changed = (head(lists, (32, 48))["pointmap"] != before).any(-1)
    assert changed[:, 16:, 16:32].all()
    changed[:, 16:, 16:32] = False
    assert not changed.any()


def test_the_unused_unit_of_the_dpt_head_wants_no_gradient_and_all_else_learns() -> None:
    head = small_dpt()
    maps = head(tokens(2, 3), (32, 48))
    (maps["pointmap"].square().sum() + maps["confidence"].sum()).backward()
    idle = {name for name, value in head.named_parameters() if value.grad is None}
    assert idle == {name for name, _ in head.named_parameters() if "refinenet4.resConfUnit1" in name}
    assert all(value.requires_grad == (name not in idle) for name, value in head.named_parameters())


def test_convolving_before_upsampling_changes_nothing() -> None:
    block = FusionBlock(8, has_skip=True)
    path, skip = torch.randn(2, 1, 8, 5, 7).unbind()
    after = block.out_conv(double(block.resConfUnit2(path + block.resConfUnit1(skip))))
    torch.testing.assert_close(block(path, skip), after, rtol=1e-5, atol=1e-5)


def test_deeper_decoders_are_tapped_at_their_halves_and_quarters() -> None:
    assert Dpt(replace(DIMS, decoder_depth=12), channels=4, layer_dims=[4, 4, 4, 4]).hooks == (0, 6, 9, 12)


def test_a_vanishing_vector_gives_a_point_at_the_camera_and_clean_gradients() -> None:
    raw = torch.zeros(1, 3, requires_grad=True)
    points = points_from_raw(raw)
    points.sum().backward()
    assert (points == 0).all()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_modes_that_are_not_defined_are_named() -> None:
    with pytest.raises(UsageError, match="cube"):
        points_from_raw(torch.ones(3), ("cube", -float("inf"), float("inf")))
    with pytest.raises(UsageError, match="bounds"):
        points_from_raw(torch.ones(3), ("exp", 0.0, 3.0))
    with pytest.raises(UsageError, match="tanh"):
        confidence_from_raw(torch.ones(3), ("tanh", 0.0, 3.0))
    with pytest.raises(UsageError, match="four widths"):
        DptPointmapHead(DIMS, layer_dims=[4, 4, 4])
