"""All that a scene holds as one NumPy archive."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from stereo4d.exporting import Exporter
from stereo4d.types import MotionSamples, Scene

_ARRAYS = (
    *("cam2world", "intrinsics", "depth", "confidence", "dynamic", "rgb", "times"),
    *("frame_indices", "intrinsics_original", "original_sizes"),
)


class Npz(Exporter):
    """``scene.npz``: every array under its name in ``Scene``, in its own dtype.

    Motion is there as ``motion_...``, maps of further heads as ``maps/HEAD.OUTPUT``, and ``scale`` as text.
    """

    def write(self, scene: Scene, folder: Path) -> None:
        """See ``Exporter.write``."""
        arrays = {name: getattr(scene, name) for name in _ARRAYS} | {"scale": np.array(scene.scale)}
        if scene.motion_samples is not None:
            arrays |= {f"motion_{e.name}": getattr(scene.motion_samples, e.name) for e in fields(MotionSamples)}
        arrays |= {f"maps/{name}": values for name, values in scene.maps.items()}
        # Opened here: NumPy hides why writing failed where it opens the file itself.
        with (folder / "scene.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)
