"""Weights of every family and format rewritten as safetensors: the same numbers, the same network, the same licence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError, OutputError, UnsafeCheckpointError, UsageError
from stereo4d.network.completion import CompletionConfig, CompletionNetwork
from stereo4d.network.config import HeadChoice
from stereo4d.network.weights import build, build_completion, inspect, load_model, read_checkpoint
from stereo4d.network.weights.catalogue import PUBLISHED_LICENCE, find
from stereo4d.network.weights.converting import convert
from stereo4d.network.weights.keys import without_aliases
from stereo4d.storage import read_metadata
from tests.full_disk import files_up_to
from tests.golden_numbers import drawn_network, small_config
from tests.official_files import write_folder, write_pth
from tests.tiny_weights import write_tiny_weights

NARROW = {"feature_dim": 16, "last_dim": 8, "layer_dims": [4, 8, 8, 8]}


def dust3r(folder: Path) -> Path:
    return write_pth(folder, small_config("dpt"))


def dust3r_from_the_hub(folder: Path) -> Path:
    return write_folder(folder, small_config("linear"))


def mast3r(folder: Path) -> Path:
    options = {"two_confs": True, "desc_mode": "norm", "desc_conf_mode": ("exp", 0, float("inf"))}
    return write_pth(folder, small_config("catmlp+dpt", output_mode="pts3d+desc24", head_options=options))


def dynadust3r(folder: Path) -> Path:
    """As the unofficial file: tensors under state_dict, nothing about the network."""
    heads = {"motion": HeadChoice("motion", {"embed_dim": 16, **NARROW})}
    backbone = {"enc_embed_dim": 128, "enc_num_heads": 2, "dec_embed_dim": 64, "dec_num_heads": 1}
    network = drawn_network(replace(small_config("dpt", head_options=NARROW, heads=heads), **backbone))
    torch.save({"iteration": 7, "state_dict": network.state_dict()}, folder / "best_loss.pth")
    return folder / "best_loss.pth"


def croco(folder: Path, positions: str = "RoPE100", **content: object) -> Path:
    options = {
        **{"img_size": 64, "enc_embed_dim": 64, "enc_depth": 1, "enc_num_heads": 1},
        **{"dec_embed_dim": 64, "dec_depth": 1, "dec_num_heads": 1},
    }
    network = CompletionNetwork(CompletionConfig.from_json({**options, "pos_embed": positions}))
    content = content or {"croco_kwargs": {**options, "pos_embed": positions}}
    torch.save({"model": network.state_dict(), **content}, folder / "CroCo.pth")
    return folder / "CroCo.pth"


def croco_v1(folder: Path) -> Path:
    return croco(folder, "cosine", epoch=1)


FAMILIES = {dust3r: "DUSt3R", dust3r_from_the_hub: "DUSt3R", mast3r: "MASt3R", dynadust3r: "DynaDUSt3R"}
FAMILIES |= {croco: "CroCo", croco_v1: "CroCo"}


@pytest.mark.parametrize("write", FAMILIES, ids=lambda write: write.__name__)
def test_every_family_keeps_its_numbers_and_its_network(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path)
    path = convert(source, tmp_path / "out")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    before, after = read_checkpoint(source), read_checkpoint(path.parent)
    assert before.family == after.family == FAMILIES[write]
    wanted, found = without_aliases(before.state), load_file(path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    make = build_completion if after.family == "CroCo" else build
    assert make(after).config.to_json() == make(before).config.to_json()
    assert read_metadata(path) == {"format": "pt"}
    json.loads(path.with_name("config.json").read_text(), parse_constant=pytest.fail)  # strict JSON


def test_the_licence_and_the_origin_go_with_the_weights(tmp_path: Path) -> None:
    official = tmp_path / "MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt.pth"
    dust3r(tmp_path).rename(official)
    told = inspect(official)
    info = inspect(convert(official, tmp_path / "out"))
    assert info.licence == told.licence == find("monst3r").licence == PUBLISHED_LICENCE
    assert info.name == told.name == official.stem
    assert info.card["converted_from"] == official.name
    assert info.card["source_sha256"] == told.sha256
    assert str(tmp_path) not in json.dumps(info.card)
    again = inspect(convert(write_tiny_weights(tmp_path / "tiny"), tmp_path / "again"))
    assert (again.name, again.licence) == ("tiny", "Apache-2.0")


def test_half_precision_takes_half_the_room_or_is_refused(tmp_path: Path) -> None:
    source = write_folder(tmp_path, small_config("linear"))
    whole, half = (convert(source, tmp_path / dtype, dtype=dtype) for dtype in ("float32", "float16"))
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    exact, found = load_model(whole).state_dict(), load_model(half).state_dict()
    assert all(torch.equal(found[key], value.half().float()) for key, value in exact.items())
    state = load_file(whole)
    state["enc_norm.weight"][3] = 1e6
    save_file(state, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"enc_norm\.weight holds values that are not finite in torch\.float16"):
        convert(source, tmp_path / "none", dtype="float16")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="dtype 'int4' is none of float32, float16"):
        convert(source, tmp_path / "none", dtype="int4")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    out = write_tiny_weights(tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    source = dust3r_from_the_hub(tmp_path)
    with pytest.raises(OutputError, match=r"has config\.json, model\.safetensors, card\.json already; .*--overwrite"):
        convert(source, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main(["weights", "convert", str(source), str(out), "--overwrite"]) == 0
    assert load_model(out).config == load_model(source).config
    assert (out / "notes.txt").read_text() == "mine"
    for name in ("model.safetensors", "official.pth"):
        with pytest.raises(OutputError, match="is a file's name; give a folder"):
            convert(source, tmp_path / "new" / name)


def test_weights_may_be_converted_where_they_lie(tmp_path: Path) -> None:
    folder = dust3r_from_the_hub(tmp_path)
    before = load_model(folder).state_dict()
    convert(folder, folder, dtype="float16", overwrite=True)
    assert all(torch.equal(value, before[key].half().float()) for key, value in load_model(folder).state_dict().items())


def test_what_cannot_be_loaded_is_not_converted(tmp_path: Path) -> None:
    source = dust3r_from_the_hub(tmp_path)
    state = load_file(source / "model.safetensors")
    del state["enc_norm.weight"]
    save_file(state, source / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing enc_norm"):
        convert(source, tmp_path / "out")
    torch.save({"model": {}, "args": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeCheckpointError):
        convert(tmp_path / "evil.pth", tmp_path / "out")
    with pytest.raises(CheckpointError, match="not on this machine"):
        convert("croco-v1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("executed",))


def test_a_full_disk_leaves_nothing_and_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, out = dust3r_from_the_hub(tmp_path), tmp_path / "deep" / "out"
    with files_up_to(200_000):
        assert main(["weights", "convert", str(source), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot write {out}" in error
    assert os.strerror(errno.EFBIG) in error
    assert list(out.parent.iterdir()) == []


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = write_tiny_weights(tmp_path / "tiny")
    assert main(["weights", "convert", str(source), str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == Path(said["path"]).stat().st_size
    assert main(["weights", "convert", str(source), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("stereo4d: error: ")
    assert main(["weights", "convert", str(source), str(tmp_path / "half"), "--dtype", "float16"]) == 0
    assert "bytes of float16" in capsys.readouterr().out
