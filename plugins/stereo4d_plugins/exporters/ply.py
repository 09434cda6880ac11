"""Coloured points for MeshLab, CloudCompare, Blender and whatever else reads PLY."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stereo4d.exporting import Exporter
from stereo4d.types import Scene

_VERTEX = np.dtype(
    [
        *((axis, "<f4") for axis in "xyz"),
        *((colour, "u1") for colour in ("red", "green", "blue")),
        ("confidence", "<f4"),
        ("dynamic", "u1"),
        ("frame", "<i4"),
    ]
)
_NAMES = {"<f4": "float", "|u1": "uchar", "<i4": "int"}


class Ply(Exporter):
    """``points.ply``: every measured pixel of every frame, in the world, with colour, confidence, whether it moves, and
    the frame that saw it (position in the scene)."""

    def write(self, scene: Scene, folder: Path) -> None:
        """See ``Exporter.write``."""
        count = sum(int((np.asarray(depth) > 0).sum()) for depth in scene.depth)
        with (folder / "points.ply").open("wb") as file:
            file.write(header(count))
            for frame in range(len(scene)):
                file.write(vertices(scene, frame).tobytes())


def header(count: int) -> bytes:
    """What a file of so many points begins with."""
    properties = [f"property {_NAMES[_VERTEX[name].str]} {name}" for name in _VERTEX.names or ()]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties, "end_header"]
    return ("\n".join(lines) + "\n").encode("ascii")


def vertices(scene: Scene, frame: int) -> np.ndarray:
    """(P,) records of the measured pixels of one frame, row by row."""
    measured = np.asarray(scene.depth[frame]) > 0
    found = np.empty(int(measured.sum()), _VERTEX)
    found["x"], found["y"], found["z"] = scene.points(frame)[measured].T
    found["red"], found["green"], found["blue"] = np.asarray(scene.rgb[frame])[measured].T
    found["confidence"] = np.asarray(scene.confidence[frame])[measured]
    found["dynamic"] = np.asarray(scene.dynamic[frame])[measured]
    found["frame"] = frame
    return found
