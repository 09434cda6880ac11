"""A package that stereo4d has never heard of brings a head: trained, exported, reconstructed with and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d import Scene
from stereo4d.data.synthetic.clip import synthesize_clip
from stereo4d.network.weights import read_tensors
from stereo4d.storage import map_arrays
from stereo4d.viewing import load_viewer
from tests.strangers import SMALL_FIT, install, shortened, use

PACKAGE = Path(__file__).parent / "stranger_heads"
STEPS = 2


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed; nothing else knows of it."""
    copy = tmp_path_factory.mktemp("package") / "stranger_heads"  # building leaves files beside the sources
    shutil.copytree(PACKAGE, copy)
    target = tmp_path_factory.mktemp("site")
    install(copy, target)
    return target


@pytest.fixture(scope="module")
def folder(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What its author ends up with after training, export and a reconstruction."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "moving.yaml").write_text(shortened((PACKAGE / "moving.yaml").read_text(), steps=STEPS))
    synthesize_clip(folder / "made", seed=2, frames=3, height=48, width=80)
    settings = [f"--{name}={value}" for name, value in SMALL_FIT.items()]
    commands = [
        ["stereo4d", "fit", "--config", "moving.yaml", *settings],
        ["python", "-m", "stereo4d.training.export", "out/moving/checkpoints/last.ckpt", "weights"],
        ["stereo4d", "weights", "show", "weights"],
        [
            *("stereo4d", "reconstruct", "made/clip.mp4", "--weights", "weights", "--out", "scene"),
            *("--device", "cpu", "--graph", "complete", "--size", "80", "--quiet"),
        ],
    ]
    (folder / "said.txt").write_text(use(commands, target, folder))
    return folder


def test_the_package_is_unknown_here_and_known_where_it_is_installed(target):
    from stereo4d import registry

    assert "moving" not in registry.installed("stereo4d.heads")
    (entry,) = target.glob("stranger_heads-*.dist-info/entry_points.txt")
    assert "moving = stranger_heads:MovingHead" in entry.read_text()


def test_two_steps_trained_the_head_and_nothing_else(folder):
    checkpoint = torch.load(folder / "out" / "moving" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    embedded = read_tensors("embedded")
    trained = {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}
    assert {name.split(".")[0] for name in trained.keys() - embedded.keys()} == {"dynamics_head1", "dynamics_head2"}
    # the recipe asks for no other head beside
    assert {name.split(".")[0] for name in embedded.keys() - trained.keys()} == {"motion_head1", "motion_head2"}
    for name in embedded.keys() & trained.keys():
        # the average of equal weights is equal but for rounding; a step of training is a hundred times as far
        torch.testing.assert_close(trained[name], embedded[name].float(), rtol=1e-6, atol=1e-7, msg=name)
    figures = (folder / "out" / "moving" / "logs").rglob("metrics.csv")
    assert "val/dynamics_iou" in next(figures).read_text().splitlines()[0]


def test_its_weights_name_the_head_that_they_need(folder):
    assert json.loads((folder / "weights" / "config.json").read_text())["heads"]["dynamics"]["head_type"] == "moving"
    assert "dynamics_head1" in (folder / "said.txt").read_text()


def test_the_scene_moves_where_the_head_says_so(folder):
    scene = Scene.load(folder / "scene")
    arrays = [map_arrays(path) for path in (folder / "scene" / "pairs").glob("pairs-*.safetensors")]
    total, count = np.zeros(scene.dynamic.shape), np.zeros(len(scene))
    for pairs in arrays:
        for side in (0, 1):
            for frame, moving in zip(pairs["edges"][:, side], pairs[f"dynamics/moving{side}"], strict=True):
                total[frame] += moving
                count[frame] += 1
    mean = total / count[:, None, None]
    sure = abs(mean - 0.5) > 1e-3
    assert (np.asarray(scene.dynamic)[sure] == (mean > 0.5)[sure]).all()
    assert 0 < scene.dynamic.mean() < 1  # two steps from nowhere: it says both, and the scene has taken it up


def test_the_scene_is_shown_with_its_map(folder):
    scene = Scene.load(folder / "scene")
    load_viewer("rerun").check(folder / "scene" / "scene.rrd")
    assert scene.maps["dynamics.moving"].shape == scene.depth.shape
    assert scene.manifest["maps"]["dynamics.moving"]["shown_as"] == "mask"


def test_the_head_passes_the_checks(target, tmp_path):
    said = use([["stereo4d", "check-head", "moving", "--options", '{"hidden": 8}', "--json"]], target, tmp_path)
    assert json.loads(said.splitlines()[-1])["passed"]
