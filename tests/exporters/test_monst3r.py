"""MonST3R's files, read back by readers that know nothing of ours, are the scene."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stereo4d import Scene


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory) -> Path:
    (folder,) = made[0].export(["monst3r"], tmp_path_factory.mktemp("out") / "clip")
    return folder


def poses_in(folder: Path) -> np.ndarray:
    """(N, 4, 4) of ``pred_traj.txt``, by the formula of a quaternion's rotation."""
    number, x, y, z, qw, qx, qy, qz = np.loadtxt(folder / "pred_traj.txt").T
    assert number.tolist() == list(range(len(number)))
    poses = np.tile(np.eye(4), (len(x), 1, 1))
    poses[:, :3, 3] = np.stack([x, y, z], -1)
    cross = np.zeros((len(x), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]] = np.stack([qx, qy, qz], -1)
    cross[:, [1, 2, 0], [2, 0, 1]] = -np.stack([qx, qy, qz], -1)
    assert qw**2 + qx**2 + qy**2 + qz**2 == pytest.approx(np.ones(len(x)), abs=1e-6)
    poses[:, :3, :3] = np.eye(3) + 2 * qw[:, None, None] * cross + 2 * cross @ cross
    return poses


def test_the_folder_holds_what_monst3r_writes_and_a_note(made, folder):
    frames = range(len(made[0]))
    expected = {"pred_traj.txt", "pred_intrinsics.txt", "pred_focal.txt", "_depth_maps.gif", "export.json"}
    expected |= {f"frame_{i:04d}.{kind}" for i in frames for kind in ("png", "npy")}
    expected |= {f"{kind}_{i}.npy" for i in frames for kind in ("conf", "init_conf")}
    expected |= {f"{kind}_{i}.png" for i in frames for kind in ("dynamic_mask", "enlarged_dynamic_mask")}
    assert {path.name for path in folder.iterdir()} == expected


def test_cameras_are_those_of_the_scene(made, folder):
    scene = made[0]
    assert poses_in(folder) == pytest.approx(scene.cam2world, abs=1e-6)
    assert np.abs(scene.cam2world[-1] - np.eye(4)).max() > 1e-2  # something to mix up
    numbers = np.loadtxt(folder / "pred_intrinsics.txt").astype(np.float32)
    assert (numbers.reshape(-1, 3, 3) == scene.intrinsics).all()
    assert (np.loadtxt(folder / "pred_focal.txt").astype(np.float32) == scene.intrinsics[:, 0, 0]).all()


def test_text_is_numbers_and_blanks_alone(folder):
    for name in ("pred_traj.txt", "pred_intrinsics.txt", "pred_focal.txt"):
        assert re.fullmatch(r"([-+\d.e]+( [-+\d.e]+)*\n)+", (folder / name).read_text())


def test_maps_and_pictures_are_those_of_the_scene_to_the_last_bit(made, folder):
    scene = made[0]
    for i in range(len(scene)):
        depth = np.load(folder / f"frame_{i:04d}.npy")
        assert depth.dtype == np.float32
        assert (depth == scene.depth[i]).all()
        assert (np.asarray(Image.open(folder / f"frame_{i:04d}.png")) == scene.rgb[i]).all()
        weight = np.load(folder / f"conf_{i}.npy")
        assert np.exp(weight) == pytest.approx(np.asarray(scene.confidence[i], np.float32), rel=1e-6)
        assert (np.load(folder / f"init_conf_{i}.npy") == weight).all()
        mask = np.asarray(Image.open(folder / f"dynamic_mask_{i}.png"))
        assert (mask == 255 * np.asarray(scene.dynamic[i])).all()


def test_enlarged_masks_reach_one_pixel_further_every_way(made, folder):
    for i in range(len(made[0])):
        mask = np.pad(np.asarray(made[0].dynamic[i]) != 0, 1)
        height, width = made[0].dynamic.shape[1:]
        around = [mask[v : v + height, u : u + width] for v in range(3) for u in range(3)]
        enlarged = np.asarray(Image.open(folder / f"enlarged_dynamic_mask_{i}.png"))
        assert (enlarged == 255 * np.any(around, 0)).all()
    assert (enlarged > 0).sum() > mask.sum()


def test_points_from_the_files_alone_are_those_of_the_scene(made, folder):
    """What a viewer of such folders does."""
    poses, inner = poses_in(folder), np.loadtxt(folder / "pred_intrinsics.txt").reshape(-1, 3, 3)
    for i in range(len(made[0])):
        depth = np.load(folder / f"frame_{i:04d}.npy").astype(np.float64)
        v, u = np.indices(depth.shape)
        camera = depth[..., None] * (np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(inner[i]).T)
        world = camera @ poses[i, :3, :3].T + poses[i, :3, 3]
        assert world == pytest.approx(made[0].points(i), abs=1e-4)


def test_the_animation_shows_every_depth_map_near_things_bright(made, folder):
    pictures = [
        np.asarray(frame.convert("L"), float)
        for frame in ImageSequence.Iterator(Image.open(folder / "_depth_maps.gif"))
    ]
    assert len(pictures) == len(made[0])
    for picture, depth in zip(pictures, made[0].depth, strict=True):
        assert picture.shape == depth.shape
        assert np.corrcoef(picture.ravel(), 1 / np.asarray(depth, float).ravel())[0, 1] > 0.9


def test_pixels_without_a_depth_have_depth_zero(made, tmp_path):
    depth = np.array(made[0].depth)
    depth[:, 0], depth[:, 1], depth[2] = 0, -1, 0
    (folder,) = replace(made[0], depth=depth).export(["monst3r"], tmp_path / "out")
    found = np.load(folder / "frame_0000.npy")
    assert (found[:2] == 0).all()
    assert (found[2:] > 0).all()
    assert (np.load(folder / "frame_0002.npy") == 0).all()


def test_a_scene_of_one_frame_without_any_depth_is_written_too(made, tmp_path):
    scene = made[0]
    names = ("cam2world", "intrinsics", "depth", "confidence", "dynamic", "rgb", "times", "frame_indices")
    one = Scene(
        **{name: getattr(scene, name)[:1] * (name != "depth") for name in names},
        intrinsics_original=scene.intrinsics_original[:1],
        original_sizes=scene.original_sizes[:1],
    )
    (folder,) = one.export(["monst3r"], tmp_path / "out")
    assert np.loadtxt(folder / "pred_traj.txt").shape == (8,)
    assert not np.load(folder / "frame_0000.npy").any()
