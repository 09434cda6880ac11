"""What predicts the pairs of a clip when the user does not say: a quick look at a few of its frames decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stereo4d.network.weights.checkpoint import EMBEDDED
from stereo4d.video.frames import Frame, read
from stereo4d.video.predictors import is_installed
from stereo4d.video.sources import Source

CLASSICAL = "classical"
OFFICIAL = "official weights do better: a DUSt3R or MonST3R file from its authors (non-commercial), with --weights FILE"
"""For people: how to get what is best."""

_LOOK_SIZE = 320  # long side of what is looked at, in pixels
_FRAMES = 4  # that features are followed through, one after the other
_FEATURES = 400
_LEAST_TRACKS = 80
_LEAST_PARALLAX = 0.7  # pixels at the size that is looked at
_MOST_BACK = 0.7  # pixels between a feature and where following it there and back ends


@dataclass(frozen=True)
class Choice:
    """What shall predict, and why."""

    weights: str
    """As in ``Options.weights``."""
    because: str | None = None
    """Why it was chosen, in words; None where the user chose."""

    def words(self) -> str:
        """One line for people."""
        return self.weights if self.because is None else f"{self.weights}, chosen because {self.because}; {OFFICIAL}"


@dataclass(frozen=True)
class Evidence:
    """What a quick look at a few frames, one after the other, has found."""

    tracks: int
    """Features that could be followed through all of them."""
    parallax: float
    """Median distance, in pixels, between where they end and where the best homography takes them: 0 for a camera that
    stands still or turns on the spot, and for a flat scene."""

    @property
    def shows_depth(self) -> bool:
        """Whether two-view geometry has something to go by."""
        return self.tracks >= _LEAST_TRACKS and self.parallax >= _LEAST_PARALLAX

    def words(self) -> str:
        """The same in words."""
        moved = f"{self.parallax:.1f} px parallax at {_LOOK_SIZE} px"
        return f"{self.tracks} features followed through {_FRAMES} frames" + (f", {moved}" if self.tracks else "")


def choose_weights(source: Source, indices: Sequence[int], *, by_similarity: bool = False) -> Choice:
    """What predicts best among what works offline at once: the classical predictor or the embedded network.

    The classical predictor is taken where frames at the start or in the middle of the clip have texture and parallax.
    There it was measured to be better than the embedded checkpoint, version 0, in cameras and depth; without parallax
    it has nothing to go by, and the network's idea of rooms is better than none.

    Args:
        source: the clip.
        indices: frames that will be taken, rising.
        by_similarity: the pair graph asks how alike frames look, which takes an encoder.

    Returns:
        The same for the same input; at most eight frames are decoded, and looked at in a few hundredths of a second.
    """
    if by_similarity:
        return Choice(EMBEDDED, "the pair graph goes by how alike frames look, which takes a network")
    if not is_installed(CLASSICAL):
        return Choice(EMBEDDED, f"no predictor {CLASSICAL!r} is installed")
    if len(indices) < 2:
        return Choice(EMBEDDED, "one frame alone has no parallax")
    best = Evidence(0, 0.0)
    for start in sorted({0, max(0, len(indices) // 2 - _FRAMES // 2)}):
        seen = look(source, indices[start : start + _FRAMES])
        if seen.shows_depth:
            return Choice(CLASSICAL, f"the clip has texture and parallax ({seen.words()})")
        best = max(best, seen, key=lambda evidence: (evidence.tracks >= _LEAST_TRACKS, evidence.parallax))
    lacking = "parallax" if best.tracks >= _LEAST_TRACKS else "texture that can be followed"
    return Choice(EMBEDDED, f"the clip has too little {lacking} ({best.words()})")


def look(source: Source, indices: Sequence[int]) -> Evidence:
    """Follow features through a few frames of a clip.

    Args:
        source: the clip.
        indices: of the frames, rising.
    """
    frames = sorted(
        (frame for frame in read(source, indices) if isinstance(frame, Frame)), key=lambda frame: frame.index
    )
    same = [frame for frame in frames if frame.rgb.shape == frames[0].rgb.shape]
    return parallax([_small_grey(frame.rgb) for frame in same])


def parallax(images: Sequence[np.ndarray]) -> Evidence:
    """What following features from the first image to the last, one image at a time, shows.

    Args:
        images: (H, W) uint8 each, all of one size.
    """
    import cv2

    if len(images) < 2:
        return Evidence(0, 0.0)
    start = cv2.goodFeaturesToTrack(images[0], _FEATURES, qualityLevel=0.01, minDistance=6)
    if start is None or len(start) < _LEAST_TRACKS:
        return Evidence(0 if start is None else len(start), 0.0)
    here = start
    for before, after in pairwise(images):
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, here, None)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None)
        kept = (np.linalg.norm(back - here, axis=-1) < _MOST_BACK)[:, 0] & (found & found_back)[:, 0].astype(bool)
        start, here = start[kept], there[kept]
        if len(start) < _LEAST_TRACKS:
            return Evidence(len(start), 0.0)
    # Least squares over all tracks, then robustly: what neither explains is not one plane, nor one rotation.
    homography, _ = cv2.findHomography(start, here, cv2.LMEDS)
    if homography is None:
        return Evidence(len(start), 0.0)
    left = np.linalg.norm(cv2.perspectiveTransform(start, homography) - here, axis=-1)
    return Evidence(len(start), float(np.median(left)))


def _small_grey(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to grey, (h, w) uint8, long side ``_LOOK_SIZE`` or less."""
    import cv2

    shrink = min(1.0, _LOOK_SIZE / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * shrink)), max(1, round(rgb.shape[0] * shrink))
    return cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
