"""COLMAP as a peer, on pictures of bright dots whose places are known exactly."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stereo4d.errors import InputError, MissingDependencyError, UsageError
from stereo4d.evaluation.clip_errors import trajectory_error
from stereo4d.evaluation.peer import ClipAnswer, load_peer

FRAMES, HEIGHT, WIDTH, FOCAL, DOTS = 8, 160, 240, 260.0, 500
CENTRE = np.array([0, 0, 4.5])


def arc(angle: float) -> np.ndarray:
    """(4, 4) cam2world of a camera that went around the middle of the sheet by an angle in radians, looking there."""
    cam2world = np.eye(4)
    cam2world[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    cam2world[:3, 3] = CENTRE - cam2world[:3, :3] @ CENTRE + [0, 0.5 * angle**2, 0]
    return cam2world


def dots(seed: int = 0) -> tuple[np.ndarray, ...]:
    """A bumpy sheet of dots seen by a camera that goes around it.

    Returns:
        (N, H, W, 3) uint8 pictures, (N, 4, 4) cam2world, (N, P, 2) pixels where the dots are, (N, P) their depth.
    """
    draw = np.random.default_rng(seed)
    points = CENTRE + draw.uniform(-1, 1, (DOTS, 3)) * [2.4, 1.6, 0]
    # Relief tells the focal; a smooth one leaves a dot the neighbours by which it is known again.
    points[:, 2] += 0.7 * np.sin(1.5 * points[:, 0]) * np.cos(1.5 * points[:, 1])
    bright, size = draw.uniform(60, 200, DOTS), draw.uniform(1.0, 2.2, DOTS)
    cam2world = np.stack([arc(angle) for angle in np.linspace(-0.35, 0.35, FRAMES)])
    world2cam = np.linalg.inv(cam2world)
    seen = points @ world2cam[:, :3, :3].transpose(0, 2, 1) + world2cam[:, None, :3, 3]
    # COLMAP takes the middle of the image for the principal point: in pixels with centres at integers (W - 1) / 2.
    pixels = FOCAL * seen[..., :2] / seen[..., 2:] + [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    v, u = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    pictures = []
    for places in pixels:
        # A round Gaussian is a column times a row, so that a picture is one product of matrices.
        columns = np.exp(-((v - places[:, 1]) ** 2) / (2 * size**2)) * bright
        rows = np.exp(-((u[:, None] - places[:, 0]) ** 2) / (2 * size**2))
        picture = columns @ rows.T
        pictures.append(np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, -1))
    return np.stack(pictures), cam2world, pixels, seen[..., 2]


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, ...]:
    return dots()


@pytest.fixture(scope="module")
def answer(world) -> ClipAnswer:
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")
    return load_peer("colmap").reconstruct(world[0], seed=3)


def test_the_camera_path_is_recovered(world, answer):
    assert answer.placed.all()
    assert answer.failure == ""
    assert trajectory_error(answer.cam2world, world[1], answer.placed) < 0.01
    assert np.abs(answer.focal / FOCAL - 1).max() < 0.05


def test_pixels_have_their_centres_at_integers(world, answer):
    pixels = world[2]
    assert len(answer.points) > 100
    offsets = []
    for frame, pixel in zip(answer.points.frame, answer.points.pixel, strict=True):
        offset = pixel - pixels[frame]
        nearest = offset[np.linalg.norm(offset, axis=-1).argmin()]
        if np.linalg.norm(nearest) < 1.5:
            offsets.append(nearest)
    assert len(offsets) > 100
    assert np.abs(np.median(offsets, 0)).max() < 0.15


def test_depth_is_that_of_the_dots_up_to_one_scale(world, answer):
    ends = [poses[-1, :3, 3] - poses[0, :3, 3] for poses in (world[1], answer.cam2world)]
    depth = answer.points.depth * np.linalg.norm(ends[0]) / np.linalg.norm(ends[1])
    assert np.quantile(depth, [0.02, 0.5, 0.98]) == pytest.approx(np.quantile(world[3], [0.02, 0.5, 0.98]), rel=0.05)


def test_the_same_seed_gives_the_same_answer(world, answer):
    again = load_peer("colmap").reconstruct(world[0], seed=3)
    np.testing.assert_array_equal(again.cam2world, answer.cam2world)
    np.testing.assert_array_equal(again.points.depth, answer.points.depth)


def test_black_frames_are_an_answer_with_a_reason():
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")
    answer = load_peer("colmap").reconstruct(np.zeros((3, 64, 96, 3), np.uint8))
    assert not answer.placed.any()
    assert len(answer.points) == 0
    assert answer.failure == "no model: 0 features a frame, 0 verified matches a pair of frames"


def test_what_is_not_a_clip_is_refused():
    with pytest.raises(InputError, match=r"\(4, 4\) float64"):
        load_peer("colmap").reconstruct(np.zeros((4, 4)))


def test_without_pycolmap_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MissingDependencyError, match="pip install pycolmap"):
        load_peer("colmap").reconstruct(np.zeros((2, 16, 16, 3), np.uint8))


def test_a_peer_that_is_not_installed_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="colmap"):
        load_peer("bundler")


def test_a_process_that_dies_is_an_answer_with_what_it_said():
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")
    answer = load_peer("colmap").reconstruct(np.zeros((2, 16, 16, 3), np.uint8), seed=2**80)
    assert not answer.placed.any()
    assert answer.failure.startswith("COLMAP ended with exit code 1 and said: ")
