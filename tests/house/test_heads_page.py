"""What docs/heads.md shows and tells people to type works as written, at the size of a test."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from stereo4d import Scene
from stereo4d.cli.common import build_parser
from stereo4d.cli.view import view
from stereo4d.data.synthetic.clip import synthesize_clip
from stereo4d.network.head import AnyHead, Output
from stereo4d.viewing import load_viewer
from tests.strangers import SMALL_FIT, install, shortened, use

PAGE = (Path(__file__).parents[2] / "docs" / "heads.md").read_text(encoding="utf-8")
FILES = re.findall(r"`([\w.]+)`\n.*?^```\w+\n(.*?)^```", PAGE.partition("## From the head")[0], flags=re.S | re.M)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.S | re.M)
    for line in block.splitlines()
]
SMALLER = {
    "fit": [f"--{name}={value}" for name, value in SMALL_FIT.items()],
    "check-head": ["--options", '{"hidden": 8}', "--json"],
    "reconstruct": ["--device", "cpu", "--graph", "complete", "--size", "80", "--quiet"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works who does all that the page says, from top to bottom."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES:
        (folder / name).write_text(shortened(text, steps=2) if name.endswith(".yaml") else text, encoding="utf-8")
    target = tmp_path_factory.mktemp("site")
    assert COMMANDS[0] == ["pip", "install", "-e", "."]
    install(folder, target)
    clip = synthesize_clip(folder / "made", seed=3, frames=3, height=48, width=80)
    clip.rename(folder / "my.mp4")
    run = [
        [*command, *(SMALLER.get(command[1], []) if command[0] == "stereo4d" else [])]
        for command in COMMANDS[1:]
        if command[:2] != ["stereo4d", "view"]  # it waits for a person
    ]
    (folder / "said.txt").write_text(use(run, target, folder))
    return folder


def test_the_head_has_forty_lines():
    (code,) = (text for name, text in FILES if name.endswith(".py"))
    assert [name for name, _ in FILES] == ["normals.py", "pyproject.toml", "normals.yaml"]
    assert len(code.splitlines()) <= 40
    assert max(map(len, code.splitlines())) <= 120


def test_the_head_passes_its_checks(folder):
    (report,) = (json.loads(line) for line in (folder / "said.txt").read_text().splitlines() if line.startswith('{"'))
    assert report["passed"]
    assert report["head"] == "normals"


def test_training_measures_what_the_page_says(folder):
    (figures,) = (folder / "out" / "normals").rglob("metrics.csv")
    header, *rows = [line.split(",") for line in figures.read_text().splitlines()]
    for name in ("val/normals_degrees", "val/normals_degrees_of_a_guess"):
        assert f"`{name}`" in PAGE
        (value,) = {row[header.index(name)] for row in rows} - {""}
        assert 0 < float(value) < 180


def test_the_scene_holds_normals_and_shows_them(folder):
    scene = Scene.load(folder / "scene")
    normals = np.asarray(scene.maps["normals.normal"], np.float32)
    assert normals.shape == (*scene.depth.shape, 3)
    assert np.linalg.norm(normals, axis=-1) == pytest.approx(1, abs=2e-3)
    assert scene.manifest["maps"]["normals.normal"]["shown_as"] == "normals"
    load_viewer("rerun").check(folder / "scene" / "scene.rrd")
    (command,) = (command for command in COMMANDS if command[:2] == ["stereo4d", "view"])
    assert build_parser(view, "stereo4d view").parse_args(command[2:])["path"] == "scene"


def test_the_contract_that_the_page_tells_is_that_of_the_code():
    hooks = {"objective", "measure"} & set(vars(AnyHead))
    assert all(f"`{hook}(" in PAGE for hook in hooks)
    assert len(hooks) == 2
    shown = re.search(r"how it is shown\s+\((.*?)\)", PAGE, flags=re.S)
    assert shown
    assert set(re.findall(r"`(\w+)`", shown[1])) == set(get_args(get_type_hints(Output)["shown_as"]))
