"""What is known of a clip's intrinsics, and pixels brought to one shared focal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d_plugins.predictors.classical.bundle import Observations
from stereo4d_plugins.predictors.classical.tracks import Tracks

PRIOR_FOCAL = 1.0
"""Of the long side of the image, 53 degrees of view: what is assumed where a clip does not show its focal."""
_STARTS = (0.55, 1.2, 0.8, 1.8, 2.8)  # focals that a search begins from, of the long side


@dataclass(frozen=True)
class Lens:
    """Intrinsics as far as they are known."""

    intrinsics: np.ndarray
    """(N, 3, 3) pixels: those given, gaps filled with their median; where nothing is given the prior."""
    known: bool
    """Whether they are to be believed."""
    long_side: int
    """Of the images, in pixels."""

    @classmethod
    def of(cls, shape: tuple[int, ...], intrinsics: np.ndarray | None) -> Lens:
        """From the shape (N, H, W, 3) of a clip and (N, 3, 3) intrinsics, rows of NaN where not known."""
        frames, height, width = shape[:3]
        long_side = max(height, width)
        focal = PRIOR_FOCAL * long_side
        assumed = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        if intrinsics is None or not np.isfinite(intrinsics).all((1, 2)).any():
            return cls(np.repeat(assumed[None], frames, 0), False, long_side)
        given = np.array(intrinsics, np.float64)
        known = np.isfinite(given).all((1, 2))
        given[~known] = np.median(given[known], 0)
        return cls(given, True, long_side)

    @property
    def shared(self) -> float:
        """The focal that all frames' pixels are brought to."""
        return float(np.median(self.intrinsics[:, 0, 0]))

    @property
    def limit(self) -> float:
        """Reprojection error in pixels from which an observation counts as wrong."""
        return max(1.0, self.long_side / 400)

    def starts(self) -> list[float]:
        """Focals to begin a search from, in pixels."""
        return [self.shared] if self.known else [share * self.long_side for share in _STARTS]

    def believed(self) -> Lens:
        """The same, taken for granted."""
        return Lens(self.intrinsics, True, self.long_side)

    def observed(self, tracks: Tracks, frames: np.ndarray, chosen: np.ndarray) -> Observations:
        """Some tracks (T,) in some frames (K,), centred and brought to the shared focal."""
        centre = self.intrinsics[frames][:, :2, 2]
        focals = self.intrinsics[frames][:, (0, 1), (0, 1)]
        offsets = (tracks.table(frames, chosen) - centre) * (self.shared / focals)
        seen = np.isfinite(offsets).all(-1)
        return Observations(np.where(seen[..., None], offsets, 0.0), seen)

    def with_focal(self, focal: float) -> np.ndarray:
        """(N, 3, 3) intrinsics whose shared focal is another, in pixels."""
        matrices = self.intrinsics.copy()
        matrices[:, (0, 1), (0, 1)] *= focal / self.shared
        return matrices
