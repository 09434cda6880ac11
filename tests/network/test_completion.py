"""What cross-view completion promises beyond numbers: masks, sizes, gradients, precision."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from stereo4d.errors import CheckpointError, ShapeError, UsageError
from stereo4d.network.completion import CompletionConfig
from stereo4d.network.completion_loss import CompletionLoss
from stereo4d.network.patches import draw_mask, patch_statistics, patchify, take, unpatchify, visible_places
from stereo4d.network.positions import resize_positions
from stereo4d.network.precision import Precision, choose
from tests.tiny_completion import OPTIONS, tiny

BOTH = pytest.mark.parametrize("positions", ["RoPE100", "cosine"])


def images(count: int, height: int = 64, width: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "ratio", "expected"), [(196, 0.9, 176), (49, 0.9, 44), (16, 0.0, 0), (7, 0.99, 6)])
def test_a_mask_hides_exactly_its_share_of_every_sample(count: int, ratio: float, expected: int) -> None:
    hidden = draw_mask(50, count, ratio, generator=torch.Generator().manual_seed(3))
    assert hidden.dtype == torch.bool
    assert hidden.sum(dim=1).unique().tolist() == [expected]


def test_a_mask_depends_on_its_seed_alone() -> None:
    first, again = (draw_mask(4, 196, 0.9, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw_mask(4, 196, 0.9, generator=torch.Generator().manual_seed(6)))
    assert len({tuple(row.tolist()) for row in first}) == 4, "every sample has a mask of its own"
    torch.manual_seed(7)
    assert not torch.equal(draw_mask(1, 196, 0.9), draw_mask(1, 196, 0.9)), "without a generator each draw is new"


def test_every_patch_is_hidden_equally_often_and_independently() -> None:
    draws = 20_000
    hidden = draw_mask(draws, 12, 0.5, generator=torch.Generator().manual_seed(0)).double()
    # five standard deviations of a binomial share
    assert (hidden.mean(0) - 0.5).abs().max() < 5 * (0.25 / draws) ** 0.5
    both = (hidden.T @ hidden) / draws
    pairs = both[~torch.eye(12, dtype=torch.bool)]
    chance = 0.5 * 5 / 11  # of two given patches out of 6 of 12
    assert (pairs - chance).abs().max() < 5 * (chance * (1 - chance) / draws) ** 0.5


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_mask_that_leaves_nothing_to_see_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="mask ratio"):
        draw_mask(1, 16, ratio)
    with pytest.raises(UsageError, match="mask_ratio"):
        CompletionConfig(mask_ratio=ratio)


def test_visible_places_are_in_raster_order() -> None:
    hidden = torch.tensor([[True, False, True, False], [False, True, True, False]])
    places = visible_places(hidden)
    assert places.tolist() == [[1, 3], [0, 3]]
    values = torch.arange(8.0).view(2, 4, 1)
    assert take(values, places)[..., 0].tolist() == [[1, 3], [4, 7]]


def test_patches_are_flattened_by_row_column_channel_and_back() -> None:
    values = images(2, 32, 48)
    patches = patchify(values, 16)
    assert patches.shape == (2, 6, 768)
    row, column, channel = 5, 9, 2
    assert patches[1, 4, (row * 16 + column) * 3 + channel] == values[1, channel, 16 + row, 16 + column]
    assert torch.equal(unpatchify(patches, (32, 48), 16), values)
    with pytest.raises(ShapeError, match="do not make up images of 48x48"):
        unpatchify(patches, (48, 48), 16)


@BOTH
def test_hidden_patches_are_never_seen(positions: str) -> None:
    network = tiny(positions)
    image0, image1 = images(2), images(2, seed=2)
    hidden = draw_mask(2, 16, 0.75, generator=torch.Generator().manual_seed(0))
    other = unpatchify(torch.where(hidden[..., None], 9.0, patchify(image0, 16)), (64, 64), 16)
    with torch.no_grad():
        first, second = network(image0, image1, hidden), network(other, image1, hidden)
    assert torch.equal(first.prediction, second.prediction)
    assert torch.equal(first.target[~hidden], second.target[~hidden])
    assert (second.target[hidden] == 9).all()
    assert torch.equal(first.hidden, hidden)


@BOTH
def test_where_a_visible_patch_stands_matters(positions: str) -> None:
    """The same patch content at another place, nothing else visible: predictions differ only by positions."""
    network = tiny(positions)
    image = images(1, 16, 16).repeat(1, 1, 4, 4)  # every patch is equal
    hidden = torch.ones(2, 16, dtype=torch.bool)
    hidden[0, 0] = hidden[1, 10] = False
    with torch.no_grad():
        found = network(image.repeat(2, 1, 1, 1), images(1, seed=2).repeat(2, 1, 1, 1), hidden).prediction
    assert (found[0] - found[1]).abs().max() > 1e-4


@BOTH
def test_gradients_reach_every_parameter(positions: str) -> None:
    network = tiny(positions)
    CompletionLoss()(network(images(2), images(2, seed=2))).backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []
    assert not any(buffer.requires_grad for buffer in network.buffers())


@pytest.mark.parametrize("which", [0, 1])
def test_both_images_reach_the_prediction_through_the_encoder(which: int) -> None:
    network = tiny()
    pair = [images(1).requires_grad_(which == 0), images(1, seed=2).requires_grad_(which == 1)]
    network(*pair).prediction.square().sum().backward()
    gradient = pair[which].grad
    assert gradient is not None
    reached = patchify(gradient, 16).abs().sum(-1) > 0
    assert reached.sum() == (4, 16)[which], "four visible patches of image 0, and all of image 1"


def test_a_few_steps_of_training_lower_the_loss() -> None:
    network = tiny().train()
    image = images(1)
    hidden = draw_mask(1, 16, 0.75, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = CompletionLoss()(network(image, image, hidden))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_is_zero_for_the_truth_and_counts_hidden_patches_only() -> None:
    network = tiny()
    with torch.no_grad():
        completion = network(images(2), images(2, seed=2))
    mean, deviation = completion.target.mean(-1, keepdim=True), completion.target.std(-1, keepdim=True)
    truth = (completion.target - mean) / (deviation**2 + 1e-6).sqrt()
    spoilt = torch.where(completion.hidden[..., None], truth, 99.0)
    perfect = completion.__class__(spoilt, completion.hidden, completion.target, completion.image_size)
    assert CompletionLoss()(perfect).item() == pytest.approx(0, abs=1e-10)
    assert CompletionLoss(masked=False)(perfect) > 1000
    nothing = completion.__class__(spoilt, torch.zeros_like(completion.hidden), completion.target, (64, 64))
    assert CompletionLoss()(nothing).item() == 0


def test_patches_of_one_colour_have_a_deviation_and_a_finite_loss() -> None:
    mean, deviation = patch_statistics(torch.full((1, 1, 768), 0.25))
    assert mean.item() == 0.25
    assert deviation.item() == pytest.approx(1e-3)
    network = tiny()
    assert CompletionLoss()(network(torch.zeros(1, 3, 64, 64), images(1))).isfinite()


def test_rotary_networks_take_images_of_any_size_and_of_two_sizes() -> None:
    network = tiny()
    with torch.no_grad():
        completion = network(images(2, 48, 80), images(2, 64, 32))
    assert completion.prediction.shape == completion.target.shape == (2, 15, 768)
    assert completion.hidden.sum(1).tolist() == [11, 11]
    assert completion.image_size == (48, 80)


def test_cosine_networks_refuse_other_sizes_until_their_positions_are_resized() -> None:
    network = tiny("cosine")
    with pytest.raises(ShapeError, match=r"48x80 .*positions are made for 64x64.*resize_positions"):
        network(images(1, 48, 80), images(1, 48, 80))
    with pytest.raises(ShapeError, match="positions are made for 64x64"):
        network(images(1), images(1, 48, 80))
    network.resize_positions((48, 80))
    assert network.config.img_size == (48, 80)
    assert network.state_dict()["enc_pos_embed"].shape == (15, 16)
    assert network.state_dict()["dec_pos_embed"].shape == (15, 24)
    assert network(images(1, 48, 80), images(1, 48, 80)).prediction.shape == (1, 15, 768)
    with pytest.raises(ShapeError, match=r"64x64 .*positions are made for 48x80"):
        network(images(1), images(1))


def test_resized_positions_are_those_of_another_bicubic_resampler() -> None:
    table = torch.randn(6 * 8, 4, generator=torch.Generator().manual_seed(0))
    theirs = cv2.resize(table.view(6, 8, 4).numpy(), (13, 9), interpolation=cv2.INTER_CUBIC)
    ours = resize_positions(table, (6, 8), (9, 13)).view(9, 13, 4)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)
    assert resize_positions(table, (6, 8), (6, 8)) is table


def test_inputs_that_do_not_fit_are_refused_with_the_way_out() -> None:
    network = tiny()
    with pytest.raises(ShapeError, match=r"must be \(B, 3, H, W\)"):
        network(images(1)[0], images(1))
    with pytest.raises(ShapeError, match="multiples of the patch size 16"):
        network(images(1, 60, 64), images(1))
    with pytest.raises(ShapeError, match="do not pair up"):
        network(images(2), images(3))
    with pytest.raises(ShapeError, match=r"must be \(images, patches\), here \(1, 16\)"):
        network(images(1), images(1), torch.zeros(1, 9, dtype=torch.bool))
    with pytest.raises(ShapeError, match="booleans"):
        network(images(1), images(1), torch.zeros(1, 16))
    with pytest.raises(ShapeError, match="equally many, at least one"):
        network(images(1), images(1), torch.ones(1, 16, dtype=torch.bool))
    uneven = torch.zeros(2, 16, dtype=torch.bool)
    uneven[0, 0] = True
    with pytest.raises(ShapeError, match="show 15, 16 of 16 patches"):
        network(images(2), images(2), uneven)


def test_options_are_read_as_published_files_have_them() -> None:
    published = CompletionConfig.from_json({})
    assert (published.pos_embed, published.img_size, published.mask_ratio) == ("cosine", (224, 224), 0.9)
    config = CompletionConfig.from_json({**OPTIONS, "pos_embed": "RoPE100"})
    assert config.img_size == (64, 64)
    assert CompletionConfig.from_json(config.to_json()) == config
    with pytest.raises(CheckpointError, match=r"no options head_type; it has: .*mask_ratio"):
        CompletionConfig.from_json({"head_type": "linear"})
    for positions in ("sinusoid", "RoPE", "RoPEx"):
        with pytest.raises(UsageError, match="'cosine' positions, or rotary"):
            CompletionConfig.from_json({"pos_embed": positions})
    with pytest.raises(UsageError, match="img_size"):
        CompletionConfig(img_size=(224,))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="multiple of 4"):
        tiny("cosine", enc_embed_dim=18)


def test_weights_start_as_croco_does() -> None:
    network = tiny()

    def bound(values: Tensor) -> float:
        return values.abs().max().item()

    assert 0.98 * (6 / (24 + 768)) ** 0.5 < bound(network.prediction_head.weight) <= (6 / (24 + 768)) ** 0.5
    assert bound(network.prediction_head.bias) == 0
    assert 0 < bound(network.mask_token) < 0.12


@BOTH
def test_reduced_precision_stays_near_and_gives_float32(positions: str) -> None:
    network = tiny(positions)
    hidden = draw_mask(1, 16, 0.75, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = network(images(1), images(1, seed=2), hidden).prediction
        network.precision = choose("bf16", torch.device("cpu"))
        reduced = network(images(1), images(1, seed=2), hidden).prediction
        network.precision = Precision(full=True)
        with torch.autocast("cpu", torch.bfloat16):
            still = network(images(1), images(1, seed=2), hidden).prediction
    assert reduced.dtype == torch.float32
    assert 0 < (reduced - exact).abs().max() < 0.05 * exact.abs().max()
    assert torch.equal(still, exact), "exact means exact, whatever the caller's autocast says"


def test_a_network_without_storage_is_made_without_importing_the_compiler() -> None:
    """Arithmetic on the meta device imports it, which takes seconds at every load."""
    code = (
        "import sys; from stereo4d.network.completion import CompletionConfig; "
        "from stereo4d.network.weights.loading import empty_completion_network; "
        "empty_completion_network(CompletionConfig.from_json({'enc_depth': 1})); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
