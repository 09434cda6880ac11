"""What docs/known.md tells people to type works as written, and the files that it shows are read."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stereo4d.cli.main import main
from stereo4d.types import PixelMap
from stereo4d.video.known_files import QUANTITIES, FrameGeometry, KnownFiles, load_known

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "known.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
# The clip that the page makes: six frames, twelve a second.
FRAMES = FrameGeometry(
    np.arange(6), np.arange(6) / 12, np.tile([64, 96], (6, 1)), (32, 48), (PixelMap(2, 2, 0.5, 0.5),) * 6
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works who types everything on the page, from top to bottom."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, block in BLOCKS:
            if language == "bash":
                for line in block.splitlines():
                    name, *command = shlex.split(line, comments=True)
                    assert name == "stereo4d"
                    small = ["--device", "cpu"] if command[0] in ("reconstruct", "align") else []
                    assert main([*command, *small]) == 0, line
            elif language == "python":
                done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=600)
                assert done.returncode == 0, done.stderr
            elif language == "text":
                name = re.match(r"# ([\w-]+\.txt)", block)
                assert name, "a file that is shown has its name in its first line"
                (folder / name[1]).write_text(block, encoding="utf-8")
            else:
                assert language == "json"
                (folder / "intrinsics.json").write_text(block, encoding="utf-8")
    return folder


def test_what_was_known_is_in_the_scene_and_in_its_manifest(folder):
    manifest = json.loads((folder / "scene" / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["known"]) == set(QUANTITIES)
    again = json.loads((folder / "again" / "manifest.json").read_text(encoding="utf-8"))
    assert set(again["known"]) == {"poses"}
    told = load_known(KnownFiles(poses=str(folder / "trajectory.txt")), FRAMES).poses
    found = load_known(KnownFiles(poses=str(folder / "scene")), FRAMES).poses
    assert told.frames.tolist() == [0, 1, 2, 3]
    assert found.cam2world[:4].numpy() == pytest.approx(told.cam2world.numpy(), abs=1e-5)  # held


@pytest.mark.parametrize(
    ("name", "quantity", "frames"),
    [
        ("intrinsics.txt", "intrinsics", [0, 1, 2, 3, 4, 5]),
        ("intrinsics-of-two.txt", "intrinsics", [0, 4]),
        ("intrinsics-monst3r.txt", "intrinsics", [0, 1, 2, 3, 4, 5]),
        ("intrinsics.json", "intrinsics", [0]),
        ("intrinsics.npz", "intrinsics", [0, 1, 2, 3, 4, 5]),
        ("scene", "intrinsics", [0, 1, 2, 3, 4, 5]),
        ("trajectory.txt", "poses", [0, 1, 2, 3]),
        ("poses-tum.txt", "poses", [0, 3]),
        ("poses-kitti.txt", "poses", [0, 1, 2, 3, 4, 5]),
        ("poses.npz", "poses", [0, 5]),
        ("depths", "depths", [2]),
        ("depths.npz", "depths", [3]),
        ("masks", "masks", [0, 1, 2, 3, 4, 5]),
        ("masks.npy", "masks", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_every_file_that_the_page_shows_is_read(folder, name, quantity, frames):
    known = load_known(KnownFiles(**{quantity: str(folder / name)}), FRAMES)
    known.check(len(FRAMES), FRAMES.network_size)
    assert getattr(known, quantity).frames.tolist() == frames


def test_no_file_that_the_page_shows_is_left_out(folder):
    (cases,) = (mark for mark in test_every_file_that_the_page_shows_is_read.pytestmark if mark.name == "parametrize")
    tested = {case[0] for case in cases.args[1]}
    assert {path.name for path in folder.iterdir()} - {"clip", "again"} == tested


def test_the_same_camera_is_written_in_three_ways(folder):
    """Whatever image size the numbers are for, the camera is one."""
    for name in ("intrinsics-of-two.txt", "intrinsics-monst3r.txt", "intrinsics.json", "intrinsics.npz"):
        known = load_known(KnownFiles(intrinsics=str(folder / name)), FRAMES).intrinsics
        assert known.intrinsics[0].numpy() == pytest.approx(np.array([[38.4, 0, 23.5], [0, 38.4, 15.5], [0, 0, 1]]))


def test_links_of_the_docs_lead_somewhere():
    for page in sorted((ROOT / "docs").glob("*.md")):
        targets = [t for t in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in t]
        assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("command", ["reconstruct", "align"])
def test_options_that_the_page_names_are_those_of_the_commands(command, capsys):
    assert main([command, "--help"]) == 0
    said = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    here = {
        option for option in re.findall(r"`(--[a-z-]+)", PAGE) if option not in ("--stride", "--fps", "--max-frames")
    }
    assert {f"--{name}" for name in QUANTITIES} <= here
    assert here <= said
