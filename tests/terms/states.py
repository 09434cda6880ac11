"""A state of a few cameras and cells in double precision, and what a step of the unknowns makes of it."""

import torch
from torch import Tensor

from stereo4d.alignment.terms import FRAME_UNKNOWNS, TermState
from stereo4d.geometry.rigid import rotation_from_vector

SIZE = 3.0


def random_state(frames: int = 4, grid: tuple[int, int] = (3, 4), seed: int = 0, *, turn: float = 0.2) -> TermState:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    cam2world = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    cam2world[:, :3, :3] = rotation_from_vector(turn * draw(frames, 3))
    cam2world[:, :3, 3] = 0.3 * draw(frames, 3)
    intrinsics = torch.tensor([[20.0, 0, 8], [0, 23, 6], [0, 0, 1]]).double().repeat(frames, 1, 1)
    cells = grid[0] * grid[1]
    pixels = torch.tensor([16.0, 12.0]).double() * torch.rand(frames, cells, 2, generator=random, dtype=torch.float64)
    depth = 3 + torch.rand(frames, cells, generator=random, dtype=torch.float64)
    return TermState(cam2world, intrinsics, depth, pixels, grid, SIZE)


def moved(state: TermState, step: Tensor, log_depth: Tensor) -> TermState:
    """After (N, 9) steps of the frames' unknowns and (N, P) of log-depths."""
    assert step.shape[1] == FRAME_UNKNOWNS
    turn = rotation_from_vector(step[:, :3]) @ state.cam2world[:, :3, :3]
    top = torch.cat([turn, (state.cam2world[:, :3, 3] + step[:, 3:6])[..., None]], dim=2)
    cam2world = torch.cat([top, state.cam2world[:, 3:]], dim=1)
    focal = state.intrinsics.diagonal(dim1=1, dim2=2)[:, :2] * step[:, 6:7].exp()
    centre = state.intrinsics[:, :2, 2] + step[:, 7:9]
    zero = torch.zeros_like(focal[:, :1])
    rows = [torch.cat([focal[:, :1], zero, centre[:, :1]], 1), torch.cat([zero, focal[:, 1:], centre[:, 1:]], 1)]
    intrinsics = torch.stack([*rows, state.intrinsics[:, 2]], dim=1)
    return TermState(cam2world, intrinsics, state.depth * log_depth.exp(), state.pixels, state.grid, state.size)
