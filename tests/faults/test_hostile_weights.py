"""Weights files from strangers: nothing in them runs, nothing in them fills the memory, and each is refused by name."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import resource
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError, UnsafeCheckpointError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.weights import load_model, read_checkpoint, save_model, start_from
from stereo4d.network.weights.inert import Inert
from tests.golden_numbers import drawn_network, small_config
from tests.official_files import write_folder, write_pth
from tests.tiny_weights import tiny_network

LIMIT = 3 << 30  # bytes of address space: what torch itself needs, and some
COMMAND = "import sys; from stereo4d.cli.main import main; sys.exit(main(sys.argv[1:]))"


def raw_pickle(path: Path, program: bytes, *, zipped: bool = True) -> Path:
    """A file of PyTorch's, with a pickle of our own making."""
    if not zipped:
        path.write_bytes(program)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return path


def call(name: str, *arguments: bytes) -> bytes:
    """A pickle that calls a function by its name with texts."""
    module, _, function = name.rpartition(".")
    texts = b"".join(b"X" + struct.pack("<I", len(text)) + text for text in arguments)
    return b"\x80\x02c" + module.encode() + b"\n" + function.encode() + b"\n(" + texts + b"tR."


def edited(folder: Path, **change: Any) -> Path:
    """A good folder whose config says something else."""
    target = write_folder(folder, small_config("linear"))
    config = target / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    return target


def with_header(path: Path, change: Callable[[dict], Any], *, data: Callable[[bytes], bytes] = bytes) -> None:
    """Rewrite the header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = change(header)
    text = text if isinstance(text, bytes) else json.dumps(header if text is None else text).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data(content[8 + length :]))


# ---- pickles ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
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


# ---- through the command ---------------------------------------------------------------------------------------------


def evil_pickle(folder: Path) -> Path:
    return raw_pickle(folder / "evil.pth", call("os.system", f"touch {folder / 'executed'}".encode()))


def zip_bomb(folder: Path) -> Path:
    path = folder / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", call("builtins.set", b"a"))
        with archive.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(200):
                entry.write(bytes(1 << 20))
    return path


def bytearray_bomb(folder: Path) -> Path:
    return raw_pickle(folder / "array.pth", b"\x80\x02cbuiltins\nbytearray\n(\x8a\x06\x00\x00\x00\x00\x00\x01tR.")


def deep_network(folder: Path) -> Path:
    return edited(folder, enc_depth=10**9)


def long_header(folder: Path) -> Path:
    path = folder / "model.safetensors"
    with path.open("wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate(1 << 41)  # sparse: two terabytes that take no room
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.pth")
    return folder / "pipe.pth"


def with_nan(folder: Path) -> Path:
    path = write_pth(folder, small_config("linear"))
    content = torch.load(path, weights_only=False)
    content["model"]["mask_token"][:] = float("nan")
    torch.save(content, path)
    return path


HOSTILE = [evil_pickle, zip_bomb, bytearray_bomb, deep_network, long_header, pipe, with_nan]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["show", "pair"])
def test_commands_end_with_one_line_and_code_1(
    make: Callable[[Path], Path], command: str, tmp_path: Path, capsys
) -> None:
    path = make(tmp_path)
    if command == "show":
        if make in (with_nan, deep_network):
            pytest.skip("showing describes a file, whatever its values")
        code = main(["weights", "show", str(path)])
    else:
        code = main(["pair", *pictures(tmp_path), "--weights", str(path), "--out", str(tmp_path / "pair.npz")])
    check_refused(code, capsys.readouterr().err, path)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "pair.npz").exists()


@pytest.mark.parametrize("make", [evil_pickle, zip_bomb, bytearray_bomb], ids=lambda make: make.__name__)
def test_the_worst_files_stay_within_bounded_memory(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "weights", "show", str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    check_refused(done.returncode, done.stderr, path)
    assert not (tmp_path / "executed").exists()


def pictures(folder: Path) -> list[str]:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48), "grey").save(folder / name)
    return [str(folder / "a.png"), str(folder / "b.png")]


def check_refused(code: int, error: str, path: Path) -> None:
    line = error.strip().splitlines()[-1]
    assert code == 1
    assert line.startswith("stereo4d: error: ")
    assert path.name in line
    assert "unexpected" not in line
    assert "Traceback" not in error


def test_the_tiny_network_is_still_welcome(tmp_path: Path) -> None:
    save_model(tiny_network(), tmp_path / "tiny")
    load_model(tmp_path / "tiny")
    pickle.dumps(Inert)
