import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.geometry.camera import pinhole, pixel_grid
from stereo4d.geometry.pnp import inlier_threshold, pnp_of_pointmap, solve_pnp

GOLDEN = Path(__file__).parents[1] / "golden"


def known_camera(points_count: int = 300, seed: int = 0):
    """Points seen by a known camera: points (P, 3), pixels (P, 2), intrinsics, cam2world."""
    rng = np.random.default_rng(seed)
    intrinsics = pinhole(torch.tensor(90.0), 96, 128).double().numpy()
    pixels = rng.uniform([0, 0], [127, 95], (points_count, 2))
    depth = rng.uniform(1, 4, (points_count, 1))
    in_camera = depth * np.concatenate([(pixels - [64, 48]) / 90.0, np.ones_like(depth)], 1)
    angle = 0.3
    cam2world = np.eye(4)
    cam2world[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    cam2world[:3, 3] = [0.5, -0.2, 0.1]
    return in_camera @ cam2world[:3, :3].T + cam2world[:3, 3], pixels, intrinsics, cam2world


def test_pnp_finds_the_camera_though_a_third_of_the_points_is_wrong():
    points, pixels, intrinsics, cam2world = known_camera()
    points[:100] = np.random.default_rng(1).uniform(-2, 2, (100, 3))
    found = solve_pnp(points, pixels, intrinsics, threshold=1.5)
    np.testing.assert_allclose(found.cam2world, cam2world, atol=1e-5)
    assert 200 <= found.inliers <= 210


def test_pnp_agrees_with_the_stored_reference():
    scene = np.load(GOLDEN / "align_scene.npz")
    golden = json.loads((GOLDEN / "align_misc.json").read_text())["pnp_cam1_in_frame0_known_focal"]
    edge = scene["edges"].tolist().index([0, 1])
    intrinsics = pinhole(torch.tensor(31.0), 24, 32)
    found = pnp_of_pointmap(torch.from_numpy(scene["pts3d_2"][edge]), intrinsics)
    relative = found.cam2world[:3, :3].T @ np.array(golden["gt_rel"])[:3, :3]
    assert np.degrees(np.arccos((np.trace(relative) - 1) / 2)) < 0.2


def test_pnp_is_deterministic_for_a_seed():
    points, pixels, intrinsics, _ = known_camera()
    points[:150] += np.random.default_rng(2).normal(0, 0.2, (150, 3))
    first, second = (solve_pnp(points, pixels, intrinsics, threshold=1.0, seed=3) for _ in range(2))
    assert np.array_equal(first.cam2world, second.cam2world)


@pytest.mark.parametrize("case", ["too few", "one point", "nan", "nan focal"])
def test_pnp_without_an_answer_says_zero_inliers(case):
    points, pixels, intrinsics, _ = known_camera()
    if case == "too few":
        points, pixels = points[:5], pixels[:5]
    elif case == "one point":
        points[:] = points[0]
    elif case == "nan":
        points[:] = np.nan
    else:
        intrinsics = intrinsics * np.nan
    found = solve_pnp(points, pixels, intrinsics, threshold=0.5)
    assert found.inliers == 0
    assert np.array_equal(found.cam2world, np.eye(4))


def test_the_inlier_threshold_scales_with_resolution():
    assert inlier_threshold(384, 512) == pytest.approx(5.12)
    assert inlier_threshold(112, 160) == pytest.approx(1.6)
    assert inlier_threshold(24, 32) == 0.5


def test_pnp_of_a_pointmap_uses_its_confident_half():
    intrinsics = pinhole(torch.tensor(30.0), 24, 32)
    pixels = pixel_grid(24, 32)
    depth = 1 + torch.rand(24, 32, generator=torch.Generator().manual_seed(0))
    pointmap = torch.cat([(pixels - torch.tensor([16.0, 12.0])) / 30.0, torch.ones(24, 32, 1)], -1) * depth[..., None]
    pointmap, confidence = pointmap + 0.1, torch.full((24, 32), 5.0)
    pointmap[:11], confidence[:11] = 7.0, 1.1
    found = pnp_of_pointmap(pointmap, intrinsics, confidence)
    np.testing.assert_allclose(found.cam2world[:3, 3], 0.1, atol=1e-4)
