"""What docs/motion.md tells people to type works as written, with a small network that has a motion head."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d.cli.main import main
from stereo4d.network.config import HeadChoice
from stereo4d.network.weights import save_model
from stereo4d.scene_motion import Moment, SceneMotion
from stereo4d.scene_tracks import Tracks
from tests.clips import picture, write_clip
from tests.golden_numbers import drawn_network, small_config

PAGE = (Path(__file__).parents[2] / "docs" / "motion.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
NARROW = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader works who has a video, two pictures, and weights with a motion head."""
    heads = {"motion": HeadChoice("motion", {"embed_dim": 16, **NARROW})}
    save_model(drawn_network(small_config("dpt", head_options=NARROW, heads=heads)), tmp_path / "moving")
    write_clip(tmp_path / "my.mp4", [picture(index) for index in range(5)])
    for index, name in enumerate(("left.jpg", "right.jpg")):
        Image.fromarray(picture(2 * index)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    scope: dict[str, object] = {}
    for language, block in BLOCKS:
        if language == "bash":
            for line in block.splitlines():
                name, *command = shlex.split(line, comments=True)
                if name == "python" or command[0] in ("view", "fit", "evaluate"):
                    continue  # training takes an hour, and viewing waits for a person; tests/training and tests/viewers
                assert name == "stereo4d"
                assert main(command) == 0, line
        elif language == "python":
            exec(block, scope)
    assert isinstance(scope["flow"], SceneMotion)
    assert isinstance(scope["between"], Moment)
    assert isinstance(scope["tracks"], Tracks)
    displacement = scope["prediction"].extras["motion"]["displacement0"]  # type: ignore[attr-defined]
    assert displacement.shape[:2] == (1, 3)
    with np.load(folder / "pair.npz") as stored:
        assert stored["motion0"].shape[0] == 2
    assert torch.isfinite(displacement).all()
