"""How far a reconstructed scene is from the exact truth of its clip."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from stereo4d.errors import ShapeError
from stereo4d.evaluation.metrics import (
    absolute_trajectory_error,
    depth_errors,
    path_length,
    relative_poses,
    rotation_error,
)
from stereo4d.types import ClipTruth, Scene


@dataclass(frozen=True)
class SceneErrors:
    """Errors of a scene, each beside what a guess would get. Scale is unknown, so it is fitted where it matters."""

    depth_abs_rel: float
    """Mean of |depth - truth| / truth over all frames, one median scale for the clip."""
    depth_abs_rel_constant: float
    """The same of a guess that everything is equally far."""
    depth_delta_125: float
    """Share of pixels whose depth is within a factor of 1.25 of the truth, one median scale for the clip."""
    depth_delta_125_constant: float
    """The same of the constant guess."""
    depth_abs_rel_per_frame: float
    """Mean over frames of AbsRel, a median scale for every frame: how good the shapes are, drift of scale aside."""
    depth_abs_rel_per_frame_constant: float
    """The same of the constant guess."""
    depth_delta_125_per_frame: float
    """Mean over frames of the share within a factor of 1.25, a median scale for every frame."""
    depth_delta_125_per_frame_constant: float
    """The same of the constant guess."""
    focal_error: float
    """Median over frames of |focal - truth| / truth."""
    trajectory_error: float | None
    """RMS distance of camera centres after a similarity (ATE), as a share of the path's length; None without a path."""
    trajectory_error_still: float | None
    """The same of a camera that does not move."""
    rotation_error: float | None
    """Mean angle between true and found rotation from frame to frame, degrees; None for one frame."""
    rotation_error_still: float | None
    """The same of a camera that does not turn."""

    def as_dict(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The errors in words."""
        lines = [
            f"depth AbsRel {self.depth_abs_rel:.3f} (constant guess {self.depth_abs_rel_constant:.3f}), "
            f"within 1.25x {self.depth_delta_125:.1%} ({self.depth_delta_125_constant:.1%})",
            f"depth scaled per frame: AbsRel {self.depth_abs_rel_per_frame:.3f} "
            f"({self.depth_abs_rel_per_frame_constant:.3f}), within 1.25x {self.depth_delta_125_per_frame:.1%} "
            f"({self.depth_delta_125_per_frame_constant:.1%})",
            f"focal off by {self.focal_error:.1%}",
        ]
        if self.trajectory_error is not None:
            lines.append(
                f"camera path off by {self.trajectory_error:.1%} of its length "
                f"(camera held still {self.trajectory_error_still:.1%})"
            )
        if self.rotation_error is not None:
            lines.append(
                f"rotation per frame off by {self.rotation_error:.2f} deg "
                f"(camera held still {self.rotation_error_still:.2f} deg)"
            )
        return lines


def scene_errors(scene: Scene, truth: ClipTruth, *, stride: int = 1) -> SceneErrors:
    """Compare a scene with the truth of the clip it was made from.

    Args:
        scene: N frames; ``frame_indices`` say which frames of the clip they are.
        truth: of the whole clip, at its original resolution.
        stride: rotations are compared between scene frames so far apart.

    Raises:
        ShapeError: the truth is of another clip: other image size, or too few frames.
    """
    frames = scene.frame_indices
    height, width = truth.depth.shape[1:]
    if frames.max() >= len(truth.depth) or (scene.original_sizes != (height, width)).any():
        raise ShapeError(
            f"truth of {len(truth.depth)} frames of {width}x{height} does not fit a scene that uses frame "
            f"{frames.max()} of {scene.original_sizes[0, 1]}x{scene.original_sizes[0, 0]}; is it of another clip?"
        )
    true_depth = torch.from_numpy(np.stack([true_depth_as_seen(scene, truth, i) for i in range(len(scene))]))
    depth = torch.from_numpy(np.asarray(scene.depth, np.float32))
    constant = torch.ones_like(depth)
    # As a batch of one, the clip has one scale.
    found, guess = (depth_errors(values[None], true_depth[None]) for values in (depth, constant))
    found_per_frame, guess_per_frame = (depth_errors(values, true_depth) for values in (depth, constant))
    focal = scene.intrinsics_original[:, [0, 1], [0, 1]].mean(1)
    true_focal = truth.intrinsics[frames][:, [0, 1], [0, 1]].mean(1)
    poses = _pose_errors(scene, torch.from_numpy(np.array(truth.cam2world[frames], np.float64)), stride)
    return SceneErrors(
        depth_abs_rel=float(found.abs_rel[0]),
        depth_abs_rel_constant=float(guess.abs_rel[0]),
        depth_delta_125=float(found.delta_125[0]),
        depth_delta_125_constant=float(guess.delta_125[0]),
        depth_abs_rel_per_frame=float(found_per_frame.abs_rel.nanmean()),
        depth_abs_rel_per_frame_constant=float(guess_per_frame.abs_rel.nanmean()),
        depth_delta_125_per_frame=float(found_per_frame.delta_125.nanmean()),
        depth_delta_125_per_frame_constant=float(guess_per_frame.delta_125.nanmean()),
        focal_error=float(np.median(np.abs(focal - true_focal) / true_focal)),
        trajectory_error=poses[0],
        trajectory_error_still=poses[1],
        rotation_error=poses[2],
        rotation_error_still=poses[3],
    )


def true_depth_as_seen(scene: Scene, truth: ClipTruth, position: int) -> np.ndarray:
    """The truth's depth at the centres of a scene frame's pixels, crop and resize taken into account.

    Args:
        scene: N frames.
        truth: of the whole clip, at its original resolution.
        position: of the frame in the scene.

    Returns:
        (H, W) float32 at the scene's resolution, of the nearest pixel of the clip; 0 outside the clip's image.
    """
    to_original = scene.intrinsics_original[position] @ np.linalg.inv(scene.intrinsics[position].astype(np.float64))
    height, width = scene.depth.shape[1:]
    u = np.rint(to_original[0, 0] * np.arange(width) + to_original[0, 2]).astype(int)
    v = np.rint(to_original[1, 1] * np.arange(height) + to_original[1, 2]).astype(int)
    depth = truth.depth[scene.frame_indices[position]]
    inside = ((v >= 0) & (v < depth.shape[0]))[:, None] & ((u >= 0) & (u < depth.shape[1]))[None]
    nearest = depth[v.clip(0, depth.shape[0] - 1)][:, u.clip(0, depth.shape[1] - 1)]
    return np.where(inside, nearest, 0).astype(np.float32)


def _pose_errors(
    scene: Scene, true_cam2world: torch.Tensor, stride: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """ATE over path length and mean rotation error of the scene, each with that of a camera held still."""
    cam2world = torch.from_numpy(np.asarray(scene.cam2world, np.float64))
    still = torch.eye(4, dtype=torch.float64).repeat(len(scene), 1, 1)
    trajectory: tuple[float | None, float | None] = (None, None)
    rotation: tuple[float | None, float | None] = (None, None)
    length = path_length(true_cam2world)
    if length > 0:
        trajectory = (
            absolute_trajectory_error(cam2world, true_cam2world) / length,
            absolute_trajectory_error(still, true_cam2world) / length,
        )
    if len(scene) > stride:
        true_steps = relative_poses(true_cam2world, stride)
        rotation = (
            float(rotation_error(relative_poses(cam2world, stride), true_steps).mean()),
            float(rotation_error(relative_poses(still, stride), true_steps).mean()),
        )
    return (*trajectory, *rotation)
