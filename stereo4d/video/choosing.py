"""What predicts the pairs of a clip when the user does not say: a quick look at a few of its frames decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stereo4d.network.weights.names import EMBEDDED
from stereo4d.video.frames import Frame, read
from stereo4d.video.predictors import is_installed
from stereo4d.video.sources import Source

CLASSICAL = "classical"
OFFICIAL = (
    "official weights do better: a DUSt3R or MonST3R file from its authors (non-commercial), see stereo4d weights list"
)
"""For people: how to get what is best."""

_LOOK_SIZE = 320  # long side of what is looked at, in pixels
_FRAMES = 6  # at most, that features are followed through, one after the other
_FEATURES = 400
_LEAST_TRACKS = 40
_LEAST_SHARE = 0.25  # of the features that have to be found again: in frames of nothing in common a few are by chance
_LEAST_PARALLAX = 0.4  # pixels at the size that is looked at; following features errs by 0.1 to 0.2
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
    """What following features through a few frames, one after the other, has found."""

    frames: int
    """How many were looked at."""
    features: int
    """Corners found in the first one."""
    tracks: int
    """Features that could be followed through all of them."""
    parallax: float
    """Median distance, in pixels, between where they end and where the best homography takes them: 0 for a camera that
    stands still or turns on the spot, and for a flat scene."""

    @property
    def has_texture(self) -> bool:
        """Whether there is enough to follow."""
        return self.tracks >= max(_LEAST_TRACKS, _LEAST_SHARE * self.features)

    @property
    def shows_depth(self) -> bool:
        """Whether two-view geometry has something to go by."""
        return self.has_texture and self.parallax >= _LEAST_PARALLAX

    def words(self) -> str:
        """The same in words."""
        moved = f", {self.parallax:.1f} pixels of parallax" if self.has_texture else ""
        return f"{self.tracks} of {self.features} features followed through {self.frames} frames{moved}"


def choose_weights(source: Source, indices: Sequence[int], *, by_similarity: bool = False) -> Choice:
    """What predicts best among what works offline at once: the classical predictor or the embedded network.

    The classical predictor is taken where frames at the start or in the middle of the clip have texture and parallax.
    There it is better than the embedded checkpoint, version 1: on the demo clip its camera path is off by 0.1 % of its
    length, its rotations by 0.02 degrees and its depth (AbsRel) by 0.067, where the network's are off by 3.5 %, 0.30
    degrees and 0.170; over eight further clips its path errors are 0.05 to 0.35 % (docs/classical.md). Without parallax
    it has nothing to go by, and the network's idea of rooms is better than none.

    Args:
        source: the clip.
        indices: frames that will be taken, rising.
        by_similarity: the pair graph asks how alike frames look, which takes an encoder.

    Returns:
        The same for the same input. Twelve frames are decoded at most, three where the camera moves well.
    """
    if by_similarity:
        return Choice(EMBEDDED, "the pair graph goes by how alike frames look, which takes a network")
    if not is_installed(CLASSICAL):
        return Choice(EMBEDDED, f"no predictor {CLASSICAL!r} is installed")
    if len(indices) < 2:
        return Choice(EMBEDDED, "one frame alone has no parallax")
    best = Evidence(0, 0, 0, 0.0)
    for start in sorted({0, max(0, len(indices) // 2 - _FRAMES // 2)}):
        seen = look(source, indices[start : start + _FRAMES])
        if seen.shows_depth:
            return Choice(CLASSICAL, f"the clip has texture and parallax ({seen.words()})")
        best = max(best, seen, key=lambda evidence: (evidence.has_texture, evidence.parallax, evidence.tracks))
    lacking = "parallax" if best.has_texture else "texture that can be followed"
    return Choice(EMBEDDED, f"the clip has too little {lacking} ({best.words()})")


def look(source: Source, indices: Sequence[int]) -> Evidence:
    """Follow features through a few frames of a clip, until they show depth or are lost.

    Args:
        source: the clip.
        indices: of the frames, rising.
    """
    frames = (frame.rgb for frame in read(source, indices) if isinstance(frame, Frame))
    return parallax(_small_grey(rgb) for rgb in frames)


def parallax(images: Iterable[np.ndarray]) -> Evidence:
    """What features show that are followed from image to image, until they show depth or are lost.

    Args:
        images: (H, W) uint8 each; those that differ in size from the first are left out.
    """
    images = iter(images)
    before = next(images, None)
    if before is None:
        return Evidence(0, 0, 0, 0.0)
    start = here = _features(before)
    seen = Evidence(1, len(start), len(start), 0.0)
    for after in images:
        if after.shape != before.shape or not seen.has_texture:
            continue
        start, here = _followed(before, after, start, here)
        seen = Evidence(seen.frames + 1, seen.features, len(start), _off_homography(start, here))
        if seen.shows_depth:
            break
        before = after
    return seen


def _features(image: np.ndarray) -> np.ndarray:
    """(P, 1, 2) float32 corners of an image."""
    import cv2

    apart = max(3, 6 * max(image.shape) // _LOOK_SIZE)
    found = cv2.goodFeaturesToTrack(image, _FEATURES, qualityLevel=0.01, minDistance=apart)
    return np.zeros((0, 1, 2), np.float32) if found is None else found


def _followed(
    before: np.ndarray, after: np.ndarray, start: np.ndarray, here: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where those features began, and where they are in the next image, that are found there and back."""
    import cv2

    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, here, None)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None)
    kept = (found & found_back).astype(bool)[:, 0] & (np.linalg.norm(back - here, axis=-1)[:, 0] < _MOST_BACK)
    return start[kept], there[kept]


def _off_homography(start: np.ndarray, here: np.ndarray) -> float:
    """Median distance from where the homography that fits most tracks takes them, in pixels."""
    import cv2

    if len(start) < _LEAST_TRACKS:
        return 0.0
    # The fit that leaves the smallest median: what it does not explain is neither one plane nor one turn.
    homography, _ = cv2.findHomography(start, here, cv2.LMEDS)
    if homography is None:
        return 0.0
    return float(np.median(np.linalg.norm(cv2.perspectiveTransform(start, homography) - here, axis=-1)))


def _small_grey(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to grey, (h, w) uint8, long side ``_LOOK_SIZE`` or less."""
    import cv2

    shrink = min(1.0, _LOOK_SIZE / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * shrink)), max(1, round(rgb.shape[0] * shrink))
    return cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
