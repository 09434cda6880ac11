"""Maps of further heads as pictures under the camera of a Rerun recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import rerun as rr

from stereo4d.types import Scene

JPEG_QUALITY = 88


@dataclass(frozen=True)
class ShownMap:
    """One map of a scene, as it is shown."""

    name: str
    """``HEAD.OUTPUT``."""
    shown_as: str
    """``normals``, ``mask`` or ``heat``: see ``stereo4d.network.head.Shown``."""
    heat_range: tuple[float, float]
    """Where the colours of heat begin and end."""

    @property
    def entity(self) -> str:
        """Below the camera's image."""
        return f"maps/{self.name.replace('.', '/')}"

    def picture(self, values: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one frame's values (H, W, ...); black where there are none."""
        values = np.asarray(values, np.float32)
        known = np.isfinite(values).reshape(*values.shape[:2], -1).all(-1)
        values = np.nan_to_num(values)
        if self.shown_as == "normals":
            # x right, y down and z forward as red, green and blue: what faces the camera is dark in blue.
            colors = 127.5 * (values.clip(-1, 1) + 1)
        elif self.shown_as == "mask":
            colors = np.repeat(255 * (_size(values) > 0.5), 3).reshape(*values.shape[:2], 3)
        else:
            low, high = self.heat_range
            share = ((_size(values) - low) / (high - low)).clip(0, 1)
            colors = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]  # BGR to RGB
        return np.where(known[..., None], colors, 0).astype(np.uint8)


def shown_maps(scene: Scene) -> tuple[ShownMap, ...]:
    """The maps of a scene that can be shown as pictures, in the order of their names."""
    told: Mapping[str, Mapping[str, str]] = scene.manifest.get("maps", {})
    shown = []
    for name in sorted(scene.maps):
        values, kind = scene.maps[name], told.get(name, {}).get("shown_as", "nothing")
        if kind == "nothing":
            continue
        # Vectors and points have no picture of their own but that of their lengths.
        as_it_is = kind == "mask" or (kind == "normals" and values.shape[3:] == (3,))
        shown.append(ShownMap(name, kind if as_it_is else "heat", _range(values)))
    return tuple(shown)


def log_maps(recording: rr.RecordingStream, scene: Scene, frame: int, maps: tuple[ShownMap, ...]) -> None:
    """The pictures of one frame, as ``world/camera/image/maps/HEAD/OUTPUT``."""
    for shown in maps:
        picture = rr.Image(shown.picture(scene.maps[shown.name][frame])).compress(jpeg_quality=JPEG_QUALITY)
        recording.log(f"world/camera/image/{shown.entity}", picture)


def _size(values: np.ndarray) -> np.ndarray:
    """(H, W) numbers, or lengths of what is longer, of (H, W, ...)."""
    return values if values.ndim == 2 else np.linalg.norm(values.reshape(*values.shape[:2], -1), axis=-1)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Where nearly all numbers lie, from a sample of frames (N, H, W, ...)."""
    frames = np.unique(np.linspace(0, len(values) - 1, 16).astype(int))
    sample = np.stack([_size(np.asarray(values[frame], np.float32)) for frame in frames])
    sample = sample[np.isfinite(sample)]
    low, high = np.quantile(sample, [0.01, 0.99]) if len(sample) else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))
