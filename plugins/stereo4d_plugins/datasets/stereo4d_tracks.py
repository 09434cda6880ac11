"""The Stereo4D release: cameras and 3D tracks of a clip in an ``.npz``, its left rectified view in an ``.mp4``.

Layout: ROOT/*.npz, and ROOT (or ``videos``)/NAME-left_rectified.mp4, which users make from the original videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.errors import InputError
from stereo4d.video import frames
from stereo4d.video.outside_files import Npz
from stereo4d.video.sources import find_source

ARRAYS = ("camera2world", "timestamps", "track_lengths", "track_indices", "track_coordinates")


class Stereo4dTracks(PosedFrames):
    """Clips with sparse geometry that moves; lengths are near metres, from a nominal distance between the lenses.

    Args:
        root: the folder of .npz files.
        videos: the folder of NAME-left_rectified.mp4; by default the root.
        field_of_view: horizontal, of the rectified videos, in degrees.
        name: for messages; by default that of the root.
    """

    def __init__(
        self, root: str, *, videos: str | None = None, field_of_view: float = 60.0, name: str | None = None
    ) -> None:
        self.root, self.videos, self.field_of_view = Path(root), Path(videos or root), field_of_view
        self.name = name or self.root.name
        self._last: tuple[str, dict[str, np.ndarray], np.ndarray] | None = None

    def scenes(self) -> Sequence[str]:
        """Names of the clips."""
        found = sorted(path.stem for path in self.root.glob("*.npz"))
        if not found:
            reason = "" if self.root.is_dir() else ": no such folder"
            raise InputError(f"{self.root}{reason}: no clip in it; looked for *.npz of the Stereo4D release")
        return found

    def times(self, scene: str) -> np.ndarray:
        """(T,) float64 seconds in the original video."""
        return self._clip(scene)[0]["timestamps"] * 1e-6

    def frame(self, scene: str, index: int) -> Frame:
        """A frame of the rectified video with its camera; what is known of its geometry are the tracks."""
        video = self.videos / f"{scene}-left_rectified.mp4"
        (decoded,) = frames.read(find_source([str(video)]), [index])
        if isinstance(decoded, frames.FailedFrame):
            raise InputError(f"{video}: frame {index} cannot be decoded ({decoded.reason}); make the video again")
        height, width = decoded.rgb.shape[:2]
        focal = width / 2 / math.tan(math.radians(self.field_of_view) / 2)
        # The release puts the image's corner at (0, 0), and the principal point in the middle.
        intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3] = self._clip(scene)[0]["camera2world"][index]
        return Frame(decoded.rgb, intrinsics, pose)

    def tracks(self, scene: str, index: int) -> np.ndarray:
        """(N, 3) float64 world points at a frame, NaN where a track is not seen."""
        return self._clip(scene)[1][:, index]

    def __getstate__(self) -> dict[str, Any]:
        """Without the tracks, which are too many to be sent to other processes."""
        return {**vars(self), "_last": None}

    def _clip(self, scene: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Arrays of a clip and its dense tracks; those of the last one asked for are kept."""
        if self._last is None or self._last[0] != scene:
            file = Npz(self.root / f"{scene}.npz")
            arrays = {name: file.read(name) for name in ARRAYS}
            self._last = (scene, arrays, dense_tracks(arrays, str(file.path)))
        return self._last[1], self._last[2]


def dense_tracks(arrays: dict[str, np.ndarray], where: str) -> np.ndarray:
    """Tracks as the release stores them, one after the other, as a table.

    Args:
        arrays: of the ``.npz``: ``track_lengths`` (N,), ``track_indices`` (sum of lengths,) frames, and
            ``track_coordinates`` (sum of lengths, 3) world points; ``camera2world`` (T, 3, 4), ``timestamps`` (T,).
        where: names the file in errors.

    Returns:
        (N, T, 3) float64, NaN where a track is not seen.

    Raises:
        InputError: the arrays do not belong together.
    """
    lengths, indices, points = (arrays[f"track_{name}"] for name in ("lengths", "indices", "coordinates"))
    count = len(arrays["timestamps"])
    belong = points.shape == (lengths.sum(), 3) and len(indices) == len(points)
    if arrays["camera2world"].shape != (count, 3, 4) or not belong:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{where}: its arrays do not belong together ({shapes}); fetch the file again")
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise InputError(f"{where}: track_indices reach {indices.max()}, but there are {count} frames; fetch it again")
    table = np.full((len(lengths), count, 3), np.nan)
    table[np.repeat(np.arange(len(lengths)), lengths), indices] = points
    return table
