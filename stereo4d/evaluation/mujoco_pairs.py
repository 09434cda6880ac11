"""Image pairs that MuJoCo renders, with exact truth: what the synthetic worlds' own renderer has no part in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch, joined
from stereo4d.errors import MissingDependencyError
from stereo4d.evaluation.mujoco_scene import CAMERA, TO_OPENCV, SceneDrawing, arranged, draw_scene

PAIRS_A_SCENE = 4


def load_mujoco() -> ModuleType:
    """MuJoCo, drawing without a screen.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo reads it when it is imported
    try:
        import mujoco
    except ImportError:
        raise MissingDependencyError(
            "MuJoCo is not installed: pip install mujoco, or stereo4d with the extra 'mujoco'"
        ) from None
    return mujoco


@dataclass(frozen=True)
class MujocoView:
    """What a camera sees at one time."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    depth: np.ndarray
    """(H, W) metres along the optical axis; 0 in the sky."""
    geom: np.ndarray
    """(H, W) MuJoCo's number of what is seen; -1 in the sky."""
    thing: np.ndarray
    """(H, W) which of the scene's objects; -1 for all that stands."""
    cam2world: np.ndarray
    """(4, 4) OpenCV's axes, in MuJoCo's world."""
    points: np.ndarray
    """(H, W, 3) in MuJoCo's world; the camera's place in the sky."""


class MujocoScene:
    """A scene that MuJoCo has compiled; close it after use."""

    def __init__(self, drawing: SceneDrawing, height: int, width: int) -> None:
        mujoco = load_mujoco()
        self.size = (height, width)
        self._forward = mujoco.mj_forward
        self.model = mujoco.MjModel.from_xml_string(drawing.xml)
        self.model.vis.global_.offheight, self.model.vis.global_.offwidth = height, width
        self.data = mujoco.MjData(self.model)
        try:
            self._renderer = mujoco.Renderer(self.model, height, width)
        except (RuntimeError, AttributeError, mujoco.FatalError) as error:
            raise MissingDependencyError(
                f"MuJoCo finds no way to draw ({' '.join(str(error).split())}): install EGL (libegl1), "
                "or set MUJOCO_GL=osmesa"
            ) from error
        bodies = [self.model.body(f"object{n}") for n in range(len(drawing.objects.position))]
        self._things = np.full(self.model.nbody, -1)
        self._things[[body.id for body in bodies]] = np.arange(len(bodies))
        self._mocap = [int(body.mocapid[0]) for body in bodies] + [int(self.model.body(CAMERA).mocapid[0])]

        self.arrange(drawing)

    def arrange(self, drawing: SceneDrawing) -> None:
        """Show the same things as another drawing places them; a new drawing context costs more than a picture."""
        self.drawing = drawing
        self.model.cam_fovy[:] = drawing.field_of_view

    def close(self) -> None:
        """Give the drawing context back."""
        self._renderer.close()

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3), pixel centres at integers."""
        height, width = self.size
        focal = height / 2 / np.tan(np.deg2rad(self.drawing.field_of_view) / 2)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])

    def see(self, time: float) -> MujocoView:
        """Picture, depth and what is where, at a time of the pair."""
        self._place(time)
        rgb = self._drawn()
        self._renderer.enable_depth_rendering()
        depth = self._drawn().astype(np.float64)
        self._renderer.disable_depth_rendering()
        self._renderer.enable_segmentation_rendering()
        geom = self._drawn()[..., 0].astype(np.int64)
        self._renderer.disable_segmentation_rendering()
        camera = self.data.camera(CAMERA)
        cam2world = np.eye(4)
        cam2world[:3, :3], cam2world[:3, 3] = camera.xmat.reshape(3, 3) @ TO_OPENCV, camera.xpos
        depth[geom < 0] = 0
        height, width = self.size
        v, u = np.mgrid[:height, :width]
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(self.intrinsics).T
        points = (rays * depth[..., None]) @ cam2world[:3, :3].T + cam2world[:3, 3]
        thing = np.where(geom < 0, -1, self._things[self.model.geom_bodyid[geom]])
        return MujocoView(rgb, depth, geom, thing, cam2world, points)

    def moved(self, view: MujocoView, start: float, end: float) -> np.ndarray:
        """(H, W, 3) where the points that a view saw at a time are at another, in MuJoCo's world."""
        if start == end:
            return view.points  # to the last bit
        objects = self.drawing.objects
        change = objects.poses(end) @ np.linalg.inv(objects.poses(start))
        change[~objects.moving] = np.eye(4)
        change = np.concatenate([change, np.eye(4)[None]])[view.thing]  # -1 is the last: what stands
        return (change[..., :3, :3] @ view.points[..., None])[..., 0] + change[..., :3, 3]

    def _place(self, time: float) -> None:
        poses = np.concatenate([self.drawing.objects.poses(time), self.drawing.camera.poses(time)])
        for number, pose in zip(self._mocap, poses, strict=True):
            self.data.mocap_pos[number] = pose[:3, 3]
            self.data.mocap_quat[number] = _quaternion(pose[:3, :3])
        self._forward(self.model, self.data)

    def _drawn(self) -> np.ndarray:
        self._renderer.update_scene(self.data, camera=CAMERA)
        return self._renderer.render().copy()


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]


@dataclass(frozen=True)
class MujocoPairs:
    """Batches of pairs by number; see ``pair_columns.PairSource``."""

    batch_size: int
    height: int
    width: int
    at_times: tuple[float, ...] = ()
    """Times at which motion is known: 0 is view 0's, 1 view 1's."""

    def make(self, number: int, device: torch.device | str) -> PairBatch:
        """The batch of that number."""
        pairs = []
        for first in range(0, self.batch_size, PAIRS_A_SCENE):
            pairs += self._of_scene(number * self.batch_size + first, min(PAIRS_A_SCENE, self.batch_size - first))
        return joined(pairs).to(device)

    def _of_scene(self, seed: int, count: int) -> list[PairBatch]:
        """Some pairs of the same things and textures, each with places, motions and a camera of its own."""
        rng, aspect = np.random.default_rng(seed), self.width / self.height
        drawing = draw_scene(rng, aspect=aspect)
        scene = MujocoScene(drawing, self.height, self.width)
        try:
            pairs = []
            for place in range(count):
                scene.arrange(arranged(rng, drawing.xml, drawing.sizes, aspect=aspect))
                pairs.append(pair_of(scene, self.at_times, f"MuJoCo pair {seed + place}"))
            return pairs
        finally:
            scene.close()


def pair_of(scene: MujocoScene, times: tuple[float, ...], name: str) -> PairBatch:
    """The pair that a scene is, at times 0 and 1, with all its truth."""
    views = scene.see(0.0), scene.see(1.0)
    back = np.linalg.inv(views[0].cam2world)
    given: dict[str, Any] = {}
    for number, view in enumerate(views):
        valid = view.geom >= 0
        ends = np.stack([scene.moved(view, float(number), time) for time in times] or [view.points])[: len(times)]
        motion = (ends - view.points) @ back[:3, :3].T
        points = view.points @ back[:3, :3].T + back[:3, 3]
        known = valid[None] & (np.array(times).reshape(-1, 1, 1) != number)
        moving = np.append(scene.drawing.objects.moving, False)[view.thing]
        given |= {
            f"image{number}": _real(view.rgb / 127.5 - 1).permute(0, 3, 1, 2).contiguous(),
            f"pointmap{number}": _real(np.where(valid[..., None], points, 0)),
            f"valid{number}": torch.from_numpy(valid)[None],
            f"moving{number}": torch.from_numpy(moving)[None],
            f"sky{number}": torch.from_numpy(~valid)[None],
            f"match{number}": _real(_matches(scene, view, views[1 - number], number)),
            f"intrinsics{number}": _real(scene.intrinsics),
            f"motion{number}": _real(motion),
            f"motion_valid{number}": torch.from_numpy(known)[None],
            f"portrait{number}": torch.zeros(1, dtype=torch.bool),
        }
    return PairBatch(
        **given,
        relative=_real(back @ views[1].cam2world),
        metric=torch.ones(1, dtype=torch.bool),
        times=_real(np.array(times)),
        names=(name,),
    )


def _matches(scene: MujocoScene, source: MujocoView, other: MujocoView, number: int) -> np.ndarray:
    """(H, W, 2) pixels of the other view that see the source's points; NaN where they are hidden or outside."""
    points = scene.moved(source, float(number), float(1 - number))
    seen = (points - other.cam2world[:3, 3]) @ other.cam2world[:3, :3] @ scene.intrinsics.T
    depth = seen[..., 2]
    pixel = seen[..., :2] / np.where(depth > 0.05, depth, np.inf)[..., None]
    height, width = scene.size
    column, row = np.rint(pixel).astype(int).transpose(2, 0, 1)
    inside = (depth > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    same = other.geom[row, column] == source.geom
    near = np.abs(other.depth[row, column] - depth) < 0.05 * depth  # the nearest pixel stands in for the exact ray
    visible = inside & same & near & (source.geom >= 0)
    return np.where(visible[..., None], pixel, np.nan)


def _real(values: np.ndarray) -> Tensor:
    """A batch of one."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
