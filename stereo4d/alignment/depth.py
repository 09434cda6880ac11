"""Depth in closed form: with cameras and pair similarities given, every pixel's depth stands alone.

The residual of one pixel against one pair is an affine function of the pixel's depth. With ``reach`` the distance along
the ray its length is ``sqrt((reach - foot)^2 + offset^2)``: the foot of the perpendicular from the pair's point onto
the ray, and the distance of the point from the ray. Minimising the weighted sum over pairs is convex in the depth.

Coordinates come first here, (..., 3, P): sums over an axis of three are several times faster that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.known import HARD
from stereo4d.alignment.problem import AlignmentProblem, Cameras, Region
from stereo4d.geometry.camera import pixel_grid

_PIXELS_AT_ONCE = 1 << 15
_DENSE_ROUNDS = 4


@dataclass(frozen=True)
class Measured:
    """Depth that is known, beside what the pairs say."""

    depth: Tensor
    """(..., P): zero where nothing is known."""
    weight: Tensor | None
    """(..., P) what the known depth counts for beside the pairs; None holds it."""

    def held(self) -> Tensor:
        """(..., P) bool: pixels whose depth must not change."""
        return self.depth > 0 if self.weight is None else torch.zeros_like(self.depth, dtype=torch.bool)


@dataclass(frozen=True)
class Feet:
    """Where the points of K pairs stand with regard to the rays of P pixels."""

    foot: Tensor
    """(K, P) how far along the ray the point of the ray lies that is closest to the pair's point."""
    offset_squared: Tensor
    """(K, P) squared distance of the pair's point from the ray."""
    ray_length: Tensor
    """(K, P) or (P,): length of the ray at depth one."""

    def distance(self, depth: Tensor) -> Tensor:
        """(K, P) distances between the pairs' points and the points of the rays at depth (P,) or (K, P)."""
        away = self.foot - depth * self.ray_length
        return torch.addcmul(self.offset_squared, away, away).sqrt_()

    def reweighted(self, weight: Tensor, reach: Tensor, floor: float) -> Tensor:
        """(K, P) weights over distances, those below the floor taken for the floor; (P,) or (K, P) ``reach``."""
        away = self.foot - reach
        return torch.addcmul(self.offset_squared, away, away).clamp_(min=floor * floor).rsqrt_().mul_(weight)


@dataclass(frozen=True)
class Grouping:
    """Which of n frames each of K observations is of."""

    frame: Tensor
    """(K,) int64, rising."""
    membership: Tensor
    """(n, K) float32: one where an observation is of a frame."""

    def total(self, values: Tensor) -> Tensor:
        """(n, P) sums of (K, P) over each frame's observations, by a product: deterministic on a GPU too."""
        return self.membership @ values

    def of_frames(self, values: Tensor) -> Tensor:
        """(n, P) of (K, P) values that all observations of a frame share."""
        frames = torch.arange(len(self.membership), device=self.frame.device)
        return values[torch.searchsorted(self.frame, frames)]


def ray_directions(pixels: Tensor, intrinsics: Tensor, rotation: Tensor) -> Tensor:
    """(..., 3, P) rays in world axes, of length one along the optical axis.

    Args:
        pixels: (..., P, 2), as (u, v).
        intrinsics: (..., 3, 3), without skew.
        rotation: (..., 3, 3) from the camera to the world.
    """
    flat = (pixels - intrinsics[..., None, :2, 2]) / intrinsics.diagonal(dim1=-2, dim2=-1)[..., None, :2]
    rays = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1)
    return rotation @ rays.transpose(-1, -2)


def feet(relative: Tensor, direction: Tensor) -> Feet:
    """Drop the perpendiculars.

    Args:
        relative: (K, 3, P) the pairs' points as seen from the camera's centre, in world axes.
        direction: (K, 3, P) or (3, P), of the rays, likewise.
    """
    ray_length = (direction * direction).sum(-2).sqrt_()
    unit = direction / ray_length[..., None, :]
    foot = (relative * unit).sum(-2)
    aside = relative - foot[..., None, :] * unit
    return Feet(foot, aside.square_().sum(-2), ray_length)


def best_depth(
    seen: Feet,
    weight: Tensor,
    *,
    floor: float,
    rounds: int,
    start: Tensor | None = None,
    known: Measured | None = None,
    grouping: Grouping | None = None,
    pull: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The depth of each pixel that minimises its weighted sum of distances, by reweighted least squares.

    Args:
        seen: K observations, P pixels.
        weight: (K, P) >= 0.
        floor: distances below it count quadratically; > 0, in the world's unit.
        rounds: of reweighting; each lowers the sum.
        start: depth to begin with, shaped as the answer; None begins with the weighted mean of the feet.
        known: depths that count as one more observation on the ray, or are held; shaped as the answer.
        grouping: which observations are of which of several frames; None where all are of one.
        pull: a quadratic that counts beside the distances: depth at its lowest point, and second derivative; shaped as
            the answer.

    Returns:
        (P,) depth, or (n, P) of n frames; at least ``floor``.
    """
    weight = weight + 1e-12
    # Along the ray, where the sum over pairs is simplest; depth is that over the ray's length.
    length = seen.ray_length if grouping is None else grouping.of_frames(seen.ray_length)
    total: Callable[[Tensor], Tensor] = _total if grouping is None else grouping.total
    reach = total(weight * seen.foot) / total(weight) if start is None else start * length
    for _ in range(rounds):
        robust = seen.reweighted(weight, reach if grouping is None else reach[grouping.frame], floor)
        below = total(robust)
        above = total(robust.mul_(seen.foot))
        if known is not None and known.weight is not None:
            drawn = known_pull(known, reach / length, floor) / length.square()
            above, below = above + drawn * known.depth * length, below + drawn
        if pull is not None:
            above, below = above + pull[1] * pull[0] / length, below + pull[1] / length.square()
        reach = above / below
    # The sum is convex in the depth: where its minimum lies behind the camera, the closest depth allowed is the best.
    depth = (reach / length).clamp(min=floor)
    return depth if known is None else torch.where(known.held(), known.depth.clamp(min=floor), depth)


def _total(values: Tensor) -> Tensor:
    return values.sum(0)


def known_pull(known: Measured, depth: Tensor, floor: float) -> Tensor:
    """(..., P) reweighted weight of known depths: nothing where nothing is known, or where it is held."""
    if known.weight is None:
        return torch.zeros_like(depth)
    return torch.where(known.depth > 0, known.weight / (depth - known.depth).abs().clamp(min=floor), 0.0)


def dense_depth(
    problem: AlignmentProblem,
    cameras: Cameras,
    *,
    floor: float,
    rounds: int = _DENSE_ROUNDS,
    frames: list[int] | None = None,
    use_known: bool = True,
) -> tuple[Tensor, float]:
    """Depth of every pixel of every frame with the cameras held, and the loss of that answer.

    Args:
        problem: E pairs of N frames.
        cameras: the answer so far, in the unit of known depths if there are any.
        floor: see ``best_depth``.
        rounds: see ``best_depth``.
        frames: those to fill in; None all.
        use_known: whether known depths take part; without them the pairs are heard alone.

    Returns:
        (N, H, W) float32 depth, and the objective (``alignment_loss``) of cameras and depth together.
    """
    height, width = problem.image_size
    chosen = list(range(problem.num_frames)) if frames is None else frames
    depth = torch.empty(len(chosen), height, width, device=problem.edges.device)
    total = 0.0
    for position, frame in enumerate(chosen):
        pairs = sum(len(side) for side in problem.incident(frame))
        # A few rows at a time: the arrays of one round then stay in the processor's cache.
        rows_at_once = max(1, _PIXELS_AT_ONCE // (pairs * width))
        for top in range(0, height, rows_at_once):
            region = (slice(top, min(top + rows_at_once, height)), slice(0, width))
            seen, weight = frame_feet(problem, cameras, frame, region)
            known = measured(problem, frame, region) if use_known else None
            found = best_depth(seen, weight, floor=floor, rounds=rounds, known=known)
            depth[position, region[0]] = found.view(-1, width)
            total += float((weight * seen.distance(found)).sum(dtype=torch.float64))
    return depth, total / (len(problem.edges) * height * width)


def sampled_loss(problem: AlignmentProblem, cameras: Cameras, *, floor: float, most_pixels: int = 300) -> float:
    """The objective of cameras and their best depth on a strided grid of pixels that no mask ignores.

    Args:
        problem: E pairs of N frames.
        cameras: the answer.
        floor: see ``best_depth``.
        most_pixels: of every frame.
    """
    stride = stride_for(problem.image_size, most_pixels)
    region = (slice(stride // 2, None, stride),) * 2
    total, pixels = 0.0, 0
    for frame in range(problem.num_frames):
        seen, weight = frame_feet(problem, cameras, frame, region)
        known = measured(problem, frame, region)
        found = best_depth(seen, weight, floor=floor, rounds=_DENSE_ROUNDS, known=known)
        weight = weight * problem.kept(torch.tensor([frame]), region).flatten(1)
        total, pixels = total + float((weight * seen.distance(found)).sum(dtype=torch.float64)), len(found)
    return total / (len(problem.edges) * pixels)


def frame_feet(problem: AlignmentProblem, cameras: Cameras, frame: int, region: Region) -> tuple[Feet, Tensor]:
    """Perpendiculars of what all pairs say about a region of a frame, and its (K, P) weights; float32."""
    points, weight = problem.observations(frame, region)
    pairs = torch.cat(problem.incident(frame))
    linear = cameras.pair2world[pairs, :3, :3].float()
    shift = (cameras.pair2world[pairs, :3, 3] - cameras.cam2world[frame, :3, 3]).float()[..., None]
    relative = torch.baddbmm(shift, linear, points.flatten(1, 2).transpose(1, 2).contiguous())
    pixels = pixel_grid(*problem.image_size, device=points.device)[region].reshape(-1, 2)
    rotation = cameras.cam2world[frame, :3, :3].float()
    return feet(relative, ray_directions(pixels, cameras.intrinsics[frame].float(), rotation)), weight.flatten(1)


def stride_for(image_size: tuple[int, int], most_pixels: int) -> int:
    """The smallest stride whose grid over (H, W) has at most so many pixels."""
    stride = 1
    while -(-image_size[0] // stride) * -(-image_size[1] // stride) > most_pixels:
        stride += 1
    return stride


def measured(problem: AlignmentProblem, frame: int, region: Region) -> Measured | None:
    """Known depth of a region of a frame, flat; None where nothing is known of the frame."""
    given = problem.known.depths
    if given is None or not bool((given.frames == frame).any()):
        return None
    depth = given.depth[int((given.frames == frame).nonzero()[0, 0])][region].flatten().to(problem.edges.device).float()
    depth = torch.where((depth > 0) & torch.isfinite(depth), depth, 0.0)
    return Measured(depth, None if given.weight == HARD else torch.full_like(depth, given.weight))
