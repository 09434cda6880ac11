"""The files that MonST3R's demo and evaluation write, so that its viewers and scripts read ours (docs/monst3r.md).

All of them are at network resolution, as there.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from stereo4d.exporting import Exporter
from stereo4d.types import Scene
from stereo4d_plugins.exporters.files import write_npy, write_png, write_rows

_ENLARGED_BY = np.ones((3, 3), bool)
_FRAME_MS = 100


class Monst3r(Exporter):
    """MonST3R's output folder."""

    def write(self, scene: Scene, folder: Path) -> None:
        """See ``Exporter.write``."""
        write_rows(folder / "pred_traj.txt", trajectory_rows(scene.cam2world))
        write_rows(folder / "pred_intrinsics.txt", scene.intrinsics.reshape(-1, 9))
        write_rows(folder / "pred_focal.txt", scene.intrinsics[:, :1, 0])
        for frame in range(len(scene)):
            write_frame(scene, frame, folder)
        (folder / "_depth_maps.gif").write_bytes(depth_animation(scene))


def trajectory_rows(cam2world: np.ndarray) -> np.ndarray:
    """(N, 8): frame number, x y z, then the quaternion scalar first, qw qx qy qz, of camera to world (N, 4, 4)."""
    poses = np.asarray(cam2world, np.float64)
    x, y, z, w = Rotation.from_matrix(poses[:, :3, :3]).as_quat().T
    return np.column_stack([np.arange(len(poses)), poses[:, :3, 3], w, x, y, z])


def write_frame(scene: Scene, frame: int, folder: Path) -> None:
    """Write the maps of one frame.

    Confidence is written as MonST3R weighs by it, as its logarithm. Ours is not cleaned after the alignment, so both
    files of it are the same.
    """
    depth = np.asarray(scene.depth[frame], np.float32)
    write_npy(folder / f"frame_{frame:04d}.npy", np.where(depth > 0, depth, np.float32(0)))
    write_png(folder / f"frame_{frame:04d}.png", scene.rgb[frame])
    weight = np.log(np.asarray(scene.confidence[frame], np.float32))
    write_npy(folder / f"conf_{frame}.npy", weight)
    write_npy(folder / f"init_conf_{frame}.npy", weight)
    moving = np.asarray(scene.dynamic[frame]) != 0
    write_png(folder / f"dynamic_mask_{frame}.png", as_mask(moving))
    write_png(folder / f"enlarged_dynamic_mask_{frame}.png", as_mask(binary_dilation(moving, _ENLARGED_BY)))


def as_mask(chosen: np.ndarray) -> np.ndarray:
    """(H, W) bool as a picture, 255 where it holds."""
    return np.where(chosen, np.uint8(255), np.uint8(0))


def depth_animation(scene: Scene) -> bytes:
    """A GIF of all depth maps, near things bright; the range of colours is that of the whole clip."""
    near, far = depth_range(scene)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1].tobytes()

    def shown(frame: int) -> Image.Image:
        depth = np.asarray(scene.depth[frame], np.float32)
        # Equal steps of disparity are equal steps of colour.
        nearness = (1 / np.where(depth > 0, depth, np.inf) - 1 / far) / max(1 / near - 1 / far, 1e-12)
        picture = Image.fromarray((255 * nearness.clip(0, 1)).astype(np.uint8))
        picture.putpalette(palette)
        return picture

    content = io.BytesIO()
    rest = (shown(frame) for frame in range(1, len(scene)))
    shown(0).save(content, format="GIF", save_all=True, append_images=rest, duration=_FRAME_MS, loop=0, optimize=False)
    return content.getvalue()


def depth_range(scene: Scene) -> tuple[float, float]:
    """The depths that 2 and 98 of 100 pixels lie beyond, of a few frames; 1 and 2 where nothing has a depth."""
    chosen = np.unique(np.linspace(0, len(scene) - 1, 16).astype(int))
    depth = np.concatenate([np.asarray(scene.depth[frame], np.float32).ravel() for frame in chosen])
    measured = depth[depth > 0]
    if not len(measured):
        return 1.0, 2.0
    near, far = np.quantile(measured, [0.02, 0.98])
    return float(near), float(far)
