"""The term that teaches cross-attention where to look."""

from dataclasses import replace

import pytest
import torch

from stereo4d.network.stereo import StereoNetwork
from stereo4d.training.matching import attention_loss, attention_targets, record_cross_attention
from tests.tiny_weights import CONFIG

TINY = replace(CONFIG, img_size=(32, 48), dec_depth=2)


def pixels(height: int, width: int) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return torch.stack([u, v], -1)[None]


def test_a_view_of_itself_looks_at_the_same_patch():
    targets = attention_targets(pixels(32, 48), 16)
    assert targets.shape == (1, 6, 6)
    assert torch.equal(targets[0].argmax(-1), torch.arange(6))
    torch.testing.assert_close(targets.sum(-1), torch.ones(1, 6))


def test_a_shift_by_one_patch_points_to_the_neighbour_and_what_leaves_the_image_has_no_target():
    shifted = pixels(32, 48) + torch.tensor([16.0, 0.0])
    shifted[shifted[..., 0] > 47] = torch.nan
    targets = attention_targets(shifted, 16)[0]
    assert targets.argmax(-1)[[0, 1, 3, 4]].tolist() == [1, 2, 4, 5]
    assert targets[[2, 5]].sum() == 0


def test_recorded_logits_are_those_of_the_pass_and_the_loss_reaches_both_views():
    torch.manual_seed(0)
    network = StereoNetwork(TINY)
    image0, image1 = torch.randn(2, 1, 3, 32, 48)
    with record_cross_attention(network) as (records0, records1):
        encoded0, encoded1 = network.encode(image0), network.encode(image1)
        network.predict_encoded(encoded0, encoded1)
    assert len(records0) == len(records1) == 2
    expected = network.dec_blocks[0].cross_logits(
        network.decoder_embed(encoded0.tokens),
        network.decoder_embed(encoded1.tokens),
        encoded0.positions,
        encoded1.positions,
    )
    first = records0[0]
    logits = first.module.logits(first.query_tokens, first.memory, encoded0.positions, encoded1.positions)
    torch.testing.assert_close(logits, expected)
    taught = first.module.logits(first.query_tokens, first.memory, encoded0.positions, encoded1.positions, first=1)
    torch.testing.assert_close(taught, expected[:, :1])
    loss, hit = attention_loss(records0, encoded0.positions, attention_targets(pixels(32, 48), 16))
    loss.backward()
    assert 0 <= float(hit) <= 1
    assert network.patch_embed.proj.weight.grad.abs().sum() > 0
    assert network.downstream_head1.proj.weight.grad is None


def test_nothing_is_recorded_outside_the_block():
    network = StereoNetwork(TINY)
    with record_cross_attention(network) as (records0, _):
        pass
    network(*torch.randn(2, 1, 3, 32, 48))
    assert records0 == []


def test_attention_that_looks_right_costs_less():
    torch.manual_seed(0)
    network = StereoNetwork(TINY)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    image = torch.randn(2, 3, 32, 48)
    targets = attention_targets(pixels(32, 48), 16).expand(2, -1, -1)
    losses = []
    for _ in range(30):
        with record_cross_attention(network) as (records0, _):
            encoded = network.encode(image)
            network.predict_encoded(encoded, encoded)
        loss, hit = attention_loss(records0, encoded.positions, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert float(hit) == pytest.approx(1.0)
