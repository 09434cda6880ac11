"""The motion head: DynaDUSt3R's layout, its time embedding, and what it promises about times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from stereo4d_heads.motion import MotionHead
from stereo4d_heads.time_conditioning import AdaptiveNorm, AddedTime, TimeEmbedding
from torch import Tensor

from stereo4d.errors import ShapeError, UsageError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.head import BackboneDims
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import empty_network, load_model, save_model
from tests.golden_numbers import GOLDEN, drawn_network, load, small_config

DIMS = BackboneDims(patch_size=16, encoder_dim=12, decoder_dim=8, decoder_depth=4)
NARROW = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}


def head(**options: object) -> MotionHead:
    """A head that is past its first step: what starts at zero is not any more."""
    torch.manual_seed(0)
    motion = MotionHead(DIMS, embed_dim=16, **{**NARROW, **options})  # type: ignore[arg-type]
    for parameter in motion.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return motion


def tokens(batch: int, rows: int, columns: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(batch, rows * columns, width, generator=draw) for width in (12, 8, 8, 8, 8)]


def moving_network(**more: object) -> StereoNetwork:
    choice = HeadChoice("motion", {"embed_dim": 16, **NARROW, **more})
    return drawn_network(small_config("dpt", head_options=NARROW, heads={"motion": choice}))


@pytest.mark.parametrize("dim", [128, 256])
def test_the_time_embedding_equals_the_stored_numbers(dim: int) -> None:
    golden = load("dyna")
    embedded = TimeEmbedding(dim)(torch.from_numpy(golden["temb_t"]))
    np.testing.assert_allclose(embedded.numpy(), golden[f"temb_cos_sin_{dim}"], rtol=0, atol=1e-12)


def test_the_layout_is_that_of_the_unofficial_weights() -> None:
    network = empty_network(
        StereoConfig(
            enc_embed_dim=1024,
            enc_depth=24,
            enc_num_heads=16,
            dec_embed_dim=768,
            dec_depth=12,
            dec_num_heads=12,
            head_type="dpt",
            heads={"motion": HeadChoice("motion", {"embed_dim": 256})},
        )
    )
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    inventory = json.loads((GOLDEN / "state_dicts" / "DUSt3R_ViTLarge_BaseDecoder_512_dpt.json").read_text())["shapes"]
    static = {key: tuple(shape) for key, shape in inventory.items() if ".layer_rn." not in key}
    twins = {
        key.replace("downstream_", "motion_"): shape for key, shape in static.items() if key.startswith("downstream_")
    }
    times = {}
    for view in (1, 2):
        for level in range(4):
            place = f"motion_head{view}.dpt.linear_projections.{level}"
            times |= {f"{place}.0.weight": (256, 256), f"{place}.0.bias": (256,)}
            times |= {f"{place}.2.weight": (256, 256), f"{place}.2.bias": (256,)}
    assert shapes == static | twins | times


def test_nothing_moves_at_first_and_time_says_nothing_yet() -> None:
    motion = MotionHead(DIMS, embed_dim=16, **NARROW)  # type: ignore[arg-type]
    found = motion(tokens(1, 3, 2), (48, 32), torch.tensor([[0.0, 0.7]]))
    assert (found["displacement"] == 0).all()
    assert torch.equal(found["confidence"][:, 0], found["confidence"][:, 1])
    assert found["confidence"].std() > 0


@pytest.mark.parametrize("conditioning", ["added", "adaptive", "none"])
def test_every_conditioning_gives_a_map_per_time(conditioning: str) -> None:
    motion, entries = head(conditioning=conditioning), tokens(2, 3, 2)
    times = torch.tensor([[0.1, 0.9], [0.4, 0.5]])
    together = motion(entries, (48, 32), times)["displacement"]
    assert together.shape == (2, 2, 48, 32, 3)
    alone = motion([entry[1:] for entry in entries], (48, 32), times[1:, 1:])["displacement"]
    torch.testing.assert_close(together[1, 1], alone[0, 0], rtol=1e-4, atol=1e-5)
    assert torch.equal(together[:, 0], together[:, 1]) == (conditioning == "none")


def test_adaptive_norm_with_a_closed_gate_changes_nothing() -> None:
    adaptive = AdaptiveNorm(8, 3, 1)
    maps = torch.rand(2, 3, 4, 5)
    assert torch.equal(adaptive.condition([maps], torch.rand(2, 1, 8))[0], maps)


def test_several_times_at_once_are_the_times_one_by_one() -> None:
    motion, entries = head(), tokens(2, 3, 5)
    times = torch.tensor([[0.0, 0.3, 1.0], [0.5, 0.25, 0.75]])
    together = motion(entries, (48, 80), times)
    assert together["displacement"].shape == (2, 3, 48, 80, 3)
    assert together["confidence"].shape == (2, 3, 48, 80)
    for slot in range(3):
        alone = motion(entries, (48, 80), times[:, slot : slot + 1])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][:, slot], value[:, 0], rtol=1e-4, atol=1e-4)
    assert (together["displacement"][:, 0] - together["displacement"][:, 1]).abs().max() > 1e-4


def test_levels_are_made_once_for_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    motion, calls = head(), []
    original = motion.dpt.levels
    monkeypatch.setattr(motion.dpt, "levels", lambda *given: calls.append(1) or original(*given))
    motion(tokens(1, 2, 3), (32, 48), torch.rand(1, 5))
    assert len(calls) == 1


def test_a_time_vector_of_zero_leaves_the_dpt_as_it_is() -> None:
    motion, entries = head(), tokens(1, 3, 2)
    for project in motion.dpt.linear_projections:
        torch.nn.init.zeros_(project[-1].weight)
        torch.nn.init.zeros_(project[-1].bias)
    found = motion(entries, (48, 32), torch.tensor([[0.4]]))
    raw = motion.dpt(entries, (48, 32)).movedim(1, -1)
    torch.testing.assert_close(found["displacement"][:, 0], raw[..., :3])
    torch.testing.assert_close(found["confidence"][:, 0], 1 + raw[..., 3].exp())


def test_time_reaches_every_level_as_one_vector_for_the_whole_map() -> None:
    added = AddedTime(8, 3, 2)
    for parameter in added.parameters():
        torch.nn.init.normal_(parameter)
    levels = [torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 2, 3)]
    embedding = torch.rand(2, 6, 8)
    for level, (maps, project) in enumerate(zip(added.condition(levels, embedding), added, strict=True)):
        assert maps.shape == (12, 3, *levels[level].shape[2:])
        assert torch.equal(maps[:, :, 0, 0], project(embedding).flatten(0, 1))
        assert (maps == maps[:, :, :1, :1]).all()


def test_motion_stands_beside_the_pointmaps_and_costs_nothing_when_not_asked_for() -> None:
    network = moving_network()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        asked = network(images, images.flip(0), times=torch.tensor([[0.0, 0.5], [0.25, 1.0]]))
        plain = network(images, images.flip(0))
    assert plain.extras == {}
    assert torch.equal(asked.pointmap1, plain.pointmap1)
    shapes = {name: tuple(value.shape) for name, value in asked.extras["motion"].items()}
    assert shapes == {
        "displacement0": (2, 2, 64, 96, 3),
        "confidence0": (2, 2, 64, 96),
        "displacement1": (2, 2, 64, 96, 3),
        "confidence1": (2, 2, 64, 96),
    }


def test_mixed_orientations_give_motion_as_each_image_alone_does() -> None:
    options = {"patch_embed_cls": "ManyAR_PatchEmbed", "landscape_only": True}
    choice = HeadChoice("motion", {"embed_dim": 16, **NARROW})
    mixed = drawn_network(small_config("dpt", head_options=NARROW, heads={"motion": choice}, **options))
    upright = moving_network()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 2 - 1
    shapes = torch.tensor([[64, 96], [96, 64]])
    times = torch.tensor([[0.2], [0.9]])
    with torch.no_grad():
        together = mixed(images, images, shapes, shapes, times=times).extras["motion"]
        standing = images[1:].transpose(-1, -2)
        alone = upright(standing, standing, times=times[1:]).extras["motion"]
    for name in ("displacement0", "confidence1"):
        torch.testing.assert_close(together[name][1], alone[name][0].transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("times", "error", "reason"),
    [
        ([[1.5]], UsageError, r"must lie in \[0, 1\]"),
        ([[-0.1]], UsageError, r"must lie in \[0, 1\]"),
        ([[float("nan")]], UsageError, r"must lie in \[0, 1\]"),
        ([0.5], ShapeError, r"\(pairs, times\)"),
        ([[0.5], [0.5]], ShapeError, r"here \(1, times\)"),
    ],
)
def test_times_that_mean_nothing_are_refused(times: list, error: type[Exception], reason: str) -> None:
    images = torch.zeros(1, 3, 32, 48)
    with pytest.raises(error, match=reason):
        moving_network()(images, images, times=torch.tensor(times))


def test_a_network_without_motion_says_so_when_asked_for_times() -> None:
    images = torch.zeros(1, 3, 32, 48)
    with pytest.raises(UsageError, match="no head that takes them"):
        drawn_network(small_config("linear"))(images, images, times=torch.tensor([[0.5]]))


def test_modes_survive_a_file(tmp_path: Path) -> None:
    network = moving_network(motion_mode=("exp", float("-inf"), float("inf")))
    save_model(network, tmp_path)
    back = load_model(tmp_path)
    images = torch.rand(1, 3, 32, 48)
    times = torch.tensor([[0.5]])
    with torch.no_grad():
        ours, theirs = (net(images, images, times=times).extras["motion"] for net in (network, back))
    torch.testing.assert_close(ours["displacement0"], theirs["displacement0"])
    assert back.motion_head1.motion_mode == ("exp", float("-inf"), float("inf"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"embed_dim": 7}, "even"),
        ({"conditioning": "loud"}, "there are added, adaptive, none"),
        ({"motion_mode": "exp"}, "kind, lowest, highest"),
        ({"flavour": 1}, "flavour"),
    ],
)
def test_options_that_make_no_motion_head_are_named(options: dict, reason: str) -> None:
    choice = HeadChoice("motion", {**NARROW, **options})
    with pytest.raises(UsageError, match=reason):
        StereoNetwork(small_config("dpt", head_options=NARROW, heads={"motion": choice}))


@pytest.mark.parametrize("name", ["enc norm", "downstream", ""])
def test_a_name_that_is_taken_or_no_name_is_refused(name: str) -> None:
    config = small_config("linear", heads={name: HeadChoice("linear")})
    with pytest.raises(UsageError, match="cannot be named"):
        StereoNetwork(config)


def test_a_head_that_takes_times_cannot_be_the_main_one() -> None:
    with pytest.raises(UsageError, match="takes query times"):
        StereoNetwork(small_config("motion"))
