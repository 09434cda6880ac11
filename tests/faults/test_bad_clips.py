"""Clips that show nothing to go by, without any weights: a scene of low confidence and a sentence, never a crash."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from stereo4d import Scene
from tests.clips import write_clip
from tests.faults.test_bad_input import run

HEIGHT, WIDTH = 64, 96


def texture(seed: int) -> np.ndarray:
    """(H, W, 3) uint8 with corners everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.float32)
    return cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def zoomed(factor: float) -> np.ndarray:
    """The middle of a picture, (H, W, 3) uint8."""
    half_height, half_width = int(HEIGHT / 2 / factor), int(WIDTH / 2 / factor)
    middle = texture(1)[
        HEIGHT // 2 - half_height : HEIGHT // 2 + half_height, WIDTH // 2 - half_width : WIDTH // 2 + half_width
    ]
    return cv2.resize(middle, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


CLIPS = {
    "black": ([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 3, "no camera is known"),
    "brighter": ([np.full((HEIGHT, WIDTH, 3), 100 + 5 * i, np.uint8) for i in range(3)], "no camera is known"),
    "repeated": ([texture(0)] * 3, "camera stands still"),
    "single": ([texture(0)], "a single frame has no second view"),
    "unrelated": ([texture(seed) for seed in range(3)], "no camera is known"),
    "zoom": ([zoomed(1 + i) for i in range(3)], "focal length"),
    "blurred": ([cv2.blur(np.roll(texture(2), 5 * i, 1), (25, 1)) for i in range(3)], "focal length"),
}
"""Frames, and a part of a sentence that the user reads."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All of them in one process: what it said, and the folder of scenes."""
    folder = tmp_path_factory.mktemp("bad")
    inputs = [write_clip(folder / f"{name}.mp4", images) for name, (images, _) in CLIPS.items()]
    argv = ("reconstruct", *inputs, "--out", folder / "out", "--weights", "classical", "--size", WIDTH, "--json")
    return run(*argv), folder / "out"


def test_none_of_them_fails(made):
    process, _ = made
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    report = json.loads(process.stdout)
    assert len(report["scenes"]) == len(CLIPS)
    assert report["failed"] == []


@pytest.mark.parametrize("name", CLIPS)
def test_what_cannot_be_seen_is_said_and_never_trusted(name, made):
    process, out = made
    images, sentence = CLIPS[name]
    said = [line for line in process.stderr.splitlines() if f"{name}.mp4: " in line]
    assert any(sentence in line for line in said), said
    scene = Scene.load(out / name)
    assert len(scene) == len(images)
    depth, confidence = np.asarray(scene.depth, np.float32), np.asarray(scene.confidence, np.float32)
    assert np.isfinite(scene.cam2world).all()
    assert np.isfinite(scene.intrinsics).all()
    assert np.isfinite(depth).all()
    assert (depth > 0).all()
    assert confidence.mean() < 2  # on the demo clip it is 6
