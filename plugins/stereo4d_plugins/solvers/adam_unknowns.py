"""The family's unknowns of an alignment: how cameras, depths and pair similarities are written down for Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from stereo4d.alignment import AlignmentProblem, AlignmentState
from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.known import Known
from stereo4d.alignment.problem import PAIR_SCALE
from stereo4d.geometry.camera import pinhole, pixel_grid

FOCAL_FACTOR = 20.0
"""A focal f is stored as 20 ln f: a step of one length then changes it by a twentieth of what it changes a depth."""
CENTRE_FACTOR = 10.0
"""A principal point is stored as its offset from (W/2, H/2) in tens of pixels."""


@dataclass(frozen=True)
class Unknowns:
    """What Adam changes. Translations are stored by ``squeezed``, quaternions as (x, y, z, w) of any length."""

    log_depth: Tensor
    """(N, P)."""
    pose: Tensor
    """(N, 7) quaternion and translation of cam2world."""
    focal: Tensor
    """(1,) if shared or (N,): 20 ln f."""
    centre: Tensor
    """(1, 2) if shared or (N, 2); zero, and left alone, unless the principal point is free."""
    pair: Tensor
    """(E, 8) quaternion, translation divided by the scale, and log-scale."""
    image_size: tuple[int, int]
    """(H, W)."""
    unit_given: bool = False
    """Whether known quantities say how large the world is."""

    @staticmethod
    def of(problem: AlignmentProblem, state: AlignmentState) -> Unknowns:
        """Write a state down, in float32, for an optimiser."""
        height, width = problem.image_size
        several = slice(0, 1) if problem.shared_focal else slice(None)
        focal = state.intrinsics[several, [0, 1], [0, 1]].log().mean(1)
        middle = state.intrinsics.new_tensor([width / 2, height / 2])
        scale = state.pair2world[:, 0, :3].norm(dim=-1, keepdim=True)
        rigid = state.pair2world[:, :3] / scale[..., None]
        log_scale = scale.log()
        unknowns = Unknowns(
            log_depth=state.depth.flatten(1).log().float(),
            pose=_pose_numbers(state.cam2world).float(),
            focal=(FOCAL_FACTOR * focal).float(),
            centre=((state.intrinsics[several, :2, 2] - middle) / CENTRE_FACTOR).float(),
            pair=torch.cat([_pose_numbers(rigid), log_scale], dim=1).float(),
            image_size=problem.image_size,
            unit_given=Anchors(problem).scale_given,
        )
        for tensor in unknowns.trained(problem.free_principal_point):
            tensor.requires_grad_()
        unknowns._hold(problem.known)
        return unknowns

    def _hold(self, known: Known) -> None:
        """See to it that what is known does not move: no gradient ever reaches it, so Adam's steps there are zero."""
        if known.poses is not None:
            self.pose.register_hook(_nothing_at(known.poses.frames))
        if known.intrinsics is not None:
            held = known.intrinsics.frames if len(self.focal) > 1 else torch.zeros(1, dtype=torch.int64)
            self.focal.register_hook(_nothing_at(held))
            if self.centre.requires_grad:
                self.centre.register_hook(_nothing_at(held))
        if known.depths is not None:
            measured = torch.zeros_like(self.log_depth, dtype=torch.bool)
            depth = known.depths.depth.flatten(1)
            measured[known.depths.frames] = (depth > 0) & depth.isfinite()
            self.log_depth.register_hook(lambda gradient: gradient.masked_fill(measured, 0.0))

    def trained(self, free_principal_point: bool = False) -> list[Tensor]:
        """The tensors that are optimised."""
        return [self.log_depth, self.pose, self.focal, self.pair] + ([self.centre] if free_principal_point else [])

    def state(self) -> AlignmentState:
        """What is written down; gradients pass through."""
        height, width = self.image_size
        cam2world = _rigid(self.pose[:, :4], stretched(self.pose[:, 4:]))
        focal = (self.focal / FOCAL_FACTOR).exp().expand(len(cam2world))
        offset = torch.nn.functional.pad(CENTRE_FACTOR * self.centre, (0, 1))[..., None]
        intrinsics = pinhole(focal, height, width) + torch.nn.functional.pad(offset, (2, 0))
        log_scale = self.pair[:, 7]
        # The geometric mean of the scales is held: otherwise the loss would shrink with the world.
        scale = (log_scale if self.unit_given else log_scale + (math.log(PAIR_SCALE) - log_scale.mean())).exp()
        rigid = _rigid(self.pair[:, :4], stretched(self.pair[:, 4:7]))
        factor = torch.nn.functional.pad(scale[:, None].expand(-1, 3), (0, 1), value=1.0)
        depth = self.log_depth.exp().view(-1, height, width)
        return AlignmentState(cam2world, intrinsics, depth, factor[..., None] * rigid)


def world_points(state: AlignmentState) -> Tensor:
    """(N, 3, P) points of every frame's pixels in the world."""
    height, width = state.depth.shape[1:]
    pixels = pixel_grid(height, width, device=state.depth.device).flatten(0, 1).T
    depth = state.depth.flatten(1)[:, None]
    focal, centre = state.intrinsics[:, [0, 1], [0, 1], None], state.intrinsics[:, :2, 2, None]
    camera = torch.cat([(pixels - centre) / focal * depth, depth], dim=1)
    return torch.baddbmm(state.cam2world[:, :3, 3:], state.cam2world[:, :3, :3], camera)


def squeezed(translation: Tensor) -> Tensor:
    """``sign(t) ln(1 + |t|)``, elementwise: how the family stores translations."""
    return translation.sign() * translation.abs().log1p()


def stretched(stored: Tensor) -> Tensor:
    """The inverse of ``squeezed``. At exactly zero its derivative is zero: a camera that starts there stays there."""
    return stored.sign() * stored.abs().expm1()


def _nothing_at(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that takes the gradient of some rows away."""
    return lambda gradient: gradient.index_fill(0, rows.to(gradient.device), 0.0)


def _pose_numbers(rigid: Tensor) -> Tensor:
    """(M, 7) quaternion (x, y, z, w) and squeezed translation of (M, 3 or 4, 4) rigid motions."""
    quaternion = Rotation.from_matrix(rigid[:, :3, :3].detach().double().cpu().numpy()).as_quat()
    return torch.cat([torch.from_numpy(quaternion).to(rigid), squeezed(rigid[:, :3, 3])], dim=1)


def _rigid(quaternion: Tensor, translation: Tensor) -> Tensor:
    """(M, 4, 4) rigid motions from (M, 4) quaternions (x, y, z, w), normalised here, and (M, 3) translations."""
    x, y, z, w = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    rotation = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    last = top.new_tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(len(top), 1, 4)
    return torch.cat([top, last], dim=1)
