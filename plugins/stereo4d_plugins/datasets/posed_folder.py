"""Any folder of images with depth, poses and intrinsics as a data set; formats are in docs/data.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stereo4d.data.conventions import Conventions, DepthKind, pixels_of, ray_length
from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.data.transforms import open_image
from stereo4d.errors import InputError
from stereo4d.video.outside_files import open_npy
from stereo4d_plugins.datasets.scene_cameras import SceneCameras, partner, read_cameras


class PosedFolder(PosedFrames):
    """Scenes are folders, each with images, depth maps, poses and intrinsics.

    Args:
        root: the folder of scenes, or one scene itself.
        scene_pattern: which folders of the root are scenes: ``*/*`` where they lie one level further down.
        images: the folder of images in a scene.
        depths: the folder of depth maps in a scene, a 16-bit .png or a .npy for each image.
        poses: the file of poses in a scene: TUM, KITTI, .npy, .npz, nerfstudio's transforms.json, or a folder with a
            .txt for each image.
        intrinsics: the file of intrinsics in a scene or in the root, or fx fy cx cy; transforms.json brings its own.
        conventions: what poses, intrinsics and depth mean.
        moving: the folder of masks of what moves, if there is one; not zero moves.
        sky: the folder of masks of the sky, if there is one.
        background: the folder of masks of what is behind the object that a scene is about, if there is one.
        metric: the unit of the poses is the metre.
        fps: images a second, where no file says times.
        name: for messages; by default that of the root.
    """

    def __init__(
        self,
        root: str,
        *,
        scene_pattern: str = "*",
        images: str = "images",
        depths: str = "depths",
        poses: str = "poses.txt",
        intrinsics: str | list[float] = "intrinsics.txt",
        conventions: Conventions | None = None,
        moving: str | None = None,
        sky: str | None = None,
        background: str | None = None,
        metric: bool = False,
        fps: float = 30.0,
        name: str | None = None,
    ) -> None:
        self.root, self.scene_pattern, self.images, self.depths = Path(root), scene_pattern, images, depths
        self.poses, self.intrinsics, self.fps = poses, intrinsics, fps
        self.conventions = conventions or Conventions()
        self.moving, self.sky, self.background, self.metric = moving, sky, background, metric
        self.name = name or self.root.name
        self._cameras: dict[str, SceneCameras] = {}

    def scenes(self) -> Sequence[str]:
        """Folders of the root that hold poses, by name; ``.`` is the root itself."""
        if (self.root / self.poses).exists():
            return ["."]
        found = sorted(path.parent for path in self.root.glob(f"{self.scene_pattern}/{self.poses}"))
        if not found:
            reason = "" if self.root.is_dir() else ": no such folder"
            raise InputError(f"{self.root}{reason}: no scene in it; looked for {self.scene_pattern}/{self.poses}")
        return [str(path.relative_to(self.root)) for path in found]

    def times(self, scene: str) -> np.ndarray:
        """(T,) float64 seconds of the images that have a pose."""
        return self.cameras(scene).times

    def frame(self, scene: str, index: int) -> Frame:
        """An image with its depth and camera."""
        cameras = self.cameras(scene)
        image, means = cameras.images[index], cameras.conventions
        rgb, lens = np.asarray(open_image(image)), means.intrinsics(cameras.intrinsics[index])
        stored = self._map(scene, image, self.depths, rgb)
        masks = {
            kind: None if folder is None else self._map(scene, image, folder, rgb) != 0
            for kind, folder in (("moving", self.moving), ("sky", self.sky), ("background", self.background))
        }
        # rays of all pixels take as long as reading them, and depth is rarely along them
        along = means.depth_kind == DepthKind.ray
        depth = means.depth(stored, ray_length(pixels_of(*stored.shape), lens) if along else np.ones(1))
        return Frame(rgb, lens, means.cam2world(cameras.poses[index]), depth, **masks)

    def cameras(self, scene: str) -> SceneCameras:
        """Cameras of a scene; read once."""
        if scene not in self._cameras:
            where = (self.root / scene, self.images, self.poses, self.intrinsics)
            self._cameras[scene] = read_cameras(*where, self.conventions, self.fps)
        return self._cameras[scene]

    def _map(self, scene: str, image: Path, folder: str, rgb: np.ndarray) -> np.ndarray:
        """(H, W) numbers of the file that belongs to an image, of the image's size."""
        path = partner(image, self.root / scene / folder, (".png", ".npy"))
        values = np.asarray(open_npy(path) if path.suffix == ".npy" else open_image(path, mode=None))
        if values.shape != rgb.shape[:2]:
            raise InputError(f"{path}: is {values.shape}, {image.name} is {rgb.shape[:2]} (height, width); resize one")
        return values
