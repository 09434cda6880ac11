"""What predicts when the user does not say: by a look at a few frames, the same every time, and told in one line."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from stereo4d import reconstruct
from stereo4d.cli.main import main
from stereo4d.data.synthetic.clip import synthesize_clip
from stereo4d.video import choosing
from stereo4d.video.choosing import choose_weights, parallax
from stereo4d.video.frames import Selection, describe
from stereo4d.video.sources import find_source

HEIGHT, WIDTH = 160, 240


def texture(seed: int) -> np.ndarray:
    """(2 H, 2 W) uint8 with corners everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT // 3, WIDTH // 3)).astype(np.float32)
    return cv2.resize(noise, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def seen_through(picture: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the middle of a picture under a homography."""
    middle = np.array([[1, 0, -WIDTH / 2], [0, 1, -HEIGHT / 2], [0, 0, 1]])
    return cv2.warpPerspective(picture, middle @ homography, (WIDTH, HEIGHT))


def turning(step: float) -> list[np.ndarray]:
    """A camera that turns on the spot, ``step`` radians a frame."""
    focal, picture = 300.0, texture(1)
    lens = np.array([[focal, 0, WIDTH], [0, focal, HEIGHT], [0, 0, 1]])
    turns = [cv2.Rodrigues(np.array([0.3 * step * i, step * i, 0.5 * step * i]))[0] for i in range(6)]
    return [seen_through(picture, lens @ turn @ np.linalg.inv(lens)) for turn in turns]


def passing(step: float) -> list[np.ndarray]:
    """A camera that passes a near fence in front of a far wall, the fence ``step`` pixels a frame faster."""
    far, near = texture(2), texture(3)
    fence = (np.arange(2 * WIDTH) // 40 % 2 == 0)[None].repeat(2 * HEIGHT, 0).astype(np.uint8)
    images = []
    for i in range(6):
        slow, fast = np.eye(3), np.eye(3)
        slow[0, 2], fast[0, 2] = -0.5 * i, -(0.5 + step) * i
        images.append(np.where(seen_through(fence, fast) > 0, seen_through(near, fast), seen_through(far, slow)))
    return images


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A camera that walks through a furnished room."""
    folder = tmp_path_factory.mktemp("walk")
    synthesize_clip(folder, seed=3, frames=6, height=96, width=144)
    return folder / "clip.mp4"


def chosen(path, **options):
    source = find_source([str(path)])
    return choose_weights(source, Selection().choose(describe(source).times), **options)


def write(folder, images):
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).convert("RGB").save(folder / f"{number}.png")
    return folder


def test_two_depths_that_move_apart_are_parallax():
    seen = parallax(passing(2.0))
    assert seen.shows_depth
    assert seen.frames < 6  # no more is looked at than it takes
    assert seen.tracks > 100


@pytest.mark.parametrize("step", [0.002, 0.01, 0.02])
def test_a_camera_that_turns_on_the_spot_shows_none_however_far_it_turns(step):
    seen = parallax(turning(step))
    assert seen.frames == 6
    assert seen.has_texture
    assert seen.parallax < 0.3
    assert not seen.shows_depth


def test_a_camera_that_stands_still_shows_none_though_things_move():
    images = [texture(4)[:HEIGHT, :WIDTH].copy() for _ in range(6)]
    for i, image in enumerate(images):
        image[50:110, 20 + 6 * i : 80 + 6 * i] = texture(5)[:60, :60]
    assert parallax(images).parallax < 0.1


def test_black_and_grey_and_nothing_have_no_texture():
    for images in ([np.zeros((HEIGHT, WIDTH), np.uint8)] * 3, [np.full((HEIGHT, WIDTH), 90, np.uint8)] * 3, []):
        seen = parallax(images)
        assert seen.tracks == 0
        assert not seen.shows_depth


def test_frames_that_have_nothing_in_common_are_not_followed():
    assert not parallax([texture(seed)[:HEIGHT, :WIDTH] for seed in range(4)]).has_texture


def test_a_clip_with_parallax_gets_the_classical_predictor_and_the_reason(walk):
    choice = chosen(walk)
    assert choice.weights == "classical"
    assert "the clip has texture and parallax" in choice.because
    assert "see stereo4d weights list" in choice.words()
    assert chosen(walk) == choice  # the same every time


def test_a_clip_without_gets_the_embedded_network(tmp_path, walk, monkeypatch):
    turn, black = write(tmp_path / "turn", turning(0.01)), write(tmp_path / "black", [np.zeros((48, 64), np.uint8)] * 3)
    assert "too little parallax" in (choice := chosen(turn)).because
    assert choice.weights == "embedded"
    assert "too little texture" in (choice := chosen(black)).because
    assert choice.weights == "embedded"
    assert "one frame alone" in chosen(write(tmp_path / "one", turning(0.01)[:1])).because
    assert "takes a network" in (choice := chosen(walk, by_similarity=True)).because
    assert choice.weights == "embedded"
    monkeypatch.setattr(choosing, "is_installed", lambda name: False)
    assert "no predictor 'classical' is installed" in chosen(walk).because


def test_the_middle_of_a_clip_is_looked_at_where_its_start_shows_nothing(tmp_path):
    late = [np.zeros((HEIGHT, WIDTH), np.uint8)] * 8 + passing(2.0) + [np.zeros((HEIGHT, WIDTH), np.uint8)] * 8
    assert chosen(write(tmp_path / "late", late)).weights == "classical"


def test_the_choice_is_told_before_the_work_and_kept_in_the_manifest(tmp_path, capsys):
    clip = write(tmp_path / "turn", turning(0.01)[:2])
    argv = ["reconstruct", str(clip), "--out", str(tmp_path / "out"), "--size", "64"]
    assert main([*argv, "--dry-run"]) == 0
    assert "weights  embedded, chosen because the clip has too little parallax" in capsys.readouterr().out
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("weights    embedded, chosen because the clip has too little parallax")
    assert "official weights do better" in lines[0]
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())["weights"]
    assert said["source"] == "embedded"
    assert said["chosen_because"].startswith("the clip has too little parallax")
    asked = reconstruct(clip, tmp_path / "asked", weights="embedded", size=64)
    assert asked.manifest["weights"]["chosen_because"] is None
