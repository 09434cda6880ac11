"""The camera path as tools for trajectories (evo, rpg_trajectory_evaluation) read it."""

from __future__ import annotations

from pathlib import Path

from stereo4d.exporting import Exporter
from stereo4d.scene_files import tum_trajectory
from stereo4d.types import Scene


class Tum(Exporter):
    """``trajectory.txt``: ``t x y z qx qy qz qw`` a frame, seconds, camera to world."""

    def write(self, scene: Scene, folder: Path) -> None:
        """See ``Exporter.write``."""
        (folder / "trajectory.txt").write_text(tum_trajectory(scene.times, scene.cam2world), encoding="ascii")
