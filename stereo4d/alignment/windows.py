"""Long clips in overlapping windows: which frames go together, and how one window's world lies in the next one's.

Every window is an alignment of its own, in a world and scale of its own. Neighbours share frames, and both say where
the points of these frames lie and where their cameras stand: one similarity carries the one world into the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.rigid import rotation_angle, similarity, transform_points

_SAMPLES = 400
_ROUNDS = 10
_FLOOR = 1e-4
_TOLERATED_RATIO = 3.0
_CENTRES_SHARE = 0.1


@dataclass(frozen=True)
class Window:
    """Frames ``start`` to ``stop - 1``, solved together."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def shared_with(self, other: Window) -> range:
        """Frames that both hold."""
        return range(max(self.start, other.start), min(self.stop, other.stop))


def cut_into_windows(num_frames: int, window: int, overlap: int) -> list[Window]:
    """Windows of so many frames, spread evenly, each sharing at least ``overlap`` frames with the next.

    Any two frames at most ``overlap`` apart are together in at least one of them.

    Args:
        num_frames: N >= 1.
        window: frames of each; all of them where there are fewer.
        overlap: 2 or more, and at most half of a window.

    Raises:
        UsageError: these windows cannot be.
    """
    if window < 4:
        raise UsageError(f"--window {window}: a window needs 4 frames or more, of which it shares 2 with the next")
    if not 2 <= overlap <= window // 2:
        raise UsageError(
            f"--overlap {overlap}: windows of {window} frames share 2 to {window // 2} frames with the next; give a "
            "number between, or leave it out"
        )
    if window >= num_frames:
        return [Window(0, num_frames)]
    count = math.ceil((num_frames - overlap) / (window - overlap))
    starts = [round(k * (num_frames - window) / (count - 1)) for k in range(count)]
    return [Window(start, start + window) for start in starts]


def frame_shares(windows: Sequence[Window]) -> Tensor:
    """(K, N) what each window has to say of each frame: it fades towards the ends that it shares."""
    frames = torch.arange(windows[-1].stop, dtype=torch.float64)
    rows = []
    for window in windows:
        before = frames - window.start + 0.5 if window.start else torch.full_like(frames, torch.inf)
        after = window.stop - 0.5 - frames if window.stop < len(frames) else torch.full_like(frames, torch.inf)
        rows.append(torch.minimum(before, after).clamp(min=0, max=len(frames)))
        rows[-1] = torch.where((frames >= window.start) & (frames < window.stop), rows[-1], 0.0)
    shares = torch.stack(rows)
    return shares / shares.sum(0)


def homes(windows: Sequence[Window]) -> list[int]:
    """For each of N frames, the window that has most to say of it."""
    return frame_shares(windows).argmax(0).tolist()


@dataclass(frozen=True)
class SeenFrames:
    """What one window says of M frames, on a sample of P pixels of each; float64."""

    points: Tensor
    """(M, P, 3) in the window's world."""
    depth: Tensor
    """(M, P) > 0, in its unit."""
    weight: Tensor
    """(M, P) >= 0: confidence, and zero where something moves."""
    cam2world: Tensor
    """(M, 4, 4) rigid."""

    @property
    def size(self) -> float:
        """How far the scene is: the median depth."""
        return max(float(self.depth.median()), 1e-12)


def see_frames(
    cam2world: Tensor, intrinsics: Tensor, depth: Tensor, confidence: Tensor, moving: Tensor | None = None
) -> SeenFrames:
    """Sample what a window says of some of its frames.

    Args:
        cam2world: (M, 4, 4) rigid.
        intrinsics: (M, 3, 3) pixels.
        depth: (M, H, W) > 0.
        confidence: (M, H, W) >= 1.
        moving: (M, H, W) bool, pixels that tell nothing of the cameras; None for none.
    """
    stride = sample_stride(depth.shape[1], depth.shape[2])
    region = (slice(stride // 2, None, stride),) * 2
    chosen = depth[:, *region].double().flatten(1)
    pixels = pixel_grid(*depth.shape[1:])[region].reshape(-1, 2).double()
    lens, poses = intrinsics.double(), cam2world.double()
    flat = (pixels - lens[:, None, :2, 2]) / lens.diagonal(dim1=1, dim2=2)[:, None, :2]
    camera = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1) * chosen[..., None]
    weight = confidence[:, *region].double().flatten(1).clamp(min=1 + 1e-3).log()
    if moving is not None:
        still = (~moving[:, *region].flatten(1)).double()
        # Where nearly everything moves, what moves is all there is.
        weight = torch.where(still.mean(1, keepdim=True) > 0.05, weight * still, weight)
    weight = torch.where((chosen > 0) & chosen.isfinite(), weight, 0.0)
    return SeenFrames(transform_points(poses, camera), chosen.clamp(min=1e-12), weight, poses)


def sample_stride(height: int, width: int) -> int:
    """The stride at which pixels of a frame are looked at where windows are compared."""
    return max(1, round((height * width / _SAMPLES) ** 0.5))


@dataclass(frozen=True)
class Seam:
    """How the world of one window lies in that of another, and how well they agree."""

    transform: Tensor
    """(4, 4) similarity: from the second window's world to the first one's."""
    points_error: float
    """Median distance between both windows' points of the shared pixels, as a share of their depth."""
    centre_error: float
    """Mean distance between both windows' camera centres, as a share of the scene's size."""
    rotation_error: float
    """Mean angle between both windows' cameras, in degrees."""


def find_seam(first: SeenFrames, second: SeenFrames) -> Seam:
    """Lay one window onto another by the frames that both hold.

    Distances between both windows' points count as shares of their depth, and what one of them got wrong fades out;
    camera centres count for a tenth.

    Args:
        first: M shared frames as the first window has them.
        second: the same pixels of the same frames as the second has them.
    """
    source, target = (torch.cat([side.points.flatten(0, 1), side.cam2world[:, :3, 3]]) for side in (second, first))
    weight = (first.weight * second.weight).sqrt().flatten()
    if float(weight.sum()) <= 0:
        weight = torch.ones_like(weight)
    frames = len(first.cam2world)
    centres = weight.new_full((frames,), _CENTRES_SHARE * float(weight.sum()) / frames)
    reach = torch.cat([first.depth.flatten(), first.depth.new_full((frames,), first.size)])
    # The same pixel of the same camera: both depths differ by the scale only, wherever the windows lie.
    ratio = (first.depth / second.depth).log().flatten()
    usual = ratio[weight > 0].median()
    agreeing = weight / (ratio - usual).abs().clamp(min=_FLOOR)
    start = torch.cat([agreeing, centres * float(agreeing.sum() / weight.sum())])
    transform = robust_similarity(source, target, torch.cat([weight, centres]), reach, start)
    apart = (transform_points(transform[None], second.points.flatten(0, 1)[None])[0] - target[:-frames]).norm(dim=-1)
    counted = weight > 0
    placed = transform @ second.cam2world
    turned = placed[:, :3, :3] / transform[0, :3].norm() @ first.cam2world[:, :3, :3].transpose(1, 2)
    return Seam(
        transform,
        points_error=float((apart / reach[:-frames])[counted].median()),
        centre_error=float((placed[:, :3, 3] - first.cam2world[:, :3, 3]).norm(dim=-1).mean()) / first.size,
        rotation_error=float(torch.rad2deg(rotation_angle(turned)).mean()),
    )


def robust_similarity(
    source: Tensor, target: Tensor, weight: Tensor, reach: Tensor, start: Tensor | None = None
) -> Tensor:
    """The similarity from source to target that most points agree with, by reweighting.

    First distances count linearly, then those well above the median fade out (Geman-McClure).

    Args:
        source: (P, 3) float64.
        target: (P, 3).
        weight: (P,) >= 0.
        reach: (P,) > 0: what each distance is measured in.
        start: (P,) >= 0: weights to begin with; None begins with ``weight``.

    Returns:
        (4, 4); the identity where the points lie in one place.
    """
    share = 1 / reach.square()
    transform = similarity(source[None], target[None], (share * (weight if start is None else start))[None])[0]
    for round_ in range(_ROUNDS):
        away = (transform_points(transform[None], source[None])[0] - target).norm(dim=-1) / reach
        if round_ < _ROUNDS // 2:
            robust = 1 / away.clamp(min=_FLOOR)
        else:
            usual = _TOLERATED_RATIO * float(away[weight > 0].median()) if bool((weight > 0).any()) else 1.0
            robust = 1 / (1 + (away / max(usual, _FLOOR)).square()).square()
        transform = similarity(source[None], target[None], (share * weight * robust)[None])[0]
    usable = bool(transform.isfinite().all()) and float(transform[0, :3].norm()) > 1e-9
    return transform if usable else torch.eye(4, dtype=transform.dtype)
