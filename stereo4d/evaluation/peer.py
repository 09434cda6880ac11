"""The contract of peers: other programs that reconstruct a clip, so that ours can be measured against them.

A peer is a class found by entry point (group ``stereo4d.peers``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stereo4d import registry
from stereo4d.storage import map_arrays, read_metadata, save_arrays

GROUP = "stereo4d.peers"


@dataclass(frozen=True)
class SparseDepth:
    """Depth at P places in the frames of a clip: one for every frame that a triangulated point is seen in."""

    frame: np.ndarray
    """(P,) int64 positions in the clip."""
    pixel: np.ndarray
    """(P, 2) float64 (u, v), pixel centres at integers."""
    depth: np.ndarray
    """(P,) float64 > 0, along the optical axis, in the unit of the answer it belongs to."""

    @classmethod
    def none(cls) -> SparseDepth:
        """No places at all."""
        return cls(np.empty(0, np.int64), np.empty((0, 2)), np.empty(0))

    def __len__(self) -> int:
        return len(self.depth)


@dataclass(frozen=True)
class ClipAnswer:
    """What a program says about a clip of N frames."""

    cam2world: np.ndarray
    """(N, 4, 4) float64, any world and unit; NaN for frames that could not be placed."""
    focal: np.ndarray
    """(N,) float64 pixels of the clip's frames; NaN for frames that could not be placed."""
    points: SparseDepth
    """Where its points were triangulated; none for programs whose depth is dense."""
    seconds: float
    """What it took, from images in memory to this answer."""
    failure: str = ""
    """Why frames could not be placed; empty if all were."""

    @property
    def placed(self) -> np.ndarray:
        """(N,) bool: frames whose camera is known."""
        return np.isfinite(self.cam2world).all((1, 2))

    def save(self, path: Path) -> None:
        """Write it to a safetensors file."""
        points = {f"points/{name}": value for name, value in vars(self.points).items()}
        arrays = {"cam2world": self.cam2world, "focal": self.focal, **points}
        save_arrays(path, arrays, {"seconds": str(self.seconds), "failure": self.failure})

    @classmethod
    def load(cls, path: Path) -> ClipAnswer:
        """Read what ``save`` wrote."""
        arrays, said = map_arrays(path), read_metadata(path)
        points = SparseDepth(*(np.array(arrays[f"points/{name}"]) for name in ("frame", "pixel", "depth")))
        cameras = np.array(arrays["cam2world"]), np.array(arrays["focal"])
        return cls(*cameras, points, float(said["seconds"]), said["failure"])

    @classmethod
    def nothing(cls, frames: int, seconds: float, failure: str) -> ClipAnswer:
        """No answer at all, with the reason."""
        unknown = np.full((frames, 4, 4), np.nan)
        return cls(unknown, np.full(frames, np.nan), SparseDepth.none(), seconds, failure)


class Peer(ABC):
    """Reconstructs clips."""

    @abstractmethod
    def reconstruct(self, rgb: np.ndarray, *, seed: int = 0) -> ClipAnswer:
        """Say where the cameras of a clip were.

        A clip that it cannot reconstruct is an answer too: frames not placed, and the reason.

        Args:
            rgb: (N, H, W, 3) uint8, of one camera.
            seed: same seed, same answer.

        Raises:
            MissingDependencyError: the program is not installed.
        """


def load_peer(name: str) -> Peer:
    """The peer of that name.

    Raises:
        UsageError: there is none.
        PluginError: the entry point names something else.
    """
    registry.check_installed("--peer", GROUP, name)
    return registry.load_class(GROUP, name, Peer)()
