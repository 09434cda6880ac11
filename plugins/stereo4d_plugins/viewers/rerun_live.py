"""A run in the Rerun viewer while it works: windows appear as they are finished, the scene when all is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import rerun as rr

from stereo4d.viewing import Sighting
from stereo4d_plugins.viewers import rerun_process
from stereo4d_plugins.viewers.rerun_look import PATH_COLOR, Shown, points_of

if TYPE_CHECKING:
    from stereo4d_plugins.viewers.rerun_viewer import RerunViewer

WINDOW_POINTS = 60_000
"""Most points of what stands still in one window."""


def follow(viewer: RerunViewer, sightings: Iterable[Sighting | None], address: str | None = None) -> int:
    """Show a run as it comes.

    Windows go to a recording ``as it comes``, one for each shot: ``world/points/window-000`` ... are what stands still
    in each, other entities are those of ``RerunViewer.write``. A finished scene is a recording of its own.

    Args:
        viewer: logs scenes, within its bounds.
        sightings: what can be seen, as it comes; None whenever there is nothing new.
        address: of a viewer that is open already, such as ``rerun+http://127.0.0.1:9876/proxy``; None opens a window,
            and waits until it is closed.

    Raises:
        UsageError: there is no display to open a window on.
    """
    with rerun_process.open_viewer(address) as open_viewer:
        parts: dict[str, Parts] = {}
        for sighting in sightings:
            if open_viewer.closed():
                return 0
            if sighting is None:
                continue
            if sighting.finished:
                _show_finished(viewer, sighting, open_viewer.address)
            else:
                parts.setdefault(sighting.shot, Parts(viewer, open_viewer.address)).show(sighting)
        return open_viewer.wait()


class Parts:
    """The recording of windows."""

    def __init__(self, viewer: RerunViewer, address: str) -> None:
        self._viewer, self._address = viewer, address
        self._recording: rr.RecordingStream | None = None
        self._way = np.zeros((0, 3), np.float32)

    def show(self, sighting: Sighting) -> None:
        """Log one more window."""
        shown = Shown.of(sighting.scene, WINDOW_POINTS)
        if self._recording is None:
            self._recording = connected(self._address, f"{sighting.shot} as it comes".strip())
            self._recording.send_blueprint(shown.layout, make_active=True, make_default=True)
            self._recording.log("world", rr.ViewCoordinates.RDF, static=True)
        self._recording.log(f"world/points/{sighting.name}", points_of(shown.cloud), static=True)
        for frame in range(len(sighting.scene)):
            self._viewer.log_frame(self._recording, sighting.scene, frame, shown.look)
        # Over that of the window alone: the way from the clip's beginning.
        self._way = np.concatenate([self._way, sighting.scene.cam2world[:, :3, 3]])
        line = rr.LineStrips3D([self._way], colors=[PATH_COLOR], radii=rr.Radius.ui_points(1.8))
        self._recording.log("world/camera_path", line)
        self._recording.flush()


def _show_finished(viewer: RerunViewer, sighting: Sighting, address: str) -> None:
    shown = Shown.of(sighting.scene, viewer.static_points)
    recording = connected(address, sighting.name)
    recording.send_blueprint(shown.layout, make_active=True, make_default=True)
    viewer.log(recording, shown)
    recording.flush()
    recording.disconnect()


def connected(address: str, name: str) -> rr.RecordingStream:
    """A recording of that name in the viewer at an address."""
    recording = rr.RecordingStream("stereo4d")
    recording.set_log_tick_enabled(False)
    recording.set_log_time_enabled(False)
    recording.connect_grpc(address)
    recording.send_recording_name(name)
    return recording
