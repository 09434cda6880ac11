"""How far an answer about a clip is from the truth, and how far two answers are from each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from stereo4d.evaluation.metrics import (
    absolute_trajectory_error,
    depth_errors,
    path_length,
    rotation_error,
)
from stereo4d.evaluation.peer import ClipAnswer, SparseDepth
from stereo4d.geometry.rigid import invert
from stereo4d.types import ClipTruth, Scene

USABLE_TRAJECTORY = 0.05
"""Share of the path's length that a usable path is off by at most."""
USABLE_PLACED = 0.9
"""Share of the frames that a usable path has at least."""
_FEWEST = 3  # frames: a similarity lays any two camera centres onto any two others


@dataclass(frozen=True)
class ClipErrors:
    """Errors of an answer; None where there is nothing to compare."""

    frames: int
    placed: int
    """Frames whose camera it says; the errors below are theirs."""
    trajectory: float | None
    """RMS distance of camera centres after a similarity (ATE), as a share of the length of the whole true path."""
    rotation: float | None
    """Mean over all pairs of frames of the angle between found and true relative rotation, degrees."""
    focal: float | None
    """Median over frames of |focal - truth| / truth."""
    depth: float | None
    """Mean of |depth - truth| / truth where a peer triangulated points, one median scale for the clip."""
    seconds: float
    failure: str = ""

    @property
    def usable(self) -> bool:
        """Whether someone could work with this path: nearly all frames are there, near enough to where they were."""
        placed = self.placed >= USABLE_PLACED * self.frames
        return placed and self.trajectory is not None and self.trajectory <= USABLE_TRAJECTORY

    def as_dict(self) -> dict[str, float | str | bool | None]:
        """Plain values."""
        return {**asdict(self), "usable": self.usable}


@dataclass(frozen=True)
class Agreement:
    """How far two answers about one clip are from each other, over the frames that both of them place."""

    frames: int
    placed: tuple[int, int]
    """Frames that each of them places."""
    common: int
    """Frames that both of them place."""
    trajectory: float | None
    """RMS distance of camera centres after a similarity, as a share of the second path's length; None without a path,
    or with fewer than three frames."""
    rotation: float | None
    """Mean over all pairs of frames of the angle between the two relative rotations, degrees."""
    focal: float | None
    """Median over frames of the first focal over the second, less one."""


def clip_errors(answer: ClipAnswer, truth: ClipTruth) -> ClipErrors:
    """Compare an answer about all frames of a clip with the truth.

    Args:
        answer: N frames, in pixels of the clip's frames.
        truth: of the same frames.
    """
    placed = answer.placed
    focal = np.abs(answer.focal / np.asarray(truth.intrinsics)[:, 0, 0] - 1)[placed]
    return ClipErrors(
        frames=len(placed),
        placed=int(placed.sum()),
        trajectory=trajectory_error(answer.cam2world, truth.cam2world, placed),
        rotation=_rotation_error(answer.cam2world, truth.cam2world, placed),
        focal=float(np.median(focal)) if len(focal) else None,
        depth=_depth_error(answer.points, truth),
        seconds=answer.seconds,
        failure=answer.failure,
    )


def trajectory_error(cam2world: np.ndarray, truth: np.ndarray, frames: np.ndarray) -> float | None:
    """ATE over some frames as a share of the length of the whole true path.

    Args:
        cam2world: (N, 4, 4), finite for those frames.
        truth: (N, 4, 4) cam2world.
        frames: (N,) bool.

    Returns:
        None without a path, or with fewer than three frames.
    """
    found, target = _poses(cam2world, frames), _poses(truth, frames)
    length = path_length(torch.from_numpy(np.array(truth, np.float64)))
    if len(found) < _FEWEST or length == 0:
        return None
    return absolute_trajectory_error(found, target) / length


def agreement(first: ClipAnswer, second: ClipAnswer) -> Agreement:
    """Compare two answers about the same N frames; the second is the measure."""
    common = first.placed & second.placed
    found, target = _poses(first.cam2world, common), _poses(second.cam2world, common)
    length = path_length(target)
    path = len(found) >= _FEWEST and length > 0
    focal = (first.focal / second.focal - 1)[common]
    return Agreement(
        frames=len(common),
        placed=(int(first.placed.sum()), int(second.placed.sum())),
        common=int(common.sum()),
        trajectory=absolute_trajectory_error(found, target) / length if path else None,
        rotation=_rotation_error(first.cam2world, second.cam2world, common),
        focal=float(np.median(focal)) if len(focal) else None,
    )


def scene_answer(scene: Scene, places: SparseDepth, seconds: float) -> ClipAnswer:
    """What a scene says about the frames it was made from, in pixels of its input.

    Args:
        scene: N frames.
        places: where to say the depth; ``frame`` counts the scene's frames.
        seconds: what it took.
    """
    cam2world = np.asarray(scene.cam2world, np.float64)
    focal = scene.intrinsics_original[:, [0, 1], [0, 1]].mean(1)
    return ClipAnswer(cam2world, focal, depth_at(scene, places), seconds)


def depth_at(scene: Scene, places: SparseDepth) -> SparseDepth:
    """A scene's depth at places in its input, read from the nearest pixel; those outside its images are left out."""
    to_scene = scene.intrinsics.astype(np.float64) @ np.linalg.inv(scene.intrinsics_original)
    scale, offset = to_scene[:, [0, 1], [0, 1]], to_scene[:, :2, 2]
    pixel = places.pixel * scale[places.frame] + offset[places.frame]
    depth, inside = _nearest(scene.depth, places.frame, pixel)
    return SparseDepth(places.frame[inside], places.pixel[inside], depth)


def _depth_error(points: SparseDepth, truth: ClipTruth) -> float | None:
    true_depth, inside = _nearest(truth.depth, points.frame, points.pixel)
    if not inside.any():
        return None
    found = points.depth[inside]
    return float(depth_errors(torch.from_numpy(found)[None], torch.from_numpy(true_depth)[None]).abs_rel[0])


def _nearest(depth: np.ndarray, frame: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P',) float64 depth at the nearest pixels of (N, H, W) maps, and which of the (P,) places lie inside."""
    height, width = depth.shape[1:]
    u, v = np.rint(pixel).astype(np.int64).T
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return np.asarray(depth)[frame[inside], v[inside], u[inside]].astype(np.float64), inside


def _rotation_error(found: np.ndarray, truth: np.ndarray, frames: np.ndarray) -> float | None:
    first, second = _poses(found, frames), _poses(truth, frames)
    if len(first) < 2:
        return None
    i, j = torch.triu_indices(len(first), len(first), 1)
    return float(rotation_error(invert(first[i]) @ first[j], invert(second[i]) @ second[j]).mean())


def _poses(cam2world: np.ndarray, frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(cam2world, np.float64)[frames])
