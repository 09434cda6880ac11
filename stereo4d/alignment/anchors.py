"""What holds an alignment in place: known quantities, and where nothing is known the first frame and one scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.block_system import Layout
from stereo4d.alignment.depth import dense_depth
from stereo4d.alignment.known import HARD, KnownIntrinsics, KnownPoses
from stereo4d.alignment.problem import AlignmentProblem, Cameras, normalise_scale
from stereo4d.errors import AlignmentError
from stereo4d.geometry.rigid import invert, rotation_vector

_SAME_PLACE = 1e-9
_SAME_LENS = 0.01


@dataclass(frozen=True)
class Prior:
    """Weighted known quantities as a quadratic around the present state."""

    loss: float
    gradient: Tensor
    """(M,) of all unknowns."""
    curvature: Tensor
    """(M,) diagonal of the second derivatives."""


class Anchors:
    """The gauge of a problem: what must not move, and what pulls."""

    def __init__(self, problem: AlignmentProblem) -> None:
        """Look at what is known.

        Raises:
            AlignmentError: frames share a focal, but different ones are known.
        """
        self.problem = problem
        known, device = problem.known, problem.edges.device
        self.poses = _poses_on(known.poses, device)
        self.lenses = _lenses_on(known.intrinsics, device)
        if problem.shared_focal and self.lenses is not None:
            _check_one_lens(self.lenses)

    @property
    def scale_given(self) -> bool:
        """Whether known quantities fix the unit: depths, or poses in at least two places."""
        return self.problem.known.depths is not None or self._poses_tell_scale()

    @property
    def pulls(self) -> bool:
        """Whether known quantities are weighed against the pairs."""
        known = self.problem.known
        return any(
            entry is not None and entry.weight != HARD for entry in (known.poses, known.intrinsics, known.depths)
        )

    def held(self, layout: Layout) -> Tensor:
        """(M,) bool: unknowns that must not move."""
        held = torch.zeros(layout.size, dtype=torch.bool, device=layout.pose.device)
        if self.poses is None:
            held[layout.pose[0]] = True
        elif self.poses.weight == HARD:
            held[layout.pose[self.poses.frames]] = True
        if not self.problem.free_principal_point:
            held[layout.lens[:, 1:]] = True
        if self.lenses is not None and self.lenses.weight == HARD:
            held[layout.lens[self.lenses.frames]] = True
        if not self.scale_given:
            # The objective is brought to a form that no scale of the world changes; one pair's is the unit.
            held[layout.pair[0, 6]] = True
        return held

    def settled(self, cameras: Cameras) -> Cameras:
        """The same answer in the right gauge."""
        return cameras if self.scale_given else self._enlarged(cameras, normalise_scale(cameras.pair2world))

    def placed(self, start: Cameras) -> Cameras:
        """A start moved to the known world and unit, held quantities at their values."""
        cameras = Cameras(start.cam2world, self.given_lenses(start.intrinsics), start.pair2world)
        if self.poses is not None:
            cameras = cameras.moved(_onto(cameras.cam2world[self.poses.frames], self.poses.cam2world))
        else:
            cameras = cameras.moved(invert(cameras.cam2world[0]))
        cameras = self.settled(cameras)
        if self.problem.known.depths is not None and not self._poses_tell_scale():
            cameras = self._scaled_to_depths(cameras)
        if self.poses is not None and self.poses.weight == HARD:
            cameras = self._at_known_poses(cameras, self.poses)
        if self.poses is None:
            cameras.cam2world[0] = torch.eye(4)  # exactly
        return cameras

    def prior(self, cameras: Cameras, layout: Layout, counts: Tensor, size: float, unit: float) -> Prior:
        """What weighted known quantities add to the loss.

        Args:
            cameras: the present state.
            layout: of the unknowns.
            counts: (N,) what the observations of each frame count for altogether: a deviation counts as if all of
                them had a residual of ``weight * deviation ** 2``.
            size: of the scene, in the world's unit.
            unit: a residual of the size of the scene, in the unit of the loss.
        """
        like = cameras.cam2world
        gradient, curvature = like.new_zeros(layout.size), like.new_zeros(layout.size)
        total = 0.0
        for weight, frames, columns, deviation, slope in self._deviations(cameras, layout, size):
            share = (unit * weight * counts[frames])[:, None].expand_as(deviation)
            total += float((share * deviation.square()).sum())
            place = (columns.flatten(),)  # several times the same where frames share a lens
            gradient.index_put_(place, (2 * share * deviation * slope).flatten(), accumulate=True)
            curvature.index_put_(place, (2 * share * slope * slope).flatten(), accumulate=True)
        return Prior(total, gradient, curvature)

    def _deviations(
        self, cameras: Cameras, layout: Layout, size: float
    ) -> list[tuple[float, Tensor, Tensor, Tensor, Tensor]]:
        """For every weighted quantity: weight, frames, columns, (M, c) deviations and their slopes by the unknowns."""
        found = []
        if self.poses is not None and self.poses.weight != HARD:
            frames, given = self.poses.frames, self.poses.cam2world
            present = cameras.cam2world[frames]
            turned = rotation_vector(present[:, :3, :3] @ given[:, :3, :3].transpose(1, 2))
            away = (present[:, :3, 3] - given[:, :3, 3]) / size
            deviation = torch.cat([turned, away], dim=1)
            slope = torch.cat([torch.ones_like(turned), torch.full_like(away, 1 / size)], dim=1)
            found.append((self.poses.weight, frames, layout.pose[frames], deviation, slope))
        if self.lenses is not None and self.lenses.weight != HARD:
            frames, given = self.lenses.frames, self.lenses.intrinsics
            present, focal = cameras.intrinsics[frames], given[:, 0, :1]
            ratio = (present[:, 0, :1] / focal).log()
            aside = (present[:, :2, 2] - given[:, :2, 2]) / focal
            deviation = torch.cat([ratio, aside], dim=1)
            slope = torch.cat([torch.ones_like(ratio), (1 / focal).expand_as(aside)], dim=1)
            found.append((self.lenses.weight, frames, layout.lens[frames], deviation, slope))
        return found

    def given_lenses(self, intrinsics: Tensor) -> Tensor:
        """Intrinsics with those that are known; frames that share a lens all take it."""
        if self.lenses is None:
            return intrinsics
        intrinsics = intrinsics.clone()
        if self.problem.shared_focal:
            intrinsics[:] = self.lenses.intrinsics[0]
        intrinsics[self.lenses.frames] = self.lenses.intrinsics
        return intrinsics

    def _poses_tell_scale(self) -> bool:
        return self.poses is not None and float(_spread(self.poses.cam2world[:, :3, 3])) > _SAME_PLACE

    def _scaled_to_depths(self, cameras: Cameras) -> Cameras:
        """The world enlarged until depths are those that are known."""
        return self._enlarged(cameras, known_depth_ratio(self.problem, cameras))

    def _enlarged(self, cameras: Cameras, factor: Tensor) -> Cameras:
        """The world enlarged about the first known camera, or the origin."""
        if self.poses is None:
            return cameras.rescaled(factor)
        enlarge = torch.eye(4).to(cameras.cam2world)
        enlarge[:3, :3] *= factor
        enlarge[:3, 3] = (1 - factor) * self.poses.cam2world[0, :3, 3]
        return cameras.moved(enlarge)

    def _at_known_poses(self, cameras: Cameras, poses: KnownPoses) -> Cameras:
        """Cameras put where they are known to stand; the pairs that start at them go with them."""
        cam2world = cameras.cam2world.clone()
        cam2world[poses.frames] = poses.cam2world
        carry = cam2world @ invert(cameras.cam2world)
        return Cameras(cam2world, cameras.intrinsics, carry[self.problem.edges[:, 0]] @ cameras.pair2world)


def known_depth_ratio(problem: AlignmentProblem, cameras: Cameras) -> Tensor:
    """Median over known pixels of known depth over the depth that the pairs give with these cameras; a scalar."""
    given = problem.known.depths
    assert given is not None
    frames = given.frames.tolist()
    size = float(cameras.pair2world[:, 0, :3].norm(dim=-1).median())
    found, _ = dense_depth(problem, cameras, floor=1e-3 * size, rounds=2, frames=frames, use_known=False)
    known = given.depth.to(found)
    measured = (known > 0) & torch.isfinite(known)
    return (known[measured] / found[measured]).median().to(cameras.cam2world)


def _onto(source: Tensor, target: Tensor) -> Tensor:
    """The similarity that carries (M, 4, 4) cameras onto others: mean rotation, then scale and translation."""
    turn = (target[:, :3, :3] @ source[:, :3, :3].transpose(1, 2)).mean(0)
    left, _, right = torch.linalg.svd(turn)
    rotation = left @ torch.diag(torch.stack([*left.new_ones(2), torch.det(left @ right)])) @ right
    here, there = source[:, :3, 3] @ rotation.T, target[:, :3, 3]
    centred, goal = here - here.mean(0), there - there.mean(0)
    reach = centred.square().sum()
    scale = (centred * goal).sum() / reach.clamp(min=1e-300)
    if not (float(_spread(goal)) > _SAME_PLACE and float(_spread(centred)) > _SAME_PLACE):
        scale = torch.ones_like(scale)  # one place tells no scale
    elif float(scale) <= 0:
        scale = (goal.square().sum() / reach).sqrt()
    transform = torch.eye(4).to(source)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = there.mean(0) - scale * here.mean(0)
    return transform


def _spread(centres: Tensor) -> Tensor:
    """Largest distance of (M, 3) places from their mean, relative to how far they lie from the origin."""
    return (centres - centres.mean(0)).norm(dim=-1).max() / (1 + centres.norm(dim=-1).max())


def _poses_on(poses: KnownPoses | None, device: torch.device) -> KnownPoses | None:
    if poses is None:
        return None
    cam2world = poses.cam2world.to(device, torch.float64).clone()
    # Files hold rotations to a few digits: the nearest rotation is what was meant.
    left, _, right = torch.linalg.svd(cam2world[:, :3, :3])
    cam2world[:, :3, :3] = left @ right
    return KnownPoses(poses.frames.to(device), cam2world, poses.weight)


def _lenses_on(lenses: KnownIntrinsics | None, device: torch.device) -> KnownIntrinsics | None:
    if lenses is None:
        return None
    return KnownIntrinsics(lenses.frames.to(device), lenses.intrinsics.to(device, torch.float64), lenses.weight)


def _check_one_lens(lenses: KnownIntrinsics) -> None:
    first = lenses.intrinsics[0]
    apart = (lenses.intrinsics - first).abs().flatten(1).amax(1) / first[0, 0]
    if float(apart.max()) > _SAME_LENS:
        frames = (int(lenses.frames[0]), int(lenses.frames[apart.argmax()]))
        raise AlignmentError(
            f"frames share one focal, but known intrinsics of frames {frames[0]} and {frames[1]} differ by "
            f"{100 * float(apart.max()):.1f} %: let every frame have its own (shared_focal=False, --per-frame-focal)"
        )
