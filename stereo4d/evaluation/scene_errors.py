"""How far a reconstructed scene is from the exact truth of its clip."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from stereo4d.errors import ShapeError
from stereo4d.evaluation.metrics import absolute_trajectory_error, depth_errors, path_length, relative_pose_error
from stereo4d.types import ClipTruth, Scene


@dataclass(frozen=True)
class SceneErrors:
    """Errors of a scene, each beside what a guess would get. Scale is unknown, so it is fitted where it matters."""

    depth_abs_rel: float
    """Mean of |depth - truth| / truth over all frames, one median scale for the clip."""
    depth_abs_rel_constant: float
    """The same of a guess that everything is equally far."""
    depth_delta_125: float
    """Share of pixels whose depth is within a factor of 1.25 of the truth."""
    focal_error: float
    """Median over frames of |focal - truth| / truth."""
    trajectory_error: float | None
    """RMS distance of camera centres after a similarity (ATE), as a share of the path's length; None for one frame."""
    trajectory_error_still: float | None
    """The same of a camera that does not move."""
    rotation_error: float | None
    """RMS angle between true and found rotation from frame to frame, degrees; None for one frame."""
    rotation_error_still: float | None
    """The same of a camera that does not turn."""

    def as_dict(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The errors in words."""
        lines = [
            f"depth AbsRel {self.depth_abs_rel:.3f} (constant guess {self.depth_abs_rel_constant:.3f}), "
            f"within 1.25x {self.depth_delta_125:.1%}",
            f"focal off by {self.focal_error:.1%}",
        ]
        if self.trajectory_error is not None:
            lines += [
                f"camera path off by {self.trajectory_error:.1%} of its length "
                f"(camera held still {self.trajectory_error_still:.1%})",
                f"rotation per frame off by {self.rotation_error:.2f} deg "
                f"(camera held still {self.rotation_error_still:.2f} deg)",
            ]
        return lines


def scene_errors(scene: Scene, truth: ClipTruth) -> SceneErrors:
    """Compare a scene with the truth of the clip it was made from.

    Args:
        scene: N frames; ``frame_indices`` say which frames of the clip they are.
        truth: of the whole clip, at its original resolution.

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
    true_depth = torch.from_numpy(np.stack([_truth_as_seen(scene, truth, i) for i in range(len(scene))]))[None]
    depth = torch.from_numpy(np.asarray(scene.depth, np.float32))[None]
    found, guess = depth_errors(depth, true_depth), depth_errors(torch.ones_like(depth), true_depth)
    focal = scene.intrinsics_original[:, [0, 1], [0, 1]].mean(1)
    true_focal = truth.intrinsics[frames][:, [0, 1], [0, 1]].mean(1)
    trajectory = _trajectory_errors(scene, torch.from_numpy(np.array(truth.cam2world[frames], np.float64)))
    return SceneErrors(
        depth_abs_rel=float(found.abs_rel[0]),
        depth_abs_rel_constant=float(guess.abs_rel[0]),
        depth_delta_125=float(found.delta_125[0]),
        focal_error=float(np.median(np.abs(focal - true_focal) / true_focal)),
        trajectory_error=trajectory[0],
        trajectory_error_still=trajectory[1],
        rotation_error=trajectory[2],
        rotation_error_still=trajectory[3],
    )


def _truth_as_seen(scene: Scene, truth: ClipTruth, position: int) -> np.ndarray:
    """(H, W) true depth at the centres of a scene frame's pixels; 0 outside the clip's image."""
    to_original = scene.intrinsics_original[position] @ np.linalg.inv(scene.intrinsics[position].astype(np.float64))
    height, width = scene.depth.shape[1:]
    u = np.rint(to_original[0, 0] * np.arange(width) + to_original[0, 2]).astype(int)
    v = np.rint(to_original[1, 1] * np.arange(height) + to_original[1, 2]).astype(int)
    depth = truth.depth[scene.frame_indices[position]]
    inside = ((v >= 0) & (v < depth.shape[0]))[:, None] & ((u >= 0) & (u < depth.shape[1]))[None]
    return np.where(inside, depth[v.clip(0, depth.shape[0] - 1)][:, u.clip(0, depth.shape[1] - 1)], 0).astype(
        np.float32
    )


def _trajectory_errors(
    scene: Scene, true_cam2world: torch.Tensor
) -> tuple[float, float, float, float] | tuple[None, None, None, None]:
    """ATE over path length and rotation RPE of the scene, each with that of a camera held still; None for one frame."""
    length = path_length(true_cam2world) if len(scene) > 1 else 0.0
    if not length:
        return None, None, None, None
    cam2world = torch.from_numpy(np.asarray(scene.cam2world, np.float64))
    still = torch.eye(4, dtype=torch.float64).expand(len(scene), 4, 4).contiguous()
    return (
        absolute_trajectory_error(cam2world, true_cam2world) / length,
        absolute_trajectory_error(still, true_cam2world) / length,
        relative_pose_error(cam2world, true_cam2world)[1],
        relative_pose_error(still, true_cam2world)[1],
    )
