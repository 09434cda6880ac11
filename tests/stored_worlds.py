"""Files of pair predictions for tests: what a network would say of a small exact world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.storage import save_arrays
from tests.worlds import World, predict, render, smooth_cameras, window_edges

FRAMES, HEIGHT, WIDTH = 5, 24, 32


def small_world(frames: int = FRAMES) -> World:
    """A room seen by one camera on a smooth path."""
    focal = torch.full((frames,), 0.9 * WIDTH, dtype=torch.float64)
    return render(smooth_cameras(frames, seed=2), focal, HEIGHT, WIDTH)


def arrays_of(world: World, edges: Tensor | None = None, **told: float) -> dict[str, Tensor]:
    """The arrays of a file of pairs, float32; see ``worlds.predict``."""
    edges = window_edges(len(world.depth), 2) if edges is None else edges
    said = predict(world, edges, **(told or {"noise": 0.002}))
    names = ("pointmap0", "pointmap1", "confidence0", "confidence1")
    return {"edges": edges, **{name: getattr(said, name) for name in names}}


def write_pairs(path: Path, **changes: np.ndarray | Tensor | None) -> Path:
    """A file of pairs of the small world, with some arrays added, replaced, or (None) left out."""
    arrays = arrays_of(small_world()) | changes
    return save_arrays(path, {name: value for name, value in arrays.items() if value is not None})


def intrinsics_of(world: World) -> np.ndarray:
    """(N, 3, 3) in pixels."""
    intrinsics = np.tile(np.eye(3), (len(world.focal), 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = world.focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = WIDTH / 2, HEIGHT / 2
    return intrinsics


def centre_error(found: np.ndarray, truth: Tensor) -> float:
    """Mean distance of camera centres as a share of the path's extent, both (N, 4, 4), after scaling; one world."""
    a, b = found[:, :3, 3].astype(np.float64), truth[:, :3, 3].numpy()
    a, b = a - a[0], b - b[0]
    return float(np.linalg.norm(a * (a * b).sum() / (a * a).sum() - b, axis=1).mean() / np.linalg.norm(b, axis=1).max())
