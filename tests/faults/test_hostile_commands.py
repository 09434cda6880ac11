"""Weights files from strangers, given to a command: it ends with one line, and stays within bounded memory."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch

from stereo4d.cli.main import main
from stereo4d.network.weights import load_model, save_model
from stereo4d.network.weights.inert import Inert
from tests.golden_numbers import small_config
from tests.hostile_files import call, edited, raw_pickle
from tests.official_files import write_pth
from tests.tiny_weights import tiny_network

LIMIT = 3 << 30  # bytes of address space: what torch itself needs, and some
COMMAND = "import sys; from stereo4d.cli.main import main; sys.exit(main(sys.argv[1:]))"


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
DESCRIBED = [make for make in HOSTILE if make not in (with_nan, deep_network)]
"""What ``weights show`` refuses too: it describes a file, whatever its values and however deep its network."""


@pytest.mark.parametrize(
    ("command", "make"),
    [*product(["pair"], HOSTILE), *product(["show"], DESCRIBED)],
    ids=lambda it: getattr(it, "__name__", it),
)
def test_commands_end_with_one_line_and_code_1(
    make: Callable[[Path], Path], command: str, tmp_path: Path, capsys
) -> None:
    path = make(tmp_path)
    if command == "show":
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
