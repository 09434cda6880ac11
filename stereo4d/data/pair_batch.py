"""What training sees: B image pairs with the truth that objectives ask for, whatever data set they come from.

Every field is always there, so that data sets of different knowledge mix in one batch: what a data set does not know is
said to be nowhere valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from stereo4d.geometry.rigid import invert, transform_points


@dataclass(frozen=True)
class PairBatch:
    """B pairs (view 0, view 1) with their truth; all images of one stored size.

    Where a batch is stored landscape, its portrait images are transposed: their maps too, and their matches and the
    rows of their intrinsics are in stored pixels (first the stored column, then the stored row).
    """

    image0: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    image1: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    pointmap0: Tensor
    """(B, H, W, 3): points of view 0's pixels at view 0's time, in view 0's camera; zero where not valid."""
    pointmap1: Tensor
    """(B, H, W, 3): points of view 1's pixels at view 1's time, in view 0's camera; zero where not valid."""
    valid0: Tensor
    """(B, H, W) bool: pointmap0 has a measurement."""
    valid1: Tensor
    """(B, H, W) bool."""
    moving0: Tensor
    """(B, H, W) bool: the surface is known to move on its own."""
    moving1: Tensor
    """(B, H, W) bool."""
    sky0: Tensor
    """(B, H, W) bool: the pixel is known to show the sky."""
    sky1: Tensor
    """(B, H, W) bool."""
    match0: Tensor
    """(B, H, W, 2): where view 0's surface points are seen in view 1, in pixels (u, v); NaN where they are not."""
    match1: Tensor
    """(B, H, W, 2): where view 1's surface points are seen in view 0; NaN where they are not."""
    intrinsics0: Tensor
    """(B, 3, 3), pixels."""
    intrinsics1: Tensor
    """(B, 3, 3), pixels."""
    relative: Tensor
    """(B, 4, 4): pose of camera 1 in view 0's camera (cam1-to-cam0)."""
    portrait0: Tensor
    """(B,) bool: view 0 is a portrait image that is stored transposed."""
    portrait1: Tensor
    """(B,) bool."""
    metric: Tensor
    """(B,) bool: lengths are metres."""
    times: Tensor
    """(B, Q) query times: 0 is the time of view 0, 1 that of view 1."""
    motion0: Tensor
    """(B, Q, H, W, 3): how far view 0's points move from view 0's time to the query times, in view 0's camera."""
    motion1: Tensor
    """(B, Q, H, W, 3): how far view 1's points move from view 1's time, also in view 0's camera."""
    motion_valid0: Tensor
    """(B, Q, H, W) bool: False where the query time is view 0's own, of which there is nothing to learn."""
    motion_valid1: Tensor
    """(B, Q, H, W) bool."""
    names: tuple[str, ...]
    """B names that find a pair again in its data set."""

    def to(self, device: torch.device | str) -> PairBatch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def sample(self, number: int) -> PairBatch:
        """One of the pairs, as a batch of its own."""
        tensors: dict[str, Any] = {k: v[number : number + 1] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, names=(self.names[number],), **tensors)

    def true_shapes(self) -> tuple[Tensor, Tensor]:
        """(B, 2) heights and widths of the images of each view as they stand upright."""
        lying = torch.tensor(self.image0.shape[2:], device=self.image0.device)
        return (
            torch.where(self.portrait0[:, None], lying.flip(0), lying),
            torch.where(self.portrait1[:, None], lying.flip(0), lying),
        )

    def swapped(self) -> PairBatch:
        """The same pairs seen from the other side: view 1 first, its camera the frame."""
        back = invert(self.relative)
        return PairBatch(
            image0=self.image1,
            image1=self.image0,
            pointmap0=_where(self.valid1, transform_points(back, self.pointmap1)),
            pointmap1=_where(self.valid0, transform_points(back, self.pointmap0)),
            valid0=self.valid1,
            valid1=self.valid0,
            moving0=self.moving1,
            moving1=self.moving0,
            sky0=self.sky1,
            sky1=self.sky0,
            match0=self.match1,
            match1=self.match0,
            intrinsics0=self.intrinsics1,
            intrinsics1=self.intrinsics0,
            relative=back,
            portrait0=self.portrait1,
            portrait1=self.portrait0,
            metric=self.metric,
            times=1 - self.times,
            motion0=turned(back, self.motion1),
            motion1=turned(back, self.motion0),
            motion_valid0=self.motion_valid1,
            motion_valid1=self.motion_valid0,
            names=self.names,
        )


def joined(batches: Sequence[PairBatch]) -> PairBatch:
    """Several batches, of one stored size and as many query times, as one."""
    tensors = [field.name for field in fields(PairBatch) if field.name != "names"]
    values: dict[str, Any] = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in tensors}
    return PairBatch(names=tuple(name for batch in batches for name in batch.names), **values)


def symmetrised(batch: PairBatch) -> PairBatch:
    """Every pair in both orders: first as it is, then all of them swapped."""
    return joined([batch, batch.swapped()])


def turned(pose: Tensor, displacement: Tensor) -> Tensor:
    """Displacements (B, Q, H, W, 3) along the axes of another frame, given its pose (B, 4, 4)."""
    return torch.einsum("bij,bqhwj->bqhwi", pose[:, :3, :3], displacement)


def _where(valid: Tensor, points: Tensor) -> Tensor:
    return torch.where(valid[..., None], points, 0)
