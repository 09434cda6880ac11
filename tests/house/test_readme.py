"""What the README tells people to type works as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from stereo4d.cli.common import build_parser
from stereo4d.cli.main import main
from stereo4d.cli.view import view
from stereo4d.data.synthetic.clip import synthesize_clip
from stereo4d.network.weights import file_sha256
from stereo4d.storage import map_arrays

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Options that make a command of the README small; what the command does stays the same.
SMALLER = {
    "reconstruct": ["--device", "cpu"],
    "synthesize": ["--frames", "2", "--width", "48", "--height", "32"],
    "evaluate": ["--pairs", "1"],
    "evaluate --peer": ["--clips", "1", "--frames", "4", "--width", "96", "--height", "64", "--device", "cpu"],
    "evaluate --data": ["--frames", "4", "--device", "cpu"],
    "fit": [
        *("--trainer.max_steps=1", "--trainer.accelerator=cpu", "--trainer.val_check_interval=1"),
        *("--data.init_args.batch_size=1", "--data.init_args.workers=0", "--data.init_args.val_batches=1"),
    ],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has at hand: a video, two pictures, and the repository's configs."""
    folder = tmp_path_factory.mktemp("reader")
    clip = synthesize_clip(folder / "made", seed=1, frames=5, height=96, width=144)
    clip.rename(folder / "my.mp4")
    for name, frame in (("left.jpg", "000000.png"), ("right.jpg", "000004.png")):
        Image.open(folder / "made" / "frames" / frame).save(folder / name)
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def test_the_readme_says_at_its_top_whom_it_does_not_belong_to():
    assert "Not affiliated with Google" in README[:200]


def test_every_link_and_picture_of_the_readme_is_there():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_model_card_is_about_the_weights_beside_it():
    folder = ROOT / "stereo4d" / "assets" / "embedded"
    assert file_sha256(folder / "model.safetensors") in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_targets_of_the_readme_exist(command):
    _, target, *settings = shlex.split(command)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for setting in settings:
        name = setting.partition("=")[0]
        assert re.search(rf"^{name} \?=", makefile, flags=re.MULTILINE), f"{name} cannot be set"


def test_the_pip_line_of_the_readme_names_files_that_exist():
    (command,) = [shlex.split(c) for c in commands() if c.startswith("pip")]
    assert command[:3] == ["pip", "install", "-c"]
    assert (ROOT / command[3]).is_file()
    assert command[4:] == ["."]


def test_commands_of_the_readme_run_as_written(folder, capsys, monkeypatch):
    # In this process: importing torch anew for every line would take most of the time.
    monkeypatch.chdir(folder)
    done = []
    for command in (shlex.split(c) for c in commands()):
        if command[0] != "stereo4d":
            assert command[0] in ("make", "pip")  # the tests above
            continue
        name, *options = command[1:]
        if name == "view" and "--screenshot" not in options:  # these wait for a person; that they parse is tested
            build_parser(view, "stereo4d view").parse_args(options)
            continue
        asked = [f"{name} {option}" for option in options if f"{name} {option}" in SMALLER]
        if name == "evaluate" and asked and find_spec("pycolmap") is None:
            continue  # an extra, which the README says
        code = main([name, *options, *SMALLER.get(asked[0] if asked else name, [])])
        said = capsys.readouterr()
        if name == "view" and "Vulkan" in said.err:
            continue  # no driver on this machine, which the command says
        assert code == 0, f"{shlex.join(command)}\n{said.out}\n{said.err}"
        done.append(name)
    assert {"doctor", "reconstruct", "align", "pair", "weights", "synthesize", "evaluate", "fit"} <= set(done)
    assert len(map_arrays(folder / "scene" / "scene.safetensors")["times"]) == 5
    assert (folder / "pair.npz").is_file()
    assert (folder / "clip" / "clip.mp4").is_file()


def test_python_of_the_readme_runs_as_written(folder):
    for code in blocks("python"):
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
    assert (folder / "again.rrd").is_file()
