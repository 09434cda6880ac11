"""The code of docs/completion.md runs as written, on files of the form that the published ones have."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stereo4d.network.completion import CompletionConfig, CompletionNetwork

PAGE = (Path(__file__).parents[2] / "docs" / "completion.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
OPTIONS = {"enc_embed_dim": 16, "enc_depth": 1, "enc_num_heads": 2, "dec_embed_dim": 16, "dec_depth": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader works who has the two checkpoints and two pictures."""
    for name, positions in (("CroCo_V2_ViTLarge_BaseDecoder", "RoPE100"), ("CroCo", "cosine")):
        options = {**OPTIONS, "pos_embed": positions, "dec_num_heads": 2}
        state = CompletionNetwork(CompletionConfig.from_json(options)).state_dict()
        torch.save({"model": state, "croco_kwargs": options}, tmp_path / f"{name}.pth")
    for seed, name in enumerate(("left", "right")):
        pixels = np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    assert len(BLOCKS) == 3
    scope: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, scope)
    with Image.open(folder / "completion.png") as strip:
        assert strip.size == (4 * 224, 224)
    assert isinstance(scope["loss"], torch.Tensor)
    assert scope["loss"].isfinite()
