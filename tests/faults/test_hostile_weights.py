"""Weights from strangers: tensors, headers, configs and places that cannot be used are refused by name."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stereo4d.errors import CheckpointError
from stereo4d.network.weights import load_model, start_from
from tests.golden_numbers import drawn_network, small_config
from tests.hostile_files import edited, with_header
from tests.official_files import write_folder, write_pth

# ---- tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("write", [write_pth, write_folder], ids=["pth", "folder"])
def test_weights_that_are_no_numbers_are_named_by_key(write: Any, value: float, tmp_path: Path) -> None:
    source = write(tmp_path, small_config("linear"))
    if source.is_dir():
        state = load_file(source / "model.safetensors")
        state["enc_blocks.1.mlp.fc1.weight"][3, 4] = value
        save_file(state, source / "model.safetensors")
    else:
        content = torch.load(source, weights_only=False)
        content["model"]["enc_blocks.1.mlp.fc1.weight"][3, 4] = value
        torch.save(content, source)
    with pytest.raises(CheckpointError, match=r"enc_blocks\.1\.mlp\.fc1\.weight \(1 of 16384 values\)"):
        load_model(source)
    with pytest.raises(CheckpointError, match=r"enc_blocks\.1\.mlp"):
        start_from(drawn_network(small_config("linear")), source)


def test_large_weights_whose_sum_overflows_are_fine(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    state = load_file(folder / "model.safetensors")
    state["enc_norm.bias"][:] = 3e38
    save_file(state, folder / "model.safetensors")
    load_model(folder)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool], ids=str)
def test_numbers_of_another_kind_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("linear"))
    content = torch.load(path, weights_only=False)
    content["model"]["enc_norm.bias"] = torch.zeros(64, dtype=dtype)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"enc_norm\.bias is {dtype}"):
        load_model(path)


def test_sparse_tensors_and_odd_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"model": {"enc_norm.bias": torch.zeros(4).to_sparse()}}, path)
    with pytest.raises(CheckpointError, match="sparse"):
        load_model(path)
    torch.save({"model": {"enc\nnorm\x1b[31m": torch.zeros(4)}}, path)
    with pytest.raises(CheckpointError, match="no name of a parameter") as refused:
        load_model(path)
    assert str(refused.value).isprintable()


# ---- safetensors headers ---------------------------------------------------------------------------------------------


def overlap(header: dict) -> None:
    header["enc_norm.bias"]["data_offsets"] = header["enc_norm.weight"]["data_offsets"]


def leave(header: dict) -> None:
    header["enc_norm.bias"]["data_offsets"] = [1 << 40, (1 << 40) + 256]


def twice(header: dict) -> bytes:
    entry = json.dumps(header["enc_norm.bias"])
    return (json.dumps(header)[:-1] + f', "enc_norm.bias": {entry}}}').encode()


@pytest.mark.parametrize(
    "change",
    [
        overlap,
        leave,
        twice,
        lambda header: [],
        lambda header: b"[" * 100_000,
        lambda header: b"{" + b" " * 11_000_000 + b"}",
        lambda header: header["enc_norm.bias"].update(dtype="F99"),
        lambda header: header["enc_norm.bias"].update(shape=[-1, -64]),
        lambda header: header["enc_norm.bias"].update(shape=[2**63, 2]),
    ],
    ids=["overlap", "leave", "twice", "list", "deep", "long", "dtype", "negative", "huge"],
)
def test_damaged_headers_are_refused(change: Callable[[dict], Any], tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    with_header(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a whole safetensors file"):
        load_model(folder)


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**64 - 1])
def test_header_lengths_that_cannot_be_are_refused(length: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    path = folder / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a whole safetensors file"):
        load_model(folder)


# ---- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "holds a list"),
        ('{"enc_depth": NaN}', "NaN is no value"),
        ('{"enc_depth": 3, "enc_depth": 4}', "'enc_depth' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 500 + "1" + "}" * 500, "nest too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "more than 1048576 bytes"),
        ("", "not JSON"),
        ("\x00", "not JSON"),
    ],
    ids=["list", "nan", "twice", "deep", "nested", "digits", "long", "empty", "zero"],
)
def test_configs_that_are_no_options_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=reason) as refused:
        load_model(folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enc_depth": 10**9}, "enc_depth is 1000000000 by its description, but 3 by its tensors"),
        ({"dec_depth": 10**9}, "dec_depth is 1000000000 by its description"),
        ({"enc_embed_dim": 10**9}, "enc_embed_dim is 1000000000 by its description, but 64 by its tensors"),
        ({"dec_embed_dim": 96}, "dec_embed_dim is 96 by its description, but 48"),
        ({"patch_size": 8}, "patch_size is 8 by its description, but 16"),
        ({"img_size": [10**9, 10**9]}, "img_size .* must be .height, width. in pixels, each from 1 to"),
        ({"img_size": [224]}, "img_size"),
        ({"enc_depth": True}, "enc_depth True must be a whole number"),
        ({"enc_num_heads": 0}, "enc_num_heads 0 must be"),
        ({"dec_num_heads": -4}, "dec_num_heads -4 must be"),
        ({"enc_num_heads": 10**9}, "model.safetensors"),
        ({"mlp_ratio": 1e308}, "mlp_ratio"),
        ({"mlp_ratio": "4"}, "mlp_ratio"),
        ({"heads": {f"h{i}": {"head_type": "dpt"} for i in range(2000)}}, "has a head 'h0', but there are no tensors"),
    ],
)
def test_descriptions_of_another_network_are_refused_before_it_is_built(
    change: dict, reason: str, tmp_path: Path
) -> None:
    folder = edited(tmp_path, **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(CheckpointError, match=reason):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5


def test_a_folder_without_its_config_is_told_from_its_tensors_or_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_config("linear"))
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"a width of 48 is no multiple of 64.*config\.json"):
        load_model(folder)


# ---- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_is_refused_without_waiting(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"empty{suffix}").touch()
    for name in ("pipe", "loop", "folder", "empty"):
        with pytest.raises(CheckpointError, match=f"{name}\\{suffix}"):
            load_model(tmp_path / f"{name}{suffix}")


@pytest.mark.skipif(
    os.geteuid() != 0, reason="root reads every file, and only root can become somebody else: run as root"
)
def test_a_file_that_may_not_be_read_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("shut")
    path = write_pth(folder, small_config("linear"))
    load_model(path)  # whatever it imports is imported
    shut = [parent for parent in (folder, *folder.parents) if not parent.stat().st_mode & stat.S_IXOTH]
    for parent in shut:
        parent.chmod(0o755)
    path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match=r"official\.pth cannot be read: Permission denied"):
            load_model(path)
    finally:
        os.seteuid(0)
        for parent in shut:
            parent.chmod(0o700)
