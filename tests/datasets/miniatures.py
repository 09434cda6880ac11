"""A clip of the synthetic world, and data sets made of it in their true layouts on disk."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from stereo4d.data.conventions import Conventions, pixels_of, ray_length
from stereo4d.data.synthetic.motion import camera_pose, surface_position
from stereo4d.data.synthetic.render import render
from stereo4d.data.synthetic.world import World, WorldConfig, sample_world

HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 6, 10.0
MILLIMETRES = Conventions(depth_unit=0.001)


@dataclass(frozen=True)
class Filmed:
    """What a camera of 60 degrees saw of a world, with its truth."""

    rgb: np.ndarray
    depth: np.ndarray
    moving: np.ndarray
    cam2world: np.ndarray
    intrinsics: np.ndarray
    tracks: np.ndarray
    """(N, T, 3) float64; NaN where a point is hidden."""


def film(*, seed: int = 3, frames: int = FRAMES) -> Filmed:
    config = WorldConfig(moving_share=0.6, camera_travel=(0.5, 0.7), target_travel=0.4)
    world = sample_world(config, 1, seed=seed)
    focal = WIDTH / 2 / math.tan(math.pi / 6)
    lens = torch.tensor([[[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1.0]]])
    times = torch.linspace(0, 0.5, frames)
    poses = [camera_pose(world, time[None]) for time in times]
    seen = [
        render(world, time[None], pose, lens, HEIGHT, WIDTH, samples=3) for time, pose in zip(times, poses, strict=True)
    ]
    cam2world = np.concatenate([pose.double().numpy() for pose in poses])
    depth = np.concatenate([one.depth.numpy() for one in seen])
    intrinsics = lens[0].double().numpy()
    return Filmed(
        rgb=np.stack([(one.rgb[0].clamp(0, 1) * 255).round().byte().numpy() for one in seen]),
        depth=depth,
        moving=np.concatenate([one.moving.numpy() for one in seen]),
        cam2world=cam2world,
        intrinsics=intrinsics,
        tracks=_tracks(world, seen, times, cam2world, intrinsics, depth),
    )


def _tracks(world: World, seen: list, times: torch.Tensor, cam2world, intrinsics, depth) -> np.ndarray:
    """Surface points of every third pixel of two frames, hidden where something is in front of them."""
    rows = []
    for start in (0, len(seen) // 2):
        surface, local = seen[start].surface[:, ::3, ::3], seen[start].local[:, ::3, ::3]
        rows.append(np.stack([surface_position(world, surface, local, t[None])[0].reshape(-1, 3) for t in times], 1))
    tracks = np.concatenate(rows).astype(np.float64)
    for frame, pose in enumerate(cam2world):
        in_camera = (tracks[:, frame] - pose[:3, 3]) @ pose[:3, :3]
        u, v = (in_camera @ intrinsics.T)[:, :2].T / in_camera[:, 2]
        x, y = np.rint(u).clip(0, WIDTH - 1).astype(int), np.rint(v).clip(0, HEIGHT - 1).astype(int)
        inside = (abs(u - x) <= 0.5) & (abs(v - y) <= 0.5) & (in_camera[:, 2] > 0)
        tracks[~(inside & (abs(depth[frame][y, x] - in_camera[:, 2]) < 0.05)), frame] = np.nan
    return tracks


def write_folder(
    scene: Path,
    filmed: Filmed,
    *,
    poses: str = "tum",
    depth: str = ".png",
    conventions: Conventions = MILLIMETRES,
    stems: list[str] | None = None,
) -> Path:
    """A scene folder: images, depths, masks, poses of one of the formats, intrinsics."""
    stems = stems or [f"{index:05d}" for index in range(len(filmed.rgb))]
    for folder in ("images", "depths", "masks"):
        (scene / folder).mkdir(parents=True)
    for stem, rgb, truth, moving in zip(stems, filmed.rgb, filmed.depth, filmed.moving, strict=True):
        Image.fromarray(rgb).save(scene / "images" / f"{stem}.png")
        Image.fromarray(moving.astype(np.uint8) * 255).save(scene / "masks" / f"{stem}.png")
        stored = conventions.stored_depth(truth, ray_length(pixels_of(*truth.shape), filmed.intrinsics))
        if depth == ".png":
            Image.fromarray(stored.round().astype(np.uint16)).save(scene / "depths" / f"{stem}.png")
        else:
            np.save(scene / "depths" / f"{stem}.npy", stored)
    lens = conventions.stored_intrinsics(filmed.intrinsics)
    numbers = [lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]]
    (scene / "intrinsics.txt").write_text(" ".join(map(str, numbers)) + "\n")
    _write_poses(scene, conventions.stored_pose(filmed.cam2world), poses, stems, numbers)
    return scene


def _write_poses(scene: Path, stored: np.ndarray, form: str, stems: list[str], numbers: list[float]) -> None:
    if form == "tum":
        stamps = [float(stem) if "." in stem else index / FPS for index, stem in enumerate(stems)]
        rows = np.column_stack([stamps, stored[:, :3, 3], Rotation.from_matrix(stored[:, :3, :3]).as_quat()])
        np.savetxt(scene / "poses.txt", rows, fmt="%.9f", header="timestamp tx ty tz qx qy qz qw")
    elif form == "kitti":
        np.savetxt(scene / "poses.txt", stored[:, :3].reshape(-1, 12))
    elif form == "npy":
        np.save(scene / "poses.npy", stored)
    elif form == "npz":
        np.savez(scene / "poses.npz", cam2world=stored[1:], frames=np.arange(1, len(stored)))
    elif form == "folder":
        (scene / "pose").mkdir()
        for stem, pose in zip(stems, stored, strict=True):
            np.savetxt(scene / "pose" / f"{stem}.txt", pose)
    else:
        frames = [
            {"file_path": f"images/{stem}.png", "transform_matrix": pose.tolist()}
            for stem, pose in zip(stems, stored, strict=True)
        ]
        camera = dict(zip(("fl_x", "fl_y", "cx", "cy"), numbers, strict=True), w=WIDTH, h=HEIGHT)
        (scene / "transforms.json").write_text(json.dumps({**camera, "camera_model": "OPENCV", "frames": frames}))


def write_release(root: Path, filmed: Filmed, *, name: str = "aBcD-123_4_5005000", cam2world=None) -> Path:
    """A clip of the Stereo4D release, with its left rectified video."""
    root.mkdir(parents=True, exist_ok=True)
    visible = np.isfinite(filmed.tracks).all(2)
    poses = filmed.cam2world if cam2world is None else cam2world
    np.savez(
        root / f"{name}.npz",
        name=np.array(name),
        video_id=np.array("aBcD-123_4"),
        timestamps=(5_005_000 + np.arange(len(poses)) * 100_000).astype(np.int64),
        camera2world=poses[:, :3].astype(np.float32),
        track_lengths=visible.sum(1),
        track_indices=np.nonzero(visible)[1],
        track_coordinates=filmed.tracks[visible].astype(np.float32),
        rectified2rig=np.stack([np.eye(3)] * 2),
        fov_bounds=np.array([-90.0, 90, -90, 90]),
    )
    with av.open(str(root / f"{name}-left_rectified.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=int(FPS), options={"crf": "8"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for picture in filmed.rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return root
