"""The cells that a solver works on: the loss of cameras there, and the linear system of their next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.alignment.anchors import Anchors, Prior
from stereo4d.alignment.block_system import BlockSystem
from stereo4d.alignment.cells import Cells
from stereo4d.alignment.depth import Feet, Grouping, Measured, best_depth, feet, known_pull, ray_directions, stride_for
from stereo4d.alignment.normal_equations import Seen, frame_systems, membership
from stereo4d.alignment.problem import AlignmentProblem, Cameras
from stereo4d.alignment.structure import Structure, sum_into
from stereo4d.alignment.term_system import Further, JoinedTerms, Pull
from stereo4d.geometry.rigid import rotation_from_vector

_FOCAL_STEP = 0.5
_FOCAL_LIMITS = (0.13, 15.0)
_FIRST_DEPTH_ROUNDS = 8
_DEPTH_ROUNDS = 3
_SIZE_PIXELS = 300
_NUMBERS_AT_ONCE = {"cpu": 1 << 15, "cuda": 1 << 26}


@dataclass(frozen=True)
class GridState:
    """An answer on the cells."""

    cameras: Cameras
    depth: Tensor
    """(N, P) float32."""
    distance: Tensor
    """(O, P) float32 length of every residual, in the world's unit."""
    loss: float
    """Mean over pairs of each pair's loss: the means over the cells of its two views, added; and the priors' and
    terms'."""
    beside: float = 0.0
    """What priors and terms have in the loss."""


@dataclass(frozen=True)
class _Group:
    """Some frames and their observations, worked on together."""

    frames: slice
    observations: slice
    grouping: Grouping
    """Frames counted within the group."""


class CellGrid:
    """What all pairs say about the cells of all frames, and the linear system of the cameras' next step."""

    def __init__(
        self,
        problem: AlignmentProblem,
        anchors: Anchors,
        structure: Structure,
        cells: Cells,
        cameras: Cameras,
        relative: float,
    ) -> None:
        """Measure the scene.

        Args:
            problem: E pairs of N frames.
            anchors: what holds the answer in place.
            structure: of its unknowns.
            cells: what the pairs say.
            cameras: roughly right; they tell the size of the scene.
            relative: distances of a pair are divided by this power of the pair's own size in the world: 0 leaves them
                in the world's unit, as DUSt3R does; 1 measures each pair in its own.
        """
        self.problem, self.anchors, self.relative = problem, anchors, relative
        self.structure, self.layout, self.cells = structure, structure.layout, cells
        self.sizes = pair_sizes(problem).to(cameras.cam2world)
        self.size = size_in_world(self.sizes, cameras)
        # Distances below a thousandth of the scene's size count quadratically: the norm has no second order at zero.
        self.floor = 1e-3 * self.size
        self.groups = _groups(self.cells, problem.num_frames)
        self.counts = sum_into(problem.num_frames, self.cells.frame, self.cells.weight.double().sum(1))
        unit = self.size * float(self.importance(cameras).median())
        self.terms = JoinedTerms(
            *(problem.terms, cells.pixels, cells.grid, self.size),
            cell=unit * float(cells.weight.mean()),
            frame=unit * float(self.counts.mean()),
        )

    def evaluate(self, cameras: Cameras, before: GridState | None = None) -> GridState:
        """Fill in the depths, starting from those of the state before if there is one, and measure the loss."""
        if before is None and self.terms.touch_depth:
            # Terms say where depths should be from where they are: the pairs give them a first place.
            before = self._filled(cameras, None, None)
        pull = None if before is None else self.terms.pull(cameras, before.depth)
        return self._filled(cameras, before, pull)

    def _filled(self, cameras: Cameras, before: GridState | None, pull: Pull | None) -> GridState:
        importance = self.importance(cameras)
        shape = (self.problem.num_frames, self.cells.weight.shape[1])
        depth = self.cells.weight.new_empty(shape)
        distance = torch.empty_like(self.cells.weight)
        total = 0.0
        for group in self.groups:
            seen = self._feet(cameras, group)
            weight = self._weight(importance, group)
            known = self._known(cameras, group)
            start = None if before is None else before.depth[group.frames]
            rounds = _FIRST_DEPTH_ROUNDS if before is None else _DEPTH_ROUNDS
            grouped = group.grouping
            drawn = None if pull is None else (pull.depth[group.frames], pull.weight[group.frames])
            found = best_depth(
                seen, weight, floor=self.floor, rounds=rounds, start=start, known=known, grouping=grouped, pull=drawn
            )
            away = seen.distance(found[grouped.frame])
            total += float((weight * smoothed(away, self.floor)).sum(dtype=torch.float64))
            if known is not None and known.weight is not None:
                off = torch.where(known.depth > 0, smoothed((found - known.depth).abs(), self.floor), 0.0)
                total += float((known.weight * off).sum(dtype=torch.float64))
            depth[group.frames], distance[group.observations] = found, away
        count, beside = len(importance) * shape[1], self._prior(cameras).loss + self.terms.loss(cameras, depth)
        return GridState(cameras, depth, distance, (total + beside) / count, beside / count)

    def importance(self, cameras: Cameras) -> Tensor:
        """(E,) float64: what a unit of distance in the world counts for in each pair."""
        return (cameras.pair2world[:, 0, :3].norm(dim=-1) * self.sizes).pow(-self.relative)

    def reduced_system(self, here: GridState) -> tuple[BlockSystem, Tensor, Tensor]:
        """The matrix, (M,) gradient and (M,) diagonal for damping, depths eliminated."""
        importance = self.importance(here.cameras)
        further = self.terms.frames(here.cameras, here.depth) if self.terms.touch_depth else []
        systems = [
            system for group in self.groups for system in frame_systems(self._seen(here, group, importance, further))
        ]
        of_cameras = self.terms.pieces(here.cameras, here.depth)
        matrix = self.structure.pattern.add_up([s.matrix for s in systems] + [piece for piece, _ in of_cameras])
        gradient = self.structure.scatter(torch.cat([s.gradient for s in systems] + [slope for _, slope in of_cameras]))
        curvature = self.structure.scatter(
            torch.cat([s.curvature for s in systems] + [piece.diagonal() for piece, _ in of_cameras])
        )
        prior = self._prior(here.cameras)
        if not self.anchors.scale_given:
            # As a function of the shape alone: the loss over the power of the scale that it grows with.
            lost = (here.loss - here.beside) * len(importance) * here.depth.shape[1]
            gradient[self.layout.pair[:, 6]] -= (1 - self.relative) * lost / len(importance)
        matrix = matrix.with_diagonal(prior.curvature)
        curvature = curvature + prior.curvature
        return matrix, gradient + prior.gradient, curvature + 1e-9 * curvature.mean()

    def moved(self, cameras: Cameras, step: Tensor) -> Cameras:
        """Cameras after a step of the unknowns, (M,)."""
        size = max(self.problem.image_size)
        pose, lens, pair = step[self.layout.pose], step[self.layout.lens], step[self.layout.pair]
        cam2world, pair2world = cameras.cam2world.clone(), cameras.pair2world.clone()
        cam2world[:, :3, :3] = rotation_from_vector(pose[:, :3]) @ cam2world[:, :3, :3]
        cam2world[:, :3, 3] += pose[:, 3:]
        turned = rotation_from_vector(pair[:, :3]) @ pair2world[:, :3, :3]
        pair2world[:, :3, :3] = pair[:, 6].exp()[:, None, None] * turned
        pair2world[:, :3, 3] += pair[:, 3:6]
        intrinsics = cameras.intrinsics.clone()
        present = intrinsics[:, [0, 1], [0, 1]]
        growth = lens[:, :1].clamp(-_FOCAL_STEP, _FOCAL_STEP).exp()
        # A lens beyond these limits (150 and 4 degrees wide) is a sign of pairs that say nothing.
        growth = growth.clamp(_FOCAL_LIMITS[0] * size / present[:, :1], _FOCAL_LIMITS[1] * size / present[:, :1])
        growth = torch.where(lens[:, :1] == 0, 1.0, growth)  # what is known may lie anywhere
        intrinsics[:, [0, 1], [0, 1]] = present * growth
        intrinsics[:, :2, 2] += lens[:, 1:]
        return self.anchors.settled(Cameras(cam2world, intrinsics, pair2world))

    def residual_images(self, here: GridState) -> Tensor:
        """(N, h, w) float32: weighted mean over pairs of every cell's residuals, as a share of the scene's size."""
        weight = self.cells.weight
        above, below = (
            sum_into(len(here.depth), self.cells.frame, values) for values in (weight * here.distance, weight)
        )
        return (above / below.clamp(min=1e-12) / self.size).view(-1, *self.cells.grid)

    def _feet(self, cameras: Cameras, group: _Group) -> Feet:
        """Perpendiculars of a group's observations."""
        linear, shift = self._pairs_from_cameras(cameras, group)
        points = self.cells.points[group.observations]
        relative = torch.baddbmm(shift.float()[..., None], linear.float(), points)
        return feet(relative, self._directions(cameras, group)[group.grouping.frame])

    def _weight(self, importance: Tensor, group: _Group) -> Tensor:
        """(o, P) what a unit of distance counts for in every observation."""
        return importance[self.cells.pair[group.observations], None].float() * self.cells.weight[group.observations]

    def _pairs_from_cameras(self, cameras: Cameras, group: _Group) -> tuple[Tensor, Tensor]:
        """(o, 3, 3) and (o, 3) from the pairs to world axes about the camera's centre."""
        told = cameras.pair2world[self.cells.pair[group.observations]]
        centre = cameras.cam2world[group.frames, :3, 3][group.grouping.frame]
        return told[:, :3, :3], told[:, :3, 3] - centre

    def _directions(self, cameras: Cameras, group: _Group) -> Tensor:
        """(n, 3, P) float32 rays in world axes."""
        rotation = cameras.cam2world[group.frames, :3, :3]
        return ray_directions(self.cells.pixels[group.frames], cameras.intrinsics[group.frames], rotation).float()

    def _known(self, cameras: Cameras, group: _Group) -> Measured | None:
        """Known depths of a group's frames, weighted as what the frames' pairs say is."""
        known = self.cells.known
        if known is None:
            return None
        depth = known.depth[group.frames]
        if known.weight is None:
            return Measured(depth, None)
        unit = float(self.importance(cameras).median())
        return Measured(depth, unit * known.weight[group.frames])

    def _prior(self, cameras: Cameras) -> Prior:
        """What weighted known quantities add."""
        unit = self.size * float(self.importance(cameras).median())
        return self.anchors.prior(cameras, self.layout, self.counts, self.size, unit)

    def _seen(self, here: GridState, group: _Group, importance: Tensor, further: Sequence[Further | None]) -> Seen:
        """The state of a group as the normal equations want it."""
        cameras, depth = here.cameras, here.depth[group.frames]
        linear, shift = self._pairs_from_cameras(cameras, group)
        rotation, intrinsics = cameras.cam2world[group.frames, :3, :3], cameras.intrinsics[group.frames]
        focal = intrinsics.diagonal(dim1=1, dim2=2)[:, :2]
        rays = ((self.cells.pixels[group.frames] - intrinsics[:, None, :2, 2]) / focal[:, None]).transpose(1, 2)
        known = self._known(cameras, group)
        weight = self._weight(importance, group)
        free = depth > self.floor
        return Seen(
            frame=group.grouping.frame,
            y=self._directions(cameras, group) * depth[:, None],
            depth=depth,
            rays=rays.float(),
            q=linear.float() @ self.cells.points[group.observations],
            shift=shift,
            weight=weight / here.distance[group.observations].clamp(min=self.floor),
            known_weight=torch.zeros_like(depth) if known is None else known_pull(known, depth, self.floor),
            known_depth=torch.zeros_like(depth) if known is None else known.depth,
            free=free if known is None else free & ~known.held(),
            rotation=rotation,
            focal=focal,
            relative=self.relative,
            further=further[group.frames] if further else (),
        )


def smoothed(distance: Tensor, floor: float) -> Tensor:
    """Distances, those below the floor made quadratic."""
    return torch.where(distance < floor, (distance.square() / floor + floor) / 2, distance)


def pair_sizes(problem: AlignmentProblem) -> Tensor:
    """(E,) float32 size of what each pair shows: the median distance of view 0's points, in the pair's own unit."""
    stride = stride_for(problem.image_size, _SIZE_PIXELS)
    region = (slice(stride // 2, None, stride),) * 2
    seen = problem.points(0, torch.arange(len(problem.edges)), region)
    return seen.norm(dim=-1).flatten(1).median(1).values.clamp(min=1e-30)


def scene_size(problem: AlignmentProblem, cameras: Cameras) -> float:
    """How far the scene is, in the world's unit: the median over pairs of what they show."""
    return size_in_world(pair_sizes(problem), cameras)


def size_in_world(sizes: Tensor, cameras: Cameras) -> float:
    """The same from (E,) ``pair_sizes``."""
    size = cameras.pair2world[:, 0, :3].norm(dim=-1) * sizes.to(cameras.cam2world)
    return max(float(size.median()), 1e-9)


def _groups(cells: Cells, num_frames: int) -> list[_Group]:
    """Frames in turn, as many at a time as stay in the processor's cache; all at once on a GPU."""
    most = _NUMBERS_AT_ONCE.get(cells.points.device.type, 1 << 26)
    counts = torch.bincount(cells.frame, minlength=num_frames).tolist()
    groups, first, place, filled = [], 0, 0, 0
    for frame in range(num_frames):
        filled += counts[frame]
        last = frame + 1 == num_frames
        if last or (filled + counts[frame + 1]) * cells.weight.shape[1] > most:
            local = cells.frame[place : place + filled] - first
            grouping = Grouping(local, membership(local, frame + 1 - first))
            groups.append(_Group(slice(first, frame + 1), slice(place, place + filled), grouping))
            first, place, filled = frame + 1, place + filled, 0
    return groups
