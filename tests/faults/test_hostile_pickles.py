"""Files of PyTorch's from strangers: nothing in them runs, nothing in them fills the memory."""

from __future__ import annotations

import argparse
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from stereo4d.errors import CheckpointError, UnsafeCheckpointError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.weights import load_model, read_checkpoint
from stereo4d.network.weights.inert import Inert
from tests.golden_numbers import drawn_network, small_config
from tests.hostile_files import call, raw_pickle
from tests.official_files import write_pth


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare"])
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("os.system", "touch {}"),
        ("posix.system", "touch {}"),
        ("builtins.eval", "open('{}', 'w')"),
        ("__builtin__.exec", "open('{}', 'w')"),
        ("torch.jit._script.os.system", "touch {}"),
        ("builtins.getattr", "{}"),
        ("builtins.bytearray", "{}"),
        ("torch.FloatTensor", "{}"),
    ],
)
def test_what_a_pickle_calls_is_named_and_never_run(name: str, argument: str, zipped: bool, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    path = raw_pickle(tmp_path / "evil.pth", call(name, argument.format(target).encode()), zipped=zipped)
    with pytest.raises(UnsafeCheckpointError, match=name.replace("__builtin__", "builtins").replace(".", r"\.")):
        load_model(path)
    assert not target.exists()


def test_a_class_that_pretends_to_be_of_a_harmless_library_is_inert(tmp_path: Path) -> None:
    target = str(tmp_path / "executed").encode()
    path = raw_pickle(tmp_path / "evil.pth", call("omegaconf.evil", target))
    with pytest.raises(CheckpointError, match="holds a Inert, not a checkpoint"):
        load_model(path)
    assert not Path(target.decode()).exists()
    assert "omegaconf.evil" not in sys.modules


@pytest.mark.parametrize("slots", [False, True], ids=["state", "slots"])
def test_state_given_to_an_inert_object_goes_nowhere(slots: bool, tmp_path: Path) -> None:
    state = b"}X\x09\x00\x00\x00__class__X\x04\x00\x00\x00evils"
    program = b"\x80\x02comegaconf\nevil\n)\x81" + (b"N" + state + b"\x86" if slots else state) + b"b."
    with pytest.raises(CheckpointError, match="Inert"):
        load_model(raw_pickle(tmp_path / "evil.pth", program))
    assert type(Inert()) is Inert
    assert not hasattr(Inert(), "__dict__")
    with pytest.raises(AttributeError):
        Inert().anything = 3  # type: ignore[attr-defined]


def test_what_pytorch_itself_refuses_is_said_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"odd\.pth.*Unsupported operand 48$"):
        load_model(raw_pickle(tmp_path / "odd.pth", b"\x80\x02NN0."))


@pytest.mark.parametrize("opcode", [b"\x93", b"i", b"o", b"\x82\x01"], ids=["stack-global", "inst", "obj", "ext"])
def test_other_ways_to_name_a_class_are_refused(opcode: bytes, tmp_path: Path) -> None:
    program = b"\x80\x04(X\x02\x00\x00\x00osX\x06\x00\x00\x00system" + opcode + b"os\nsystem\n."
    with pytest.raises(CheckpointError, match=r"evil\.pth.*(never writes|damaged)"):
        load_model(raw_pickle(tmp_path / "evil.pth", program))


def test_real_training_objects_beside_the_tensors_do_no_harm(tmp_path: Path) -> None:
    config = OmegaConf.create({"model": {"depth": [1, 2], "name": "x"}, "path": "${model.name}", "none": None})
    path = write_pth(
        tmp_path,
        small_config("linear"),
        hydra_config=config,
        more=OmegaConf.create([1, {"a": 2}]),
        best_so_far=np.float64(0.5),
        step=np.int64(3),
        extra=argparse.Namespace(folder=pathlib.Path("/somewhere"), score=np.float32(1)),
    )
    load_model(path)


def test_a_namespace_with_paths_and_numpy_numbers_is_read(tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("linear"))
    content = torch.load(path, weights_only=False)
    content["args"].output_dir = pathlib.PosixPath("/runs")
    content["args"].lr = np.float64(1e-4)
    torch.save(content, path)
    load_model(path)


def test_the_unofficial_dynadust3r_layout_is_told_from_its_tensors(tmp_path: Path) -> None:
    network, path = write_dynadust3r(tmp_path)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.family, checkpoint.inferred) == ("DynaDUSt3R", True)
    loaded = load_model(path)
    assert loaded.config.heads["motion"].options["embed_dim"] == 16
    assert loaded.config.dec_depth == 4
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def write_dynadust3r(folder: Path) -> tuple[torch.nn.Module, Path]:
    widths = {"feature_dim": 16, "last_dim": 8, "layer_dims": [4, 8, 8, 8]}
    network = drawn_network(
        StereoConfig(
            img_size=(512, 512),
            enc_embed_dim=128,
            enc_depth=2,
            enc_num_heads=2,
            dec_embed_dim=64,
            dec_depth=4,
            dec_num_heads=1,
            head_type="dpt",
            head_options=widths,
            heads={"motion": HeadChoice("motion", {"embed_dim": 16, **widths})},
            landscape_only=False,
        )
    )
    content = {
        "iteration": 7,
        "epoch": 1,
        "state_dict": network.state_dict(),
        "best_metric": np.float32(0.3),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "config": OmegaConf.create({"model": {"motion_depth_mode": ["linear", "-inf", "inf"]}}),
    }
    torch.save(content, folder / "best_loss.pth")
    return network, folder / "best_loss.pth"


def test_pickles_that_would_grow_are_refused_before_they_run(tmp_path: Path) -> None:
    def encode(text: bytes, codec: bytes, times: int) -> bytes:
        program = b"\x80\x02X" + struct.pack("<I", len(text)) + text + b"q\x00c_codecs\nencode\nq\x01"
        program += b"(" + (b"h\x01h\x00X" + struct.pack("<I", len(codec)) + codec + b"\x86R") * times
        return program + b"t."

    for text, codec, times in ((b"a", b"hex", 1), (b"a" * (1 << 20), b"latin1", 2000), (b"a", b"!" * 99 + b"HEX", 1)):
        with pytest.raises(CheckpointError, match="bomb"):
            load_model(raw_pickle(tmp_path / "grows.pth", encode(text, codec, times)))
    with pytest.raises(CheckpointError, match="not a checkpoint"):  # harmless: bytes as they are commonly written
        load_model(raw_pickle(tmp_path / "bytes.pth", encode(b"a", b"latin1", 3)))


def test_options_that_hold_one_another_are_refused(tmp_path: Path) -> None:
    laughs: Any = "ha"
    for _ in range(40):
        laughs = (laughs,) * 8
    path = tmp_path / "laughs.pth"
    state = {"enc_blocks.0.norm1.weight": torch.ones(4), "dec_blocks.0.norm1.weight": torch.ones(4)}
    torch.save({"model": state, "croco_kwargs": {"pos_embed": laughs}}, path)
    with pytest.raises(CheckpointError, match=r"laughs\.pth.*too many values, or nest too deeply"):
        load_model(path)


# ---- archives --------------------------------------------------------------------------------------------------------


def rezipped(folder: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipFile], None]) -> Path:
    good = write_pth(folder, small_config("linear"))
    path = folder / "changed.pth"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry))
        change(source, target)
    return path


def test_packed_entries_are_refused_unopened(tmp_path: Path) -> None:
    def bomb(_: zipfile.ZipFile, target: zipfile.ZipFile) -> None:
        target.writestr("official/data/bomb", bytes(50 << 20), compress_type=zipfile.ZIP_DEFLATED)

    path = rezipped(tmp_path, bomb)
    with pytest.raises(CheckpointError, match=r"changed\.pth: entry official/data/bomb is packed .*zip bomb"):
        load_model(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = rezipped(tmp_path, lambda source, target: target.writestr(source.namelist()[0], b"other"))
    with pytest.raises(CheckpointError, match="two entries of one name"):
        load_model(path)


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = rezipped(tmp_path, lambda source, target: None)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02")  # the last entry of the table of contents says it is longer than it is
    for offset in (20, 24):
        content[start + offset : start + offset + 4] = struct.pack("<I", 10_000_000)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="overlaps what follows"):
        load_model(path)


def test_tensors_that_repeat_one_value_are_refused(tmp_path: Path) -> None:
    path = write_pth(tmp_path, small_config("linear"))
    content = torch.load(path, weights_only=False)
    content["model"]["enc_norm.weight"] = torch.ones(1).expand(10**12)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="share or repeat"):
        load_model(path)


def test_a_file_in_the_old_format_is_read_and_absurd_sizes_in_it_are_refused(tmp_path: Path) -> None:
    content = torch.load(write_pth(tmp_path, small_config("linear")), weights_only=False)
    path = tmp_path / "old.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    load_model(path)
    old = path.read_bytes()
    place = old.index(b"cpuq")  # a tensor's place, then how many numbers it has
    number = old.index(b"M", place)
    path.write_bytes(old[:number] + b"J\xff\xff\xff\x7f" + old[number + 3 :])
    with pytest.raises(CheckpointError, match=r"old\.pth"):
        load_model(path)
