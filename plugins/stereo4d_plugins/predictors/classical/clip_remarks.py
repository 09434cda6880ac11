"""What a user is told about the cameras of a clip, in sentences."""

from __future__ import annotations

import math

import numpy as np

STANDS = "the camera stands still: its view never changes enough to triangulate any depth from it"
TURNS = "the camera turns without moving from its place: its rotations are known, depth cannot be triangulated"
NO_PATH = "the points that were followed fit no camera path: no camera is known (a cut, or most of the view moves?)"


def no_tracks(frames: int, tracks: int) -> str:
    """Why there is nothing to go by."""
    if frames < 2:
        return "a single frame has no second view: neither camera nor depth can be found"
    return f"only {tracks} points can be followed (black, blank or blurred frames?): no camera is known"


def about_focal(source: str, focal: float, long_side: int) -> tuple[str, ...]:
    """Where the focal comes from, if that needs saying."""
    if source == "given":
        return ()
    angle = math.degrees(2 * math.atan(long_side / (2 * focal)))
    if source == "prior":
        return (
            f"the clip does not show its focal length: {focal:.0f} pixels are assumed, {angle:.0f} degrees along the "
            "long side; give the intrinsics if they are known",
        )
    return (f"the focal length follows from the clip: {focal:.0f} pixels, {angle:.0f} degrees along the long side",)


def about_frames(known: np.ndarray) -> tuple[str, ...]:
    """Which frames have no camera of their own; ``known`` is (N,) bool."""
    lost = np.flatnonzero(~known)
    if not len(lost):
        return ()
    names = ", ".join(str(frame) for frame in lost[:8]) + (" ..." if len(lost) > 8 else "")
    return (f"{len(lost)} of {len(known)} frames could not be placed (their cameras are interpolated): {names}",)


def about_error(error: float, limit: float) -> tuple[str, ...]:
    """Whether the cameras fit badly; both in pixels."""
    if error <= 0.6 * limit:
        return ()
    return (f"the cameras fit the clip badly: the median reprojection error is {error:.2f} pixels",)
