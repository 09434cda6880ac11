"""How a scene looks in Rerun: value ranges, the layout of the window, and where the eye starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from stereo4d.types import Scene
from stereo4d_plugins.viewers.clouds import Cloud, confidence_floor, static_cloud
from stereo4d_plugins.viewers.rerun_maps import ShownMap, shown_maps

BACKGROUND = (18, 20, 28)
PATH_COLOR = (255, 170, 40)
HIDDEN = ("- /world/camera/image/depth", "- /world/camera/image/maps/**")
"""What would lie in 3D on top of the camera's picture."""
HALF_VIEW = (0.55, 0.47)  # tangents of half the 3D view's angles, across and upward, less a margin


@dataclass(frozen=True)
class Look:
    """What is measured once for a whole scene."""

    confidence_floor: float
    """Least confidence of a point that is shown."""
    confidence_top: float
    """Where the colours of the confidence image end, > 1."""
    depth_range: tuple[float, float]
    """Where the colours of the depth image begin and end, in the scene's unit."""
    typical_depth: float
    """Median depth, in the scene's unit."""
    knows_motion: bool
    """Whether the scene says anywhere that a pixel moves on its own."""

    @classmethod
    def of(cls, scene: Scene) -> Look:
        """Measure a scene, from a sample of its frames."""
        frames = np.unique(np.linspace(0, len(scene) - 1, 16).astype(int))
        depth = np.asarray(scene.depth[frames], np.float32)
        measured = depth[depth > 0]
        near, middle, far = np.quantile(measured, [0.01, 0.5, 0.99]) if len(measured) else (0.5, 1.0, 2.0)
        top = float(np.quantile(np.asarray(scene.confidence[frames], np.float32), 0.98))
        return cls(
            confidence_floor=confidence_floor(scene),
            confidence_top=max(top, 1.01),
            depth_range=(float(near), float(max(far, 1.001 * near))),
            typical_depth=float(middle),
            knows_motion=any(bool(np.any(mask)) for mask in scene.dynamic),
        )

    @property
    def moving_name(self) -> str:
        """Name of the points that change from frame to frame."""
        return "dynamic" if self.knows_motion else "frame"


@dataclass(frozen=True)
class Shown:
    """A scene, and what is found out about it once before it is logged."""

    scene: Scene
    look: Look
    cloud: Cloud
    """What stands still."""
    maps: tuple[ShownMap, ...]

    @classmethod
    def of(cls, scene: Scene, static_points: int) -> Shown:
        """Look at a scene."""
        look = Look.of(scene)
        return cls(scene, look, static_cloud(scene, look.confidence_floor, limit=static_points), shown_maps(scene))

    @property
    def layout(self) -> rrb.Blueprint:
        """Of the window."""
        return blueprint(self.scene, self.cloud, self.look, self.maps)


def blueprint(scene: Scene, cloud: Cloud, look: Look, maps: Sequence[ShownMap] = ()) -> rrb.Blueprint:
    """The window: the cloud on the left; RGB, depth and confidence on the right; the camera's path from above.

    Maps of further heads have a place of their own below, one behind the other, where there are any.
    """
    space = rrb.Spatial3DView(
        origin="/world",
        name="4D",
        background=list(BACKGROUND),
        line_grid=False,
        contents=["+ /world/**", *HIDDEN],
        eye_controls=_eye_behind_first_camera(scene, cloud, look),
    )
    path = rrb.Spatial3DView(
        origin="/world",
        name="Camera path",
        background=list(BACKGROUND),
        line_grid=False,
        contents=["+ /world/camera/**", "+ /world/camera_path", *HIDDEN],
        eye_controls=_eye_above_path(scene, look),
    )
    image = "/world/camera/image"
    beside = [
        rrb.Spatial2DView(origin=image, name=shown.name, contents=[f"+ $origin/{shown.entity}"]) for shown in maps
    ]
    images = rrb.Vertical(
        rrb.Spatial2DView(origin=image, name="RGB", contents=["+ $origin/rgb"]),
        rrb.Spatial2DView(origin=image, name="Depth", contents=["+ $origin/depth"]),
        rrb.Spatial2DView(origin="/confidence", name="Confidence"),
        path,
        *([rrb.Tabs(*beside, name="Heads")] if beside else []),
    )
    panel = rrb.TimePanel(state="collapsed", timeline="frame", fps=_frames_per_second(scene), play_state="paused")
    return rrb.Blueprint(rrb.Horizontal(space, images, column_shares=[3, 1]), panel, collapse_panels=True)


def _frames_per_second(scene: Scene) -> float:
    """Playing speed on the ``frame`` timeline, in steps of the input's frame index."""
    seconds = float(scene.times[-1] - scene.times[0])
    steps = float(scene.frame_indices[-1] - scene.frame_indices[0])
    return steps / seconds if seconds > 0 and steps > 0 else 10.0


def _eye_behind_first_camera(scene: Scene, cloud: Cloud, look: Look) -> rrb.EyeControls3D:
    """Behind and above the first camera, far enough for most of the cloud and every camera to be in view."""
    right, down, forward = scene.cam2world[0, :3, :3].T
    centres = scene.cam2world[:, :3, 3]
    seen = cloud.points if len(cloud) else centres + look.typical_depth * scene.cam2world[:, :3, 2]
    gaze = forward + 0.4 * down - 0.25 * right
    gaze /= np.linalg.norm(gaze)
    side = np.cross(gaze, -down)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, gaze), gaze])  # across, up and along the view
    seen, centres = seen @ axes.T, centres @ axes.T
    extent = np.concatenate([np.quantile(seen, [0.03, 0.97], axis=0), centres])
    target = (extent.min(0) + extent.max(0)) / 2
    distance = max(
        distance_to_see(seen - target, share=0.9),
        distance_to_see(centres - target, share=1.0),
        0.5 * look.typical_depth,
    )
    position = target - (0, 0, distance)
    return rrb.EyeControls3D(position=position @ axes, look_target=target @ axes, eye_up=-down)


def distance_to_see(offsets: np.ndarray, *, share: float, half_view: tuple[float, float] = HALF_VIEW) -> float:
    """How far behind the target the eye must stand to see a share of the points.

    Args:
        offsets: (P, 3) of the points from the target, across, up and along the view.
        share: of the points.
        half_view: tangents of half the view's angles, across and upward.
    """
    # From a distance d a point is in view when its offset is below half_view * (d + its offset along the view).
    needed = (np.abs(offsets[:, :2]) / half_view).max(1) - offsets[:, 2]
    return float(np.quantile(needed, share))


def _eye_above_path(scene: Scene, look: Look) -> rrb.EyeControls3D:
    """Above the camera's path, looking down on it, the first camera's forward being up in the picture."""
    _, down, forward = scene.cam2world[0, :3, :3].T
    centres = scene.cam2world[:, :3, 3]
    middle = (centres.min(0) + centres.max(0)) / 2
    reach = max(float(np.linalg.norm(centres - middle, axis=1).max()), 0.2 * look.typical_depth)
    position = middle - 2.2 * reach * down - 0.8 * reach * forward
    return rrb.EyeControls3D(position=position, look_target=middle, eye_up=forward)


def points_of(cloud: Cloud) -> rr.Points3D:
    """A cloud as Rerun shows it."""
    # Half the spacing would leave gaps on surfaces seen at an angle.
    return rr.Points3D(cloud.points, colors=cloud.colors, radii=0.65 * cloud.spacing)
