"""Which points of a scene are worth showing, and one cloud of what stands still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stereo4d.types import Scene

_KEY_BITS = 21  # three of them fit an int64


@dataclass(frozen=True)
class Cloud:
    """P coloured points in the world."""

    points: np.ndarray
    """(P, 3) float32."""
    colors: np.ndarray
    """(P, 3) uint8 RGB."""
    spacing: float
    """Typical distance between neighbours, in the scene's unit."""

    def __len__(self) -> int:
        return len(self.points)


def confidence_floor(scene: Scene, *, keep: float = 0.75) -> float:
    """The confidence that a share ``keep`` of the scene's measured pixels reach, from a sample of frames."""
    frames = np.unique(np.linspace(0, len(scene) - 1, 16).astype(int))
    sample = np.concatenate([scene.confidence[i][scene.depth[i] > 0].ravel() for i in frames]).astype(np.float32)
    return float(np.quantile(sample, 1 - keep)) if len(sample) else 1.0


def trusted(depth: np.ndarray, confidence: np.ndarray, floor: float, *, jump: float = 0.06) -> np.ndarray:
    """(H, W) bool: measured, confident, and not on a depth edge.

    Depth is smeared across edges, so pixels there hang in the air between the near and the far surface.

    Args:
        depth: (H, W); <= 0 marks no measurement.
        confidence: (H, W).
        floor: least confidence.
        jump: relative depth difference to a direct neighbour that makes an edge.
    """
    depth = np.asarray(depth, np.float32)
    edge = np.zeros(depth.shape, bool)
    step = jump * depth
    down = np.abs(np.diff(depth, axis=0))
    right = np.abs(np.diff(depth, axis=1))
    edge[1:] |= down > step[1:]
    edge[:-1] |= down > step[:-1]
    edge[:, 1:] |= right > step[:, 1:]
    edge[:, :-1] |= right > step[:, :-1]
    return (depth > 0) & np.isfinite(depth) & (np.asarray(confidence) >= floor) & ~edge


def frame_cloud(scene: Scene, frame: int, mask: np.ndarray, *, limit: int) -> Cloud:
    """The points of one frame where ``mask`` (H, W) holds, thinned evenly to at most ``limit``."""
    rows = np.flatnonzero(mask)
    thinning = max(1.0, len(rows) / limit) ** 0.5
    if len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
    points = scene.points(frame).reshape(-1, 3)[rows]
    spacing = thinning * _footprint(np.asarray(scene.depth[frame], np.float32)[mask], scene.intrinsics[frame, 0, 0])
    return Cloud(points.astype(np.float32), np.asarray(scene.rgb[frame]).reshape(-1, 3)[rows], spacing)


def static_cloud(scene: Scene, floor: float, *, limit: int, candidates: int = 3_000_000) -> Cloud:
    """What stands still in all frames, fused: one point a voxel, at most ``limit`` points.

    Left out are pixels that the scene says move, and points that other frames see through.

    Args:
        scene: the scene.
        floor: least confidence.
        limit: most points in the result; the voxels grow until it is met.
        candidates: most points looked at, which bounds memory on long videos.
    """
    height, width = scene.depth.shape[1:]
    per_frame = max(1, candidates // len(scene))
    parts = list(_static_parts(scene, floor, min(per_frame, height * width)))
    points = np.concatenate([part.points for part in parts])
    colors = np.concatenate([part.colors for part in parts])
    if not len(points):
        return Cloud(points, colors, 1.0)
    sampled = np.asarray(scene.depth[:: max(1, len(scene) // 16)], np.float32)
    voxel = 1.3 * _footprint(sampled[sampled > 0], scene.intrinsics[0, 0, 0])
    cloud = _fuse(points, colors, voxel)
    while len(cloud) > limit:
        # A surface crosses voxels in proportion to their inverse area.
        voxel *= max(1.1, (len(cloud) / limit) ** 0.5)
        cloud = _fuse(points, colors, voxel)
    stays = seen_through(scene, cloud.points) <= 0.2
    return Cloud(cloud.points[stays], cloud.colors[stays], voxel)


def seen_through(scene: Scene, points: np.ndarray, *, frames: int = 24, beyond: float = 1.08) -> np.ndarray:
    """For each point, in what share of the frames that see this far they see something farther behind it.

    A point that is often seen through does not stand there all the time: it moved, or was never there.

    Args:
        scene: the scene.
        points: (P, 3) in the world.
        frames: how many frames are asked, spread over the scene.
        beyond: measured depth over the point's depth from which on the frame sees through.

    Returns:
        (P,) shares in [0, 1]; 0 where no frame looks.
    """
    height, width = scene.depth.shape[1:]
    looks, through = np.zeros(len(points)), np.zeros(len(points))
    for frame in np.unique(np.linspace(0, len(scene) - 1, frames).astype(int)):
        cam2world = scene.cam2world[frame]
        camera = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
        depth = camera[:, 2]
        front = np.flatnonzero(depth > 0)
        pixels = (camera[front] @ scene.intrinsics[frame].T)[:, :2] / depth[front, None]
        u, v = np.round(pixels).clip(-1, max(height, width)).astype(int).T
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        rows, measured = front[inside], np.asarray(scene.depth[frame], np.float32)[v[inside], u[inside]]
        looks[rows] += measured * beyond > depth[rows]  # else something stands in front of it
        through[rows] += measured > beyond * depth[rows]
    return through / np.maximum(looks, 1)


def _static_parts(scene: Scene, floor: float, limit: int) -> Iterator[Cloud]:
    for frame in range(len(scene)):
        mask = trusted(scene.depth[frame], scene.confidence[frame], floor) & (np.asarray(scene.dynamic[frame]) == 0)
        yield frame_cloud(scene, frame, mask, limit=limit)


def _footprint(depth: np.ndarray, focal: float) -> float:
    """Median size of a pixel on the surfaces it sees; ``depth`` (P,) in the scene's unit, ``focal`` in pixels."""
    return float(np.median(depth) / focal) if len(depth) else 1.0


def _fuse(points: np.ndarray, colors: np.ndarray, voxel: float) -> Cloud:
    """Mean position and colour of the points in each voxel; points a million voxels away are dropped."""
    cells = np.floor((points - np.median(points, axis=0)) / voxel)
    half = 1 << (_KEY_BITS - 1)
    near = (np.abs(cells) < half).all(-1)
    cells = cells[near].astype(np.int64) + half
    keys = (cells[:, 0] << (2 * _KEY_BITS)) | (cells[:, 1] << _KEY_BITS) | cells[:, 2]
    _, voxel_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    values = np.concatenate([points[near], colors[near]], axis=1).astype(np.float64)
    means = np.stack([np.bincount(voxel_of, column) for column in values.T], axis=1) / counts[:, None]
    return Cloud(means[:, :3].astype(np.float32), np.round(means[:, 3:]).astype(np.uint8), voxel)
