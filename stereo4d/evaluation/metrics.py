"""Numbers that say how far a prediction is from the truth. Formulas as the papers of the family use them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.geometry.rigid import invert, rotation_angle, similarity


@dataclass(frozen=True)
class DepthErrors:
    """Errors of B depth maps after scaling each by its median."""

    abs_rel: Tensor
    """(B,) mean of |predicted - truth| / truth over valid pixels; NaN where a map has none."""
    delta_125: Tensor
    """(B,) share of valid pixels whose ratio to the truth is below 1.25 either way; NaN where a map has none."""
    scale: Tensor
    """(B,) what each prediction was multiplied by."""


def median_scale(predicted: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """The factor that brings the median of each prediction onto the truth's.

    Args:
        predicted: (B, ...) depth, any unit.
        truth: (B, ...) depth; <= 0 or not finite marks no measurement.
        valid: (B, ...) bool; None takes all pixels where truth is measured.

    Returns:
        (B,) median(truth) / median(predicted), each the lower median for even counts; NaN without valid pixels.
    """
    valid = _valid(predicted, truth, valid)
    # nanmedian is the lower median, as in the protocols of the papers.
    nan = torch.full_like(truth, torch.nan)
    return (
        torch.where(valid, truth, nan).flatten(1).nanmedian(1).values
        / torch.where(valid, predicted, nan).flatten(1).nanmedian(1).values
    )


def depth_errors(
    predicted: Tensor, truth: Tensor, valid: Tensor | None = None, *, scale: Tensor | None = None
) -> DepthErrors:
    """AbsRel and delta < 1.25 of each depth map, by default after scaling each by its median.

    One scale for a whole sequence: pass it as a batch of one, (1, N, H, W).

    Args:
        predicted: (B, ...) depth, any unit.
        truth: (B, ...) depth; <= 0 or not finite marks no measurement.
        valid: (B, ...) bool; None takes all pixels where truth is measured.
        scale: (B,) to use instead of the median's.

    Raises:
        ShapeError: the shapes differ.
    """
    valid = _valid(predicted, truth, valid)
    scale = median_scale(predicted, truth, valid) if scale is None else scale
    scaled = torch.where(valid, predicted, 1).flatten(1) * scale[:, None]
    target, mask = torch.where(valid, truth, 1).flatten(1), valid.flatten(1)
    count = mask.sum(1)
    absolute = ((scaled - target).abs() / target * mask).sum(1) / count
    ratio = torch.maximum(scaled / target, target / scaled)
    # A prediction at or behind the camera is never within 1.25, whatever the sign of the ratio says.
    close = (ratio < 1.25) & (scaled > 0) & mask
    return DepthErrors(absolute, close.sum(1) / count, scale)


def _valid(predicted: Tensor, truth: Tensor, valid: Tensor | None) -> Tensor:
    if predicted.shape != truth.shape or (valid is not None and valid.shape != truth.shape):
        shapes = [tuple(t.shape) for t in (predicted, truth, valid) if t is not None]
        raise ShapeError(f"predicted, truth and valid must have one shape, got {shapes}")
    measured = torch.isfinite(truth) & (truth > 0)
    return measured if valid is None else measured & valid


def rotation_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Angle in degrees between the rotations of (..., 4, 4) rigid motions, e.g. relative poses; (...)."""
    difference = truth[..., :3, :3].transpose(-1, -2) @ predicted[..., :3, :3]
    return torch.rad2deg(rotation_angle(difference))


def translation_direction_error(predicted: Tensor, truth: Tensor, *, signed: bool = True) -> Tensor:
    """Angle in degrees between the translations of (..., 4, 4) rigid motions; (...).

    Args:
        predicted: (..., 4, 4), translation in any unit.
        truth: (..., 4, 4).
        signed: False takes opposite directions for equal (at most 90 degrees), as PoseDiffusion's protocol does.

    Returns:
        The angle; 90 where a translation is zero, since no direction was given.
    """
    a, b = predicted[..., :3, 3], truth[..., :3, 3]
    # atan2 of cross and dot keeps precision near 0 and 180 degrees, where arccos loses it.
    sine, cosine = torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1)
    angle = torch.rad2deg(torch.atan2(sine, cosine if signed else cosine.abs()))
    no_direction = (a.norm(dim=-1) == 0) | (b.norm(dim=-1) == 0)
    return torch.where(no_direction, 90.0, angle)


def relative_poses(cam2world: Tensor, stride: int = 1) -> Tensor:
    """Pose of camera n + stride in the frame of camera n: (N, 4, 4) -> (N - stride, 4, 4)."""
    return invert(cam2world[:-stride]) @ cam2world[stride:]


def align_trajectory(predicted: Tensor, truth: Tensor) -> Tensor:
    """Move a trajectory by the similarity that brings its camera centres closest to the truth's (Umeyama 1991).

    Args:
        predicted: (N, 4, 4) cam2world.
        truth: (N, 4, 4) cam2world.

    Returns:
        (N, 4, 4) rigid cam2world in the truth's world and scale. A prediction without any motion collapses onto the
        truth's mean centre.
    """
    if predicted.shape != truth.shape:
        raise ShapeError(f"trajectories {tuple(predicted.shape)} and {tuple(truth.shape)} must have one length")
    centres, target = predicted[None, :, :3, 3], truth[None, :, :3, 3]
    transform = similarity(centres, target, torch.ones_like(centres[..., 0]))[0]
    aligned = transform @ predicted
    # Cameras stay rigid: the scale acts on where they stand only.
    scale = transform[0, :3].norm()
    if float(scale) > 0:
        aligned[:, :3, :3] = aligned[:, :3, :3] / scale
    else:
        aligned[:, :3, :3] = predicted[:, :3, :3]
    return aligned


def absolute_trajectory_error(predicted: Tensor, truth: Tensor) -> float:
    """ATE: RMS distance of camera centres after a Sim(3) alignment, in the truth's unit; both (N, 4, 4) cam2world."""
    difference = align_trajectory(predicted, truth)[:, :3, 3] - truth[:, :3, 3]
    return float(difference.square().sum(-1).mean().sqrt())


def relative_pose_error(predicted: Tensor, truth: Tensor, stride: int = 1) -> tuple[float, float]:
    """RPE after a Sim(3) alignment: (RMS translation in the truth's unit, RMS rotation in degrees); both (N, 4, 4)."""
    step = invert(relative_poses(truth, stride)) @ relative_poses(align_trajectory(predicted, truth), stride)
    angle = torch.rad2deg(rotation_angle(step[:, :3, :3]))
    return float(step[:, :3, 3].square().sum(-1).mean().sqrt()), float(angle.square().mean().sqrt())


def path_length(cam2world: Tensor) -> float:
    """Length of the way the camera's centre takes, (N, 4, 4) cam2world, in the trajectory's unit."""
    return float(cam2world[:, :3, 3].diff(dim=0).norm(dim=-1).sum())
