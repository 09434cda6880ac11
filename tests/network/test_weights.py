"""Official-format files of a small network: read safely, built strictly, refused clearly."""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stereo4d.errors import CheckpointError, UnsafeCheckpointError
from stereo4d.network.stereo import StereoConfig
from stereo4d.network.weights import build, empty_network, inspect, load_model, read_checkpoint, resolve, save_model
from stereo4d.network.weights.constructor import parse_constructor
from tests.golden_numbers import GOLDEN, as_input, assert_close, drawn_network, load, small_config
from tests.official_files import constructor_text, write_folder, write_pth

Writer = Callable[..., Path]
BOTH = pytest.mark.parametrize("write", [write_pth, write_folder], ids=["pth", "folder"])


@BOTH
@pytest.mark.parametrize("head", ["linear", "dpt"])
def test_an_official_format_file_computes_the_reference_numbers(write: Writer, head: str, tmp_path: Path) -> None:
    golden = load(f"dust3r_{head}")
    network = load_model(write(tmp_path, small_config(head)))
    assert not network.training
    with torch.no_grad():
        prediction = network(as_input(golden["landscape/img1"]), as_input(golden["landscape/img2"]))
    assert_close(prediction.pointmap0, golden["landscape/pred1_pts3d"], "pointmap")
    assert_close(prediction.pointmap1, golden["landscape/pred2_pts3d_in_other_view"], "pointmap")
    assert_close(prediction.confidence1, golden["landscape/pred2_conf"], "confidence")


@BOTH
def test_a_file_with_a_descriptor_head_computes_the_reference_numbers(write: Writer, tmp_path: Path) -> None:
    golden = load("mast3r_catmlpdpt")
    options = {"two_confs": True, "desc_mode": "norm", "desc_conf_mode": ("exp", 0, float("inf"))}
    path = write(tmp_path, small_config("catmlp+dpt", output_mode="pts3d+desc24", head_options=options))
    assert inspect(path).family == "MASt3R"
    network = load_model(path)
    save_model(network, tmp_path / "ours")
    for loaded in (network, load_model(tmp_path / "ours")):
        with torch.no_grad():
            prediction = loaded(as_input(golden["landscape/img1"]), as_input(golden["landscape/img2"]))
        maps = prediction.extras["descriptors"]
        assert_close(prediction.pointmap1, golden["landscape/pred2_pts3d_in_other_view"], "pointmap")
        assert_close(maps["descriptors1"], golden["landscape/pred2_desc"], "confidence")
        assert_close(maps["descriptor_confidence0"], golden["landscape/pred1_desc_conf"], "confidence")


@BOTH
def test_a_file_that_wants_landscape_storage_still_takes_portrait_images(write: Writer, tmp_path: Path) -> None:
    config = small_config("linear", patch_embed_cls="ManyAR_PatchEmbed", landscape_only=True, freeze="encoder")
    golden = load("dust3r_linear")
    network = load_model(write(tmp_path, config))
    with torch.no_grad():
        prediction = network(as_input(golden["portrait/img1"]), as_input(golden["portrait/img2"]))
    assert_close(prediction.pointmap0, golden["portrait/pred1_pts3d"], "pointmap")


@pytest.mark.parametrize("name", ["dust3r_512_dpt", "monst3r_512_dpt"])
def test_published_config_files_build_networks_with_the_published_keys(name: str, tmp_path: Path) -> None:
    official = {"dust3r_512_dpt": "DUSt3R_ViTLarge_BaseDecoder_512_dpt", "monst3r_512_dpt": "MonST3R_PO-TA-S-W"}[name]
    inventory = json.loads(next((GOLDEN / "state_dicts").glob(f"{official}*")).read_text())["shapes"]
    options = json.loads((GOLDEN / f"hf_config_{name}.json").read_text())
    config = replace(StereoConfig.from_json(options), freeze="none")
    network = empty_network(config)
    aliases = {key for key in inventory if ".layer_rn." in key}
    assert len(aliases) == 8
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert ours == {key: shape for key, shape in inventory.items() if key not in aliases}


@pytest.mark.parametrize("path", sorted((GOLDEN / "state_dicts").glob("[DM]*.json")), ids=lambda path: path.stem)
def test_constructor_strings_build_networks_with_the_published_keys(path: Path) -> None:
    inventory = json.loads(path.read_text())
    name, head = "AsymmetricCroCo3DStereo", "head_type='linear', output_mode='pts3d'"
    if "catmlpdpt" in path.stem:
        name, head = "AsymmetricMASt3R", "head_type='catmlp+dpt', output_mode='pts3d+desc24', two_confs=True"
    elif "dpt" in path.stem:
        head = "head_type='dpt', output_mode='pts3d'"
    text = (
        f"{name}(pos_embed='RoPE100',     patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), "
        f"{head}, depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), "
        "enc_embed_dim=1024, enc_depth=24, enc_num_heads=16, dec_embed_dim=768, dec_depth=12, dec_num_heads=12)"
    )
    found, options = parse_constructor(text)
    assert found == name
    network = empty_network(StereoConfig.from_json(options))
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert ours == {key: shape for key, shape in inventory["shapes"].items() if ".layer_rn." not in key}
    assert sum(value.numel() for value in network.state_dict().values()) == inventory["num_unique_parameters"]


@pytest.mark.parametrize("unbounded", [float("inf"), "inf", "Infinity", None])
def test_infinities_may_be_written_in_every_way_that_is_found(unbounded: object, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    options = json.loads((folder / "config.json").read_text())
    options["conf_mode"] = ["exp", 1, unbounded]
    (folder / "config.json").write_text(json.dumps(options))
    assert load_model(folder).config.conf_mode == ("exp", 1.0, float("inf"))


def test_a_checkpoint_may_carry_training_state_that_is_ignored(tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("linear"), epoch=7, best_so_far=0.25, scaler={"scale": 2.0}, optimizer={})
    load_model(path)


class Evil:
    def __reduce__(self) -> tuple:
        return (pathlib.Path.touch, (pathlib.Path(Evil.target),))

    target = ""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare-pickle"])
def test_a_malicious_pickle_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    Evil.target = str(tmp_path / "executed")
    path = tmp_path / "evil.pth"
    if zipped:
        torch.save({"model": {}, "args": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": {}, "args": Evil()}, protocol=2))
    with pytest.raises(UnsafeCheckpointError, match=r"evil\.pth asks for .*getattr"):
        load_model(path)
    assert not Path(Evil.target).exists()
    torch.load(path, weights_only=False) if zipped else pickle.loads(path.read_bytes())
    assert Path(Evil.target).exists()  # the file is what it claims to be


def test_a_class_that_is_not_allowed_is_named_and_can_be_allowed(tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("linear"), extra=Trinket(3))
    with pytest.raises(UnsafeCheckpointError, match="Trinket"):
        load_model(path)
    load_model(path, allow=[Trinket])
    with pytest.raises(UnsafeCheckpointError, match="Trinket"):  # allowed for one call only
        load_model(path)


class Trinket:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "AsymmetricCroCo3DStereo(img_size=__import__('os').getpid())",
        "AsymmetricCroCo3DStereo(**{'img_size': 3})",
        "AsymmetricCroCo3DStereo(512)",
        "AsymmetricCroCo3DStereo(img_size=[x for x in (1, 2)])",
        "AsymmetricCroCo3DStereo(head_type=f'{1}')",
        "AsymmetricCroCo3DStereo(head_type=b'dpt')",
        "AsymmetricCroCo3DStereo(img_size=nan)",
        "AsymmetricCroCo3DStereo(img_size=-'a')",
        "os.AsymmetricCroCo3DStereo()",
        "SomethingElse(img_size=3)",
        "AsymmetricCroCo3DStereo(",
        "(" * 5000,
        "",
    ],
)
def test_constructor_strings_hold_plain_options_only(text: str) -> None:
    with pytest.raises(UnsafeCheckpointError, match="not run"):
        parse_constructor(text)


def test_a_constructor_string_that_is_code_is_refused_by_file_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {}, "args": argparse.Namespace(model="print('hello')")}, path)
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pth.*print"):
        load_model(path)


def test_missing_unexpected_and_misshapen_keys_are_named_by_group(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    state = load_file(folder / "model.safetensors")
    state = {key: value.clone() for key, value in state.items() if not key.startswith("dec_blocks2.1.")}
    state["surprise.weight"] = torch.zeros(2)
    state["decoder_embed.weight"] = torch.zeros(48, 63)
    state["enc_norm.bias"] = torch.zeros(64, dtype=torch.int32)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as refused:
        load_model(folder)
    text = str(refused.value)
    assert str(folder / "model.safetensors") in text
    assert "missing dec_blocks2 (24: dec_blocks2.1.norm1.weight" in text
    assert "unexpected surprise (1: surprise.weight)" in text
    assert "decoder_embed.weight is (48, 63), the network needs (48, 64)" in text
    assert "enc_norm.bias is torch.int32" in text


def test_aliases_that_disagree_are_refused(tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("dpt"))
    content = torch.load(path, weights_only=False)
    content["model"]["downstream_head1.dpt.scratch.layer_rn.2.weight"] = torch.zeros(256, 384, 3, 3)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"layer_rn\.2\.weight and .*layer3_rn\.weight"):
        load_model(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, I am no checkpoint", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_what_is_no_checkpoint_is_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"weights\\{suffix}"):
        load_model(path)


@BOTH
def test_a_truncated_file_is_named(write: Writer, tmp_path: Path) -> None:
    path = resolve(write(tmp_path, small_config("linear")))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match=path.name):
        load_model(path)


def test_places_without_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such weights file"):
        load_model(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)
    folder = write_folder(tmp_path, small_config("linear"))
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"its tensors do not tell"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "blue"}, "unknown network options colour"),
        ({"head_type": "nose"}, "'nose' is not an installed entry point"),
        ({"pos_embed": "cosine"}, "needs rotary positions"),
        ({"patch_embed_cls": "Puzzle"}, None),  # replaced for inference: only the parameters matter
        ({"enc_num_heads": 7}, "multiple of 4"),
        ({"conf_mode": "exp"}, "not .kind, lowest, highest."),
        ({"enc_depth": "three"}, "enc_depth 'three' must be a whole number"),
        ({"freeze": "everything"}, "freeze 'everything'"),
    ],
)
def test_configs_that_describe_no_network_are_explained(change: dict, reason: str | None, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    options = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(options))
    if reason is None:
        load_model(folder)
        return
    with pytest.raises(CheckpointError, match=reason) as refused:
        load_model(folder)
    assert "model.safetensors" in str(refused.value)


def test_a_file_without_the_descriptors_of_its_config_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("dpt"))
    options = json.loads((folder / "config.json").read_text())
    options |= {"head_type": "catmlp+dpt", "output_mode": "pts3d+desc24", "two_confs": True}
    (folder / "config.json").write_text(json.dumps(options))
    with pytest.raises(CheckpointError, match=r"missing downstream_head1 \(4: .*head_local_features\.fc1"):
        load_model(folder)


def test_croco_and_strange_files_are_recognised_and_refused(tmp_path: Path) -> None:
    croco = tmp_path / "croco.pth"
    state = {"enc_blocks.0.norm1.weight": torch.ones(4), "dec_blocks.0.norm1.weight": torch.ones(4)}
    torch.save({"model": state, "croco_kwargs": {"pos_embed": "RoPE100"}}, croco)
    assert inspect(croco).family == "CroCo"
    with pytest.raises(CheckpointError, match="is a CroCo checkpoint"):
        load_model(croco)
    other = tmp_path / "other.pth"
    torch.save({"model": {"conv1.weight": torch.ones(4)}}, other)
    with pytest.raises(CheckpointError, match="groups: conv1"):
        load_model(other)


@BOTH
def test_inspection_tells_what_a_file_is(write: Writer, tmp_path: Path) -> None:
    source = write(tmp_path, small_config("dpt"))
    info = inspect(source)
    network = load_model(source)
    assert info.family == "DUSt3R"
    assert info.parameters == sum(value.numel() for value in network.state_dict().values())
    assert sum(group["parameters"] for group in info.groups.values()) == info.parameters
    assert info.groups["enc_blocks"]["keys"] == 3 * 12
    assert info.dtypes == ("float32",)
    assert info.config["conf_mode"] == ["exp", 1, "inf"]
    assert "CC BY-NC-SA" in info.licence
    assert len(info.sha256) == 64
    json.dumps(info.config, allow_nan=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_saved_network_comes_back(dtype: torch.dtype, tmp_path: Path) -> None:
    network = drawn_network(
        small_config("dpt", head_options={"feature_dim": 16, "last_dim": 8, "layer_dims": [4, 8, 8, 8]})
    )
    save_model(network, tmp_path / "ours", dtype=dtype, card={"name": "small", "licence": "Apache-2.0"})
    back = load_model(tmp_path / "ours")
    assert back.config == network.config
    found = back.state_dict()
    for key, value in network.state_dict().items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value.to(dtype).float())
    info = inspect(tmp_path / "ours")
    assert (info.name, info.licence) == ("small", "Apache-2.0")
    assert info.dtypes == (str(dtype).removeprefix("torch."),)
    json.loads((tmp_path / "ours" / "config.json").read_text(), parse_constant=pytest.fail)  # strict JSON
    assert len({path.stat().st_mode for path in (tmp_path / "ours").iterdir()}) == 1


def test_values_that_half_precision_cannot_hold_are_not_saved(tmp_path: Path) -> None:
    network = drawn_network(small_config("linear"))
    with torch.no_grad():
        network.enc_norm.weight[3] = 1e6
    with pytest.raises(CheckpointError, match=r"enc_norm\.weight"):
        save_model(network, tmp_path, dtype=torch.float16)
    assert not (tmp_path / "model.safetensors").exists()


def test_loading_does_not_copy_the_tensors(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_folder(tmp_path, small_config("linear")))
    network = build(checkpoint)
    for key, value in network.state_dict().items():
        assert value.data_ptr() == checkpoint.state[key].data_ptr()


def test_building_without_storage_does_not_wake_the_compiler() -> None:
    script = (
        "import sys; from stereo4d.network.weights import empty_network; "
        "from stereo4d.network.stereo import StereoConfig; network = empty_network(StereoConfig(head_type='dpt')); "
        "assert all(value.is_meta for value in network.parameters()); sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_written_test_files_say_what_published_ones_say(tmp_path: Path) -> None:
    name, options = parse_constructor(constructor_text(small_config("linear")))
    assert name == "AsymmetricCroCo3DStereo"
    assert options["conf_mode"] == ("exp", 1, np.inf)
    text = (write_folder(tmp_path, small_config("linear")) / "config.json").read_text()
    assert "-Infinity" in text
