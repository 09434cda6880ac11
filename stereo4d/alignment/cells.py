"""Cells: what the solver sees of the images. A cell stands for a square of pixels and behaves like one pixel.

A similarity is affine, so the mean of a square of a pair's points is carried to the world exactly as the points are;
and the mean of the points that a camera sees in the square, ``mean(depth * ray)``, is ``mean(depth)`` times the ray
through the depth-weighted mean of the pixels. So a cell has a pixel position of its own in every frame, one unknown
depth, and one point per pair; nothing is approximated but the shape of the surface within the square. Noise that is
independent from pixel to pixel goes down with the square's side, which taking every s-th pixel would not do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stereo4d.alignment.depth import Measured, measured
from stereo4d.alignment.known import HARD
from stereo4d.alignment.problem import AlignmentProblem, Cameras, Region
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.rigid import invert

_LEAST_SHARE = 1e-3
_NEAREST_SHARE = 0.05


@dataclass(frozen=True)
class Cells:
    """P cells of each of N frames, and O observations of them by pairs, sorted by frame."""

    grid: tuple[int, int]
    """Rows and columns of cells; P of them, row by row."""
    pixels: Tensor
    """(N, P, 2) float64 position as (u, v)."""
    frame: Tensor
    """(O,) int64 frame of each observation, rising."""
    pair: Tensor
    """(O,) int64 edge of each observation."""
    points: Tensor
    """(O, 3, P) float32, in the frame and scale of the pair."""
    weight: Tensor
    """(O, P) float32: mean ln(confidence) of the cell's pixels, masks applied."""
    known: Measured | None
    """Known depth (N, P); None where no frame has any."""
    share: Tensor
    """(N, P) float32 what each cell counts for where cells are put together."""
    depth_share: Tensor
    """(N, P) float64 share times mean depth: what its position counts for."""

    def observations_of(self, frame: int) -> slice:
        """Where the observations of one frame stand."""
        low, high = torch.searchsorted(self.frame, torch.tensor([frame, frame + 1], device=self.frame.device)).tolist()
        return slice(low, high)


def cell_side(image_size: tuple[int, int], most_cells: int) -> int:
    """The smallest side, in pixels, of which at most so many cells fit into (H, W)."""
    side = 1
    while (image_size[0] // side) * (image_size[1] // side) > most_cells:
        side += 1
    return side


def gather_cells(problem: AlignmentProblem, cameras: Cameras, most_cells: int) -> Cells:
    """Sum up what the pairs say in cells.

    Args:
        problem: E pairs of N frames.
        cameras: roughly right; they tell how the depth runs within a cell.
        most_cells: of every frame.
    """
    side = cell_side(problem.image_size, most_cells)
    rows, columns = problem.image_size[0] // side, problem.image_size[1] // side
    region = (slice(0, rows * side), slice(0, columns * side))
    pixels, frames, pairs, points, weights, shares, depth_shares, depths = ([] for _ in range(8))
    grid = pixel_grid(*problem.image_size, device=problem.edges.device)[region].double()
    for frame in range(problem.num_frames):
        incident = torch.cat(problem.incident(frame))
        told, weight = problem.observations(frame, region)
        seen = problem.kept(torch.tensor([frame]), region)[0]
        depth, known = rough_depth(problem, cameras, frame, told, weight, region)
        # Errors grow with the distance: a cell across an edge in depth is not left to what lies behind.
        share = seen * (weight.mean(0) + 1e-6) / depth
        # A cell whose pixels are all ignored has no weight, but must have a place.
        share = (share + 1e-12 * (share.mean() + 1e-30))[..., None]
        least = _LEAST_SHARE * float(weight.mean()) + 1e-9  # a pair without any confidence still needs an equation
        whole, by_depth = cell_sum(share, side), (share * depth[..., None]).double()
        points.append((cell_sum(told.mul_(share), side) / whole).flatten(1, 2).transpose(1, 2))
        weights.append((cell_sum((weight.clamp_(min=least) * seen)[..., None], side) / side**2).flatten(1))
        pixels.append((cell_sum(by_depth * grid, side) / cell_sum(by_depth, side)).flatten(0, 1))
        depths.append(None if known is None else cell_depth(known[..., None], share, side))
        shares.append(whole.flatten())
        depth_shares.append(cell_sum(by_depth, side).flatten())
        frames.append(torch.full_like(incident, frame))
        pairs.append(incident)
    return Cells(
        grid=(rows, columns),
        pixels=torch.stack(pixels),
        frame=torch.cat(frames),
        pair=torch.cat(pairs),
        points=torch.cat(points),
        weight=torch.cat(weights),
        known=_measured(problem, depths),
        share=torch.stack(shares),
        depth_share=torch.stack(depth_shares),
    )


def coarsened(cells: Cells, most_cells: int) -> Cells:
    """At most so many cells of every frame, each put together from a square of cells."""
    side = cell_side(cells.grid, most_cells)
    if side == 1:
        return cells
    rows, columns = cells.grid[0] // side, cells.grid[1] // side

    def total(values: Tensor) -> Tensor:
        """(K, p, C) sums over squares of (K, P, C)."""
        image = values.unflatten(1, cells.grid)[:, : rows * side, : columns * side]
        return cell_sum(image, side).flatten(1, 2)

    share, by_depth = cells.share[..., None], cells.depth_share[..., None]
    told = total(cells.points.transpose(1, 2) * share[cells.frame]) / total(share)[cells.frame]
    return replace(
        cells,
        grid=(rows, columns),
        pixels=total(by_depth * cells.pixels) / total(by_depth),
        points=told.transpose(1, 2).contiguous(),
        weight=total(cells.weight[..., None])[..., 0] / side**2,
        known=None if cells.known is None else _coarsened_depth(cells.known, total, share, side),
        share=total(share)[..., 0],
        depth_share=total(by_depth)[..., 0],
    )


def rough_depth(
    problem: AlignmentProblem, cameras: Cameras, frame: int, told: Tensor, weight: Tensor, region: Region
) -> tuple[Tensor, Tensor | None]:
    """(h, w) depth > 0 as the frame's most confident pair has it, and known depth (0: none) or None."""
    best = int(weight.flatten(1).mean(1).argmax())
    pair = torch.cat(problem.incident(frame))[best]
    to_camera = (invert(cameras.cam2world[frame]) @ cameras.pair2world[pair]).float()
    depth = told[best] @ to_camera[2, :3] + to_camera[2, 3]
    depth = depth.clamp(min=_NEAREST_SHARE * float(depth.median().clamp(min=1e-12)))
    given = measured(problem, frame, region)
    if given is None:
        return depth, None
    known = given.depth.view_as(depth)
    return torch.where(known > 0, known, depth), known


def cell_sum(values: Tensor, side: int) -> Tensor:
    """(..., h / side, w / side, C) sums over squares of (..., h, w, C)."""
    *lead, height, width, channels = values.shape
    by_rows = values.reshape(*lead, height // side, side, width * channels).sum(-2)
    return by_rows.reshape(*lead, height // side, width // side, side, channels).sum(-2)


def cell_depth(known: Tensor, share: Tensor, side: int) -> Tensor:
    """(P,) known depth of the cells all of whose pixels (h, w, 1) were measured, else 0."""
    complete = cell_sum((known > 0).float(), side) == side**2
    return torch.where(complete, cell_sum(share * known, side) / cell_sum(share, side), 0.0).flatten()


def _coarsened_depth(known: Measured, total: Callable[[Tensor], Tensor], share: Tensor, side: int) -> Measured:
    depth = known.depth[..., None]
    complete = total((depth > 0).float()) == side**2
    depth = torch.where(complete, total(share * depth) / total(share), 0.0)[..., 0]
    return Measured(depth, None if known.weight is None else total(known.weight[..., None])[..., 0] / side**2)


def _measured(problem: AlignmentProblem, depths: list[Tensor | None]) -> Measured | None:
    """Known depths of all frames' cells; a cell counts as its pixels do in the mean."""
    given = problem.known.depths
    present = [depth for depth in depths if depth is not None]
    if given is None or not present:
        return None
    depth = torch.stack([torch.zeros_like(present[0]) if d is None else d for d in depths])
    return Measured(depth, None if given.weight == HARD else torch.full_like(depth, given.weight))
