"""What is known of a clip's frames while its pairs are asked for: flow, depths, and when both may go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stereo4d.video.flow import Flow
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.pair_graph import Edge
from stereo4d_plugins.predictors.classical.calibration import ClipCalibration
from stereo4d_plugins.predictors.classical.frame_depths import (
    FrameDepth,
    frame_depth,
    grey,
    measure_frame,
    partners_of,
)
from stereo4d_plugins.predictors.classical.triangulation import EpipolarGrid, triangulate
from stereo4d_plugins.predictors.classical.two_views import TwoViews, two_views

_WANTED_SHIFT = 0.025  # of the image's long side: what parallax should move points by for a good depth
_MOST_MOTION = 0.2  # of the long side: image motion that flow still follows
_SEEN = 2.0  # confidence from which a pixel counts as measured
_ENOUGH = 0.05  # share of measured pixels below which a frame counts as not measured
_BESIDE = 0.4  # likewise, of the median share of all frames
_SAMPLED = 3  # frames that tell how far apart partners should be


class ClipDepths:
    """Depths of a clip's frames and motions of its pairs, found when first asked for."""

    def __init__(
        self, rgb: np.ndarray, edges: Sequence[Edge], calibration: ClipCalibration, flow: Flow, *, seed: int = 0
    ) -> None:
        """Begin.

        Args:
            rgb: (N, H, W, 3) uint8.
            edges: all pairs that will be asked for.
            calibration: the clip's cameras.
            flow: which flow.
            seed: same seed, same answer.
        """
        self._rgb = rgb
        self._size = (int(rgb.shape[1]), int(rgb.shape[2]))
        self._calibration = calibration
        self._seed = seed
        self._flows = FlowCache(flow, rgb)
        self._placed = np.asarray(calibration.camera_known, bool)
        self._baselines = calibration.moves and not calibration.rotation_only
        self._typical = 1.0
        self._frames: dict[int, FrameDepth] = {}
        self._greys: dict[int, np.ndarray] = {}
        self._done: set[int] = set()
        self._own: dict[Edge, TwoViews] = {}
        self._measured_share: dict[int, float] = {}
        self._own_pairs = 0
        self._partners = partners_of(edges, (), len(rgb))
        self._partners = partners_of(edges, self._wider_strides(), len(rgb))

    def pair(self, edge: Edge) -> tuple[FrameDepth, FrameDepth, np.ndarray]:
        """Depths of the first and of the second frame, and the motion (4, 4) from the first camera to the second."""
        if self._by_clip(edge):
            world2cam = self._calibration.world2cam
            motion = world2cam[edge[1]] @ np.linalg.inv(world2cam[edge[0]])
            return self._frame(edge[0]), self._frame(edge[1]), motion
        mirrored = self._own.pop((edge[1], edge[0]), None)
        if mirrored is not None:
            return mirrored.depths[1], mirrored.depths[0], np.linalg.inv(mirrored.motion)
        found = self._alone(edge)
        self._own = {edge: found}  # its mirror, if it comes at all, comes next
        return found.depths[0], found.depths[1], found.motion

    def forget(self, frames: Iterable[int]) -> None:
        """Let go of frames that no pair will ask for any more."""
        for frame in frames:
            self._frames.pop(frame, None)
            self._done.add(frame)
        self._tidy()

    def remarks(self) -> tuple[str, ...]:
        """What the user should know about depths."""
        said = []
        if self._own_pairs:
            said.append(
                f"{self._own_pairs} pairs have a frame that the camera path leaves out: "
                "each has a pose of its own and a depth of low confidence."
            )
        shares = self._measured_share
        least = max(_ENOUGH, _BESIDE * float(np.median(list(shares.values())))) if shares else 0.0
        blank = sorted(frame for frame, share in shares.items() if share < least)
        if blank and self._baselines:
            shown = ", ".join(map(str, blank[:8])) + (" ..." if len(blank) > 8 else "")
            said.append(
                f"{len(blank)} of {len(shares)} frames show little or no depth "
                f"(too little parallax, texture or sharpness): frames {shown}; theirs is mostly guessed."
            )
        return tuple(said)

    def _by_clip(self, edge: Edge) -> bool:
        """Whether the clip's cameras can be taken for a pair: both are placed.

        That dense flow disagrees with them is no reason against: they rest on points that were followed through many
        frames, which two views alone, blurred or full of what moves, cannot correct. Depth is unsure there, no more.
        """
        return edge[0] == edge[1] or bool(self._placed[list(edge)].all())

    def _frame(self, frame: int) -> FrameDepth:
        """Depth of a frame, from all its partners."""
        if frame in self._frames:
            return self._frames[frame]
        partners = [one for one in self._partners[frame] if self._placed[one]]
        measured = []
        if self._placed[frame] and self._baselines:
            greys = {one: self._grey(one) for one in (frame, *partners)}
            cameras = self._calibration
            measured = measure_frame(frame, partners, self._flows, greys, cameras.intrinsics, cameras.world2cam)
        depth = frame_depth(measured, self._size, self._calibration.intrinsics[frame], self._typical)
        self._measured_share[frame] = float((depth.confidence > _SEEN).mean())
        if self._measured_share[frame] > _ENOUGH:
            self._typical = float(np.median(depth.inverse_depth[depth.confidence > _SEEN]))
        self._frames[frame] = depth
        self._done.add(frame)
        self._tidy()
        return depth

    def _alone(self, edge: Edge) -> TwoViews:
        """A pair by itself."""
        self._own_pairs += 1
        first, second = edge
        intrinsics = self._calibration.intrinsics
        return two_views(
            (self._grey(first), self._grey(second)),
            self._flows.between(first, second),
            (intrinsics[first], intrinsics[second]),
            seed=self._seed,
        )

    def _grey(self, frame: int) -> np.ndarray:
        if frame not in self._greys:
            self._greys[frame] = grey(self._rgb[frame])
        return self._greys[frame]

    def _tidy(self) -> None:
        """Drop flows and images that no frame to come needs."""
        waiting = [
            (frame, one) for frame, others in self._partners.items() if frame not in self._done for one in others
        ]
        self._flows.keep_only(waiting)
        needed = {frame for pair in waiting for frame in pair}
        self._greys = {frame: image for frame, image in self._greys.items() if frame in needed}

    def _wider_strides(self) -> tuple[int, ...]:
        """Distances in frames at which parallax suffices, where that of the pairs does not; empty where it does."""
        if not self._baselines:
            return ()
        shifts, motions, widest = [], [], 1
        frames = sorted(self._partners)
        for frame in frames[len(frames) // 6 :: max(1, len(frames) // _SAMPLED)][:_SAMPLED]:
            others = [one for one in self._partners[frame] if self._placed[one] and self._placed[frame]]
            if not others:
                continue
            partner = max(others, key=lambda one: abs(one - frame))
            apart = abs(partner - frame)
            shift, motion = self._shift(frame, partner)
            shifts.append(shift / apart)
            motions.append(motion / apart)
            widest = max(widest, apart)
        if not shifts:
            return ()
        long_side = max(self._size)
        stride = np.ceil(_WANTED_SHIFT * long_side / max(float(np.median(shifts)), 1e-6))
        followed = _MOST_MOTION * long_side / max(float(np.median(motions)), 1e-6)
        stride = int(min(stride, followed, max(len(self._rgb) // 2, 1)))
        return tuple(one for one in sorted({stride // 2, stride}) if one > widest)

    def _shift(self, frame: int, partner: int) -> tuple[float, float]:
        """Median pixels of parallax and of motion in the image between two frames."""
        cameras, flow = self._calibration, self._flows.between(frame, partner)
        motion = cameras.world2cam[partner] @ np.linalg.inv(cameras.world2cam[frame])
        grid = EpipolarGrid.between(cameras.intrinsics[frame], cameras.intrinsics[partner], motion, self._size)
        if not flow.valid0.any():
            return 0.0, float(max(self._size))
        found = triangulate(flow.forward, grid)
        parallax = np.abs(found.inverse_depth * found.slope)[flow.valid0]
        length = np.sqrt((flow.forward**2).sum(-1))[flow.valid0]
        return float(np.median(parallax)), float(np.median(length))
