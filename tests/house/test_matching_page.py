"""What docs/matching.md tells people to type works as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stereo4d.cli.main import main
from stereo4d.downstream.matching import Matches
from tests.clips import picture

PAGE = (Path(__file__).parents[2] / "docs" / "matching.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0, 192, 288)).save("left.jpg")
    Image.fromarray(picture(2, 192, 288)).save("right.jpg")
    scope: dict[str, object] = {}
    assert [language for language, _ in BLOCKS] == ["bash", "python", "python"]
    for language, block in BLOCKS:
        if language == "bash":
            for line in block.splitlines():
                assert main(shlex.split(line)[1:]) == 0
        else:
            exec(block, scope)
    stored, matches = scope["pair"], scope["matches"]
    assert isinstance(matches, Matches)
    assert len(matches) > 0
    pixels = np.asarray(stored["matches"])  # type: ignore[index]
    assert (pixels >= -0.5).all()
    assert pixels[:, 0].max() > 144  # of the files, not of the network's images
    assert pixels.max() < 288
