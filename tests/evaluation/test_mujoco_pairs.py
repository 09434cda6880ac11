"""Pairs that MuJoCo renders: its cameras, depth and motion mean what ours mean."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from stereo4d.cli.main import main
from stereo4d.data.pair_batch import PairBatch
from stereo4d.errors import MissingDependencyError
from stereo4d.evaluation.mujoco_pairs import MujocoPairs, MujocoScene
from stereo4d.evaluation.mujoco_scene import Moves, SceneDrawing
from stereo4d.geometry.camera import pixel_grid, project
from stereo4d.geometry.rigid import invert, transform_points

HEIGHT, WIDTH = 96, 144


@pytest.fixture(scope="module", autouse=True)
def renderer() -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is missing: pip install mujoco (extra 'mujoco')")
    try:
        MujocoScene(lone_ball(), 16, 16).close()
    except MissingDependencyError as error:
        pytest.skip(f"MuJoCo cannot draw here without a screen; what to install: {error}")


def lone_ball() -> SceneDrawing:
    """A ball of radius 0.5 at (0.4, 3, 1.2), seen from (0, 0, 1) along +y; it travels 0.2 to the right."""
    xml = """<mujoco><statistic extent="1"/><visual><map znear="0.1" zfar="60"/></visual><worldbody>
    <body name="object0" mocap="true"><geom type="sphere" size="0.5"/></body>
    <body name="eye" mocap="true"><camera name="eye"/></body></worldbody></mujoco>"""
    ball = Moves(np.array([[0.4, 3, 1.2]]), np.zeros((1, 3)), np.array([[0.2, 0, 0]]), np.zeros((1, 3)))
    ahead = np.array([[np.pi / 2, 0, 0]])  # from MuJoCo's -z to +y
    half = np.full((1, 3), 0.5)
    return SceneDrawing(
        xml, half, ball, Moves(np.array([[0.0, 0, 1]]), ahead, np.zeros((1, 3)), np.zeros((1, 3))), 50.0
    )


@pytest.fixture(scope="module")
def pairs() -> PairBatch:
    return MujocoPairs(4, HEIGHT, WIDTH, (0.0, 0.5, 1.0)).make(3, "cpu")


def test_a_ball_is_seen_where_the_camera_model_puts_it() -> None:
    scene = MujocoScene(lone_ball(), 120, 160)
    view = scene.see(0.0)
    scene.close()
    v, u = np.nonzero(view.thing == 0)
    focal = 60 / np.tan(np.deg2rad(25))
    # x right, y down, z forward: the ball is 0.4 to the right, 0.2 up, 3 ahead
    expected = np.array([79.5 + focal * 0.4 / 3, 59.5 - focal * 0.2 / 3])
    np.testing.assert_allclose([(u.min() + u.max()) / 2, (v.min() + v.max()) / 2], expected, atol=1.0)
    points = view.points[view.thing == 0]
    np.testing.assert_allclose(np.linalg.norm(points - [0.4, 3, 1.2], axis=1), 0.5, atol=0.02)
    assert view.depth[0, 0] == 0
    assert view.rgb[v.mean().astype(int), u.mean().astype(int)].mean() > 20  # the picture shows it there too


def test_points_go_to_the_other_view_and_back_onto_their_pixel(pairs: PairBatch) -> None:
    seen = pairs.match0.isfinite().all(-1)
    assert float(seen.float().mean()) > 0.4
    column, row = pairs.match0.nan_to_num(0).round().long().unbind(-1)
    index = (row * WIDTH + column).flatten(1)[..., None].expand(-1, -1, 3)
    # what the other view says about that pixel, brought to time 0: times are 0, 1/2, 1
    landed = (pairs.pointmap1 + pairs.motion1[:, 0]).flatten(1, 2).gather(1, index).view_as(pairs.pointmap0)
    pixel, _ = project(landed, pairs.intrinsics0)
    start = pixel_grid(HEIGHT, WIDTH)
    rounding = (pairs.match0 - pairs.match0.round()).norm(dim=-1)
    off = (pixel - start).norm(dim=-1)[seen] - rounding[seen]
    assert float(off.median()) < 0.1
    assert float(off.quantile(0.9)) < 0.7
    moving = seen & pairs.moving0
    assert int(moving.sum()) > 100
    assert float((pixel - start).norm(dim=-1)[moving].median()) < 0.7


def test_motion_at_half_time_lies_between_and_ends_where_the_other_view_sees_it(pairs: PairBatch) -> None:
    assert not bool(pairs.motion0[:, 0].any())
    assert not bool(pairs.motion0.norm(dim=-1)[:, 2][pairs.valid0 & ~pairs.moving0].any())
    half, whole = (pairs.motion0[:, n].norm(dim=-1)[pairs.moving0] for n in (1, 2))
    assert float(whole.median()) > 0.05
    assert float((half / whole).median()) == pytest.approx(0.5, abs=0.05)
    seen = pairs.match0.isfinite().all(-1)
    there = transform_points(invert(pairs.relative), pairs.pointmap0 + pairs.motion0[:, 2])
    pixel, _ = project(there, pairs.intrinsics1)
    assert float((pixel - pairs.match0).norm(dim=-1)[seen].max()) < 0.02


def test_colours_follow_the_matches(pairs: PairBatch) -> None:
    scale = torch.tensor([2 / WIDTH, 2 / HEIGHT])
    grid = (pairs.match0 + 0.5) * scale - 1
    seen = pairs.match0.isfinite().all(-1)
    other = torch.nn.functional.grid_sample(pairs.image1, grid.nan_to_num(0), align_corners=False)
    error = (other - pairs.image0).abs().mean(1)[seen].mean()
    shifted = (other.roll(9, 3) - pairs.image0).abs().mean(1)[seen].mean()
    assert float(error) < 0.5 * float(shifted)


def test_the_same_number_is_the_same_batch_and_another_is_not(pairs: PairBatch) -> None:
    again = MujocoPairs(4, HEIGHT, WIDTH, (0.0, 0.5, 1.0)).make(3, "cpu")
    assert torch.equal(again.image0, pairs.image0)
    torch.testing.assert_close(again.pointmap1, pairs.pointmap1)
    other = MujocoPairs(1, HEIGHT, WIDTH).make(13, "cpu")
    assert not torch.equal(other.relative, pairs.relative[1:2])


def test_weights_are_measured_on_them_by_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "mujoco", "--pairs", "1", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["columns"]) == ["MuJoCo"]
    assert 0 < found["absrel"]["mean"] < 2
    assert main(["evaluate", "mujoco", "--kinds", "indoor", "--quiet"]) == 2
    assert "--pairs" in capsys.readouterr().err


def test_without_the_extra_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert main(["evaluate", "mujoco", "--pairs", "1", "--quiet"]) == 1
    assert "pip install mujoco" in capsys.readouterr().err.splitlines()[-1]
