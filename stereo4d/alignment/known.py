"""What is known before the alignment: intrinsics, poses, depths, masks, each for any frames, held hard or by a weight.

Frames are positions in the problem (0 ... N - 1). Poses and depths share one unit and one world, which then are those
of the answer; intrinsics, depths and masks are at the resolution of the pairs (``PixelMap.to_network`` brings
intrinsics there from the original images).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import AlignmentError, ShapeError

HARD = math.inf
"""The weight of what must not change."""


@dataclass(frozen=True)
class KnownIntrinsics:
    """Cameras' inner geometry."""

    frames: Tensor
    """(M,) int64, each frame once."""
    intrinsics: Tensor
    """(M, 3, 3) pixels at the resolution of the pairs, without skew; focals may differ in x and y."""
    weight: float = HARD
    """Of the squared deviation of the logarithm of the focal, and of the principal point in focal lengths."""


@dataclass(frozen=True)
class KnownPoses:
    """Where cameras stand."""

    frames: Tensor
    """(M,) int64, each frame once."""
    cam2world: Tensor
    """(M, 4, 4) rigid, all in one world."""
    weight: float = HARD
    """Of the squared rotation in radians, and of the squared distance as a share of the scene's size."""


@dataclass(frozen=True)
class KnownDepths:
    """Measured depth."""

    frames: Tensor
    """(M,) int64, each frame once."""
    depth: Tensor
    """(M, H, W) along the optical axis; zero, negative or NaN where nothing was measured."""
    weight: float = HARD
    """What a measured pixel counts for beside what the pairs say of it; a pair counts ln(confidence)."""


@dataclass(frozen=True)
class Masks:
    """Pixels that cameras must not be judged by: what moves on its own, the sky, a dashboard."""

    frames: Tensor
    """(M,) int64, each frame once."""
    ignored: Tensor
    """(M, H, W) bool."""
    keeps: float = 0.0
    """The share of their weight that ignored pixels keep; 0 leaves them out. They get a depth all the same."""


@dataclass(frozen=True)
class Known:
    """All that is known of a clip; nothing by default."""

    intrinsics: KnownIntrinsics | None = None
    poses: KnownPoses | None = None
    depths: KnownDepths | None = None
    masks: Masks | None = None

    def given(self) -> tuple[str, ...]:
        """The names of the quantities that are given."""
        return tuple(name for name in ("intrinsics", "poses", "depths", "masks") if getattr(self, name) is not None)

    def check(self, num_frames: int, image_size: tuple[int, int]) -> None:
        """Make sure that everything fits N frames of (H, W) pixels.

        Raises:
            ShapeError: an array has the wrong shape.
            AlignmentError: a frame does not exist or is given twice, or a value cannot be.
        """
        for name, entry, values, shape in (
            ("intrinsics", self.intrinsics, "intrinsics", (3, 3)),
            ("poses", self.poses, "cam2world", (4, 4)),
            ("depths", self.depths, "depth", image_size),
            ("masks", self.masks, "ignored", image_size),
        ):
            if entry is not None:
                _check_frames(name, entry.frames, num_frames)
                array = getattr(entry, values)
                if tuple(array.shape) != (len(entry.frames), *shape):
                    expected = (len(entry.frames), *shape)
                    raise ShapeError(f"known {name}: {values} is {tuple(array.shape)}, but must be {expected}")
        self._check_values()

    def _check_values(self) -> None:
        for name, entry in (("intrinsics", self.intrinsics), ("poses", self.poses), ("depths", self.depths)):
            if entry is not None and not entry.weight > 0:
                raise AlignmentError(
                    f"known {name}: weight is {entry.weight}; give a number above 0, or infinity to hold it"
                )
        if self.masks is not None and not 0 <= self.masks.keeps <= 1:
            raise AlignmentError(f"masks: keeps is {self.masks.keeps}; give a share from 0 to 1")
        if self.intrinsics is not None:
            given = self.intrinsics.intrinsics.double()
            good = torch.isfinite(given).flatten(1).all(1) & (given[:, 0, 0] > 0) & (given[:, 1, 1] > 0)
            _name_frames("intrinsics", self.intrinsics.frames, good, "finite, with focals above 0")
            _name_frames("intrinsics", self.intrinsics.frames, given[:, 0, 1].abs() < 1e-6, "without skew")
        if self.poses is not None:
            _name_frames("poses", self.poses.frames, _rigid(self.poses.cam2world), "rigid motions (4, 4)")
        if self.depths is not None:
            measured = (self.depths.depth > 0) & torch.isfinite(self.depths.depth)
            _name_frames("depths", self.depths.frames, measured.flatten(1).any(1), "above 0 somewhere")


@dataclass(frozen=True)
class KnownResidual:
    """How one known quantity and the answer agree, frame by frame."""

    quantity: str
    """``"focal"``, ``"principal point"``, ``"rotation"``, ``"position"`` or ``"depth"``."""
    unit: str
    """``"ratio"`` (|answer / given - 1|), ``"pixels"``, ``"degrees"`` or ``"share of the scene's size"``."""
    frames: tuple[int, ...]
    answer: tuple[float, ...]
    """How far the answer is from what was given; zero where it was held. Depth: the median over measured pixels."""
    pairs: tuple[float, ...]
    """How far what the pairs alone say is from what was given; NaN where they say nothing."""


def _check_frames(name: str, frames: Tensor, num_frames: int) -> None:
    if frames.ndim != 1 or frames.dtype != torch.int64 or len(frames) == 0:
        raise ShapeError(
            f"known {name}: frames must be (M,) int64 with M >= 1, got {tuple(frames.shape)} {frames.dtype}"
        )
    if int(frames.min()) < 0 or int(frames.max()) >= num_frames:
        low, high = int(frames.min()), int(frames.max())
        raise AlignmentError(f"known {name}: names frames {low} ... {high}, but there are 0 ... {num_frames - 1}")
    if len(frames.unique()) < len(frames):
        twice = sorted({f for f in frames.tolist() if int((frames == f).sum()) > 1})
        raise AlignmentError(f"known {name}: frames {', '.join(map(str, twice[:8]))} are given more than once")


def _name_frames(name: str, frames: Tensor, good: Tensor, rule: str) -> None:
    bad = frames[~good.to(frames.device)].tolist()
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (" ..." if len(bad) > 8 else "")
        raise AlignmentError(f"known {name}: those of frames {shown} must be {rule}; mend them or leave them out")


def _rigid(cam2world: Tensor) -> Tensor:
    """(M,) bool: finite, orthonormal to a thousandth, right-handed, last row (0, 0, 0, 1)."""
    given = cam2world.double()
    rotation, eye = given[:, :3, :3], torch.eye(4, dtype=torch.float64, device=given.device)
    square = (rotation @ rotation.transpose(1, 2) - eye[:3, :3]).abs().flatten(1).amax(1)
    last = (given[:, 3] - eye[3]).abs().amax(1)
    right_handed = torch.linalg.det(torch.nan_to_num(rotation)) > 0
    return torch.isfinite(given).flatten(1).all(1) & (square < 1e-3) & (last < 1e-6) & right_handed
