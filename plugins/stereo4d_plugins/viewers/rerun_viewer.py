"""Scenes as Rerun recordings (``.rrd``): the cloud over time, cameras, RGB, depth and confidence on two timelines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import rerun as rr

from stereo4d.storage import atomic_file
from stereo4d.types import Scene
from stereo4d.viewing import Sighting, Viewer
from stereo4d_plugins.viewers import rerun_process, rerun_web
from stereo4d_plugins.viewers.clouds import Cloud, frame_cloud, trusted
from stereo4d_plugins.viewers.rerun_alignment import write_alignment
from stereo4d_plugins.viewers.rerun_file import recording_file
from stereo4d_plugins.viewers.rerun_live import follow
from stereo4d_plugins.viewers.rerun_look import PATH_COLOR, Look, Shown, points_of
from stereo4d_plugins.viewers.rerun_maps import log_maps
from stereo4d_plugins.viewers.rerun_motion import Trails, log_arrows, log_between

if TYPE_CHECKING:
    from stereo4d.alignment.watching import AlignmentStep
    from stereo4d.data.pair_batch import PairBatch

PATH_VERTICES = 300  # of the growing camera path; bounds a file that would else grow with the square of the length


class RerunViewer(Viewer):
    """Writes ``.rrd`` files and opens them with the viewer that is installed with rerun-sdk."""

    suffix = ".rrd"

    def __init__(
        self,
        *,
        static_points: int = 300_000,
        frame_points: int = 25_000,
        all_frames_points: int = 6_000_000,
        jpeg_quality: int = 88,
    ):
        """Set what bounds the size of a file, and the memory that it takes to write it.

        Args:
            static_points: most points in the cloud of what stands still, stored once.
            frame_points: most points that are stored with every frame.
            all_frames_points: most points that are stored with all frames together; long clips get fewer a frame.
            jpeg_quality: of the RGB images.
        """
        self.static_points = static_points
        self.frame_points = frame_points
        self.all_frames_points = all_frames_points
        self.jpeg_quality = jpeg_quality

    def write(self, scene: Scene, path: Path) -> Path:
        """Write the recording; see ``Viewer.write``.

        Entities: ``world/points/static`` (once), ``world/points/dynamic`` (what moves, or ``world/points/frame``, all
        that the frame sees, when the scene does not know what moves), ``world/camera`` with ``image/rgb`` and
        ``image/depth``, ``world/camera_path``, ``confidence``; of heads ``image/maps/HEAD/OUTPUT``; of motion
        ``world/motion/arrows`` and ``world/motion/trails``. Timelines: ``frame`` (index in the input), ``time``; points
        at times between frames are on the latter only.
        """
        shown = Shown.of(scene, self.static_points)
        with recording_file(path, shown.layout) as recording:
            self.log(recording, shown)
        return path

    def log(self, recording: rr.RecordingStream, shown: Shown) -> None:
        """Log all of a scene; see ``write``."""
        scene, look = shown.scene, shown.look
        trails = None if scene.motion_samples is None else Trails(scene, look)
        _log_static(recording, scene, shown.cloud)
        for frame in range(len(scene)):
            self.log_frame(recording, scene, frame, look)
            log_maps(recording, scene, frame, shown.maps)
            if trails is not None:
                log_arrows(recording, scene, frame, look)
                trails.log(recording, frame)
                log_between(recording, scene, frame, look)

    def write_alignment(self, steps: Sequence[AlignmentStep], path: Path, *, rgb: np.ndarray | None = None) -> Path:
        """Write the recording; see ``Viewer.write_alignment`` and ``rerun_alignment.write_alignment``."""
        return write_alignment(steps, path, rgb=rgb)

    def write_pairs(self, pairs: Sequence[PairBatch], path: Path) -> Path:
        """Write the recording; see ``Viewer.write_pairs`` and ``rerun_pairs.write_pairs``."""
        # only training and its checks show pairs: scenes can do without what that imports
        from stereo4d_plugins.viewers.rerun_pairs import write_pairs

        return write_pairs(pairs, path)

    def check(self, path: Path) -> None:
        """Have Rerun itself read a recording from end to end; see ``Viewer.check``."""
        rerun_process.verify_recording(path)

    def show(self, path: Path, *, web: bool = False) -> int:
        """Open a recording; see ``Viewer.show``."""
        rerun_process.check_recording(path)
        return rerun_web.serve_web(path) if web else rerun_process.open_window(path)

    def follow(self, sightings: Iterable[Sighting | None], *, address: str | None = None) -> int:
        """Show a run as it comes; see ``Viewer.follow`` and ``rerun_live.follow``."""
        return follow(self, sightings, address)

    def screenshot(self, path: Path, picture: Path, *, frame: int | None = None) -> Path:
        """Render a recording; see ``Viewer.screenshot``."""
        rerun_process.check_recording(path)
        with rerun_process.HeadlessViewer(path) as viewer:
            viewer.go_to(frame)
            content = viewer.picture()
        with atomic_file(picture) as partial:
            partial.write_bytes(content)
        return picture

    def log_frame(self, recording: rr.RecordingStream, scene: Scene, frame: int, look: Look) -> None:
        """Log one frame, at its time: camera, pictures, points of what moves, and the camera's way so far."""
        recording.set_time("frame", sequence=int(scene.frame_indices[frame]))
        recording.set_time("time", duration=float(scene.times[frame]))
        cam2world, depth = scene.cam2world[frame], np.asarray(scene.depth[frame])
        confidence, rgb = np.asarray(scene.confidence[frame]), np.ascontiguousarray(scene.rgb[frame])
        recording.log("world/camera", rr.Transform3D(translation=cam2world[:3, 3], mat3x3=cam2world[:3, :3]))
        pinhole = rr.Pinhole(
            image_from_camera=scene.intrinsics[frame],
            resolution=[depth.shape[1], depth.shape[0]],
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=0.15 * look.typical_depth,
            color=PATH_COLOR,
        )
        recording.log("world/camera/image", pinhole)
        recording.log("world/camera/image/rgb", rr.Image(rgb).compress(jpeg_quality=self.jpeg_quality))
        depth_image = rr.DepthImage(depth, meter=1.0, depth_range=look.depth_range, colormap="turbo")
        recording.log("world/camera/image/depth", depth_image)
        colored = _confidence_colors(confidence, look.confidence_top)
        recording.log("confidence", rr.Image(colored).compress(jpeg_quality=self.jpeg_quality))
        recording.log("world/camera_path", _path(scene.cam2world[: frame + 1]))
        shown = trusted(depth, confidence, look.confidence_floor)
        if look.knows_motion:
            shown &= np.asarray(scene.dynamic[frame]) != 0
        limit = min(self.frame_points, max(1, self.all_frames_points // len(scene)))
        points = frame_cloud(scene, frame, shown, limit=limit)
        recording.log(f"world/points/{look.moving_name}", points_of(points))


def _log_static(recording: rr.RecordingStream, scene: Scene, cloud: Cloud) -> None:
    recording.log("world", rr.ViewCoordinates.RDF, static=True)
    recording.log("world/points/static", points_of(cloud), static=True)
    recording.send_property("scene", rr.AnyValues(frames=len(scene), scale=scene.scale))


def _path(cam2world: np.ndarray) -> rr.LineStrips3D:
    """The camera's way so far, (frames, 4, 4), as one line."""
    rows = np.unique(np.linspace(0, len(cam2world) - 1, min(len(cam2world), PATH_VERTICES)).round().astype(int))
    return rr.LineStrips3D([cam2world[rows, :3, 3]], colors=[PATH_COLOR], radii=rr.Radius.ui_points(1.8))


def _confidence_colors(confidence: np.ndarray, top: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB of confidences (H, W) on a logarithmic scale from 1 to ``top``."""
    share = np.log(np.maximum(confidence.astype(np.float32), 1)) / np.log(top)
    gray = (255 * np.clip(share, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(gray, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
