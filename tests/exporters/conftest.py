"""A scene made by a reconstruction, for every test of an exporter."""

from __future__ import annotations

from pathlib import Path

import pytest

from stereo4d import AlignmentOptions, Scene, reconstruct
from tests.truthful_predictor import install, truthful_clip


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Path]:
    """The scene, and its folder; anchored, which is the quickest way to one."""
    folder = tmp_path_factory.mktemp("exported")
    frames, truth = truthful_clip(folder / "clip", seed=3, frames=4)
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "package", patch, truth)
        scene = reconstruct(
            frames, folder / "scene", weights="truthful", alignment=AlignmentOptions(align="anchored"), query_times=[]
        )
    assert 0 < scene.dynamic.mean() < 0.8
    return scene, folder / "scene"
