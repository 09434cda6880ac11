"""Cross-view completion computes what the published implementation computes, with rotary and with cosine positions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.completion_loss import CompletionLoss
from stereo4d.network.positions import cosine_positions
from stereo4d.network.weights.loading import empty_completion_network
from tests.golden_numbers import GOLDEN, as_input, drawn, load

POSITIONS = {"croco_rope": "RoPE100", "croco_cosine": "cosine"}
BUFFERS = {"enc_pos_embed", "dec_pos_embed"}
INVENTORY = GOLDEN / "state_dicts" / "CroCo_V2_ViTLarge_BaseDecoder.json"
LARGE = CompletionConfig(
    enc_embed_dim=1024, enc_depth=24, enc_num_heads=16, dec_embed_dim=768, dec_depth=12, dec_num_heads=12
)


def small(pos_embed: str) -> CompletionConfig:
    """The network that the goldens were computed with."""
    return CompletionConfig(
        img_size=(112, 112),
        enc_embed_dim=64,
        enc_depth=3,
        enc_num_heads=4,
        dec_embed_dim=48,
        dec_depth=4,
        dec_num_heads=4,
        pos_embed=pos_embed,
    )


def drawn_network(config: CompletionConfig) -> CompletionNetwork:
    network = CompletionNetwork(config)
    state = {
        name: value if name in BUFFERS else drawn(name, tuple(value.shape))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval()


@torch.no_grad()
def computed(network: CompletionNetwork, golden: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Every array of the golden file, ours, by its name."""
    image0, image1, hidden = as_input(golden["img1"]), as_input(golden["img2"]), torch.from_numpy(golden["mask"])
    seen: dict[str, list[Tensor]] = {"encode": [], "pos": []}
    network.enc_norm.register_forward_hook(lambda _module, _inputs, tokens: seen["encode"].append(tokens))
    memory = network.encode(image1)
    completion = network(image0, image1, hidden)
    visible = seen["encode"][1]
    kept = torch.stack([torch.nonzero(~row)[:, 0] for row in hidden])
    decoded = network.decode(network.encode(image0, kept), kept, memory)
    ours = {
        "mask": completion.hidden,
        "enc1": visible,
        "enc2": memory.tokens,
        "pos": memory.positions,
        "dec_blocks": torch.stack(decoded)[:, :1],
        "dec_last": decoded[-1],
        "pred": completion.prediction,
        "target_first_image": completion.target[:1],
    }
    for normalise in (0, 1):
        for masked in (0, 1):
            loss = CompletionLoss(normalise=bool(normalise), masked=bool(masked))
            ours[f"loss_norm{normalise}_masked{masked}"] = loss(completion)
    return ours | {name: value for name, value in network.state_dict().items() if name in BUFFERS}


@pytest.mark.parametrize("file", POSITIONS)
def test_every_stored_array_equals_the_reference(file: str) -> None:
    golden = load(file)
    ours = computed(drawn_network(small(POSITIONS[file])), golden)
    assert ours.keys() == set(golden) - {"img1", "img2"}
    exact = {"target_first_image", "pos", "mask"} | BUFFERS
    for name, value in ours.items():
        rtol, atol = (1e-6, 1e-7) if name in exact else (1e-5, 0 if name.startswith("loss") else 1e-5)
        np.testing.assert_allclose(value.numpy(), golden[name], rtol=rtol, atol=atol, err_msg=name)


def test_the_cosine_embedding_of_an_oblong_grid_equals_the_reference() -> None:
    golden = load("postprocess_and_sincos")
    rows, columns, dim = (int(golden[name]) for name in ("grid_h", "grid_w", "dim"))
    ours = cosine_positions(rows, columns, dim)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), golden["pos_embed"], rtol=1e-6, atol=1e-7)


def shapes_on_meta(config: CompletionConfig) -> dict[str, list[int]]:
    state = empty_completion_network(config).state_dict()
    assert all(value.is_meta for value in state.values())
    return {name: list(value.shape) for name, value in state.items()}


def test_keys_and_shapes_are_those_of_the_published_checkpoint() -> None:
    inventory = json.loads(Path(INVENTORY).read_text())
    ours = shapes_on_meta(LARGE)
    assert ours == inventory["shapes"]
    assert len(ours) == inventory["num_keys"] == 587
    assert sum(int(np.prod(shape)) for shape in ours.values()) == inventory["num_unique_parameters"]


def test_the_first_version_has_two_tables_of_positions_more() -> None:
    """Facts of its file: ViT-B encoder, small decoder, every option at its published default."""
    ours = shapes_on_meta(CompletionConfig.from_json({}))
    rotary = shapes_on_meta(CompletionConfig.from_json({"pos_embed": "RoPE100"}))
    assert {name: ours[name] for name in ours.keys() - rotary.keys()} == {
        "enc_pos_embed": [196, 768],
        "dec_pos_embed": [196, 512],
    }
    assert rotary.keys() <= ours.keys()
    assert ours["prediction_head.weight"] == [768, 512]
