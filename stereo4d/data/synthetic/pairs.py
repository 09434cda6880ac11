"""Training pairs of the synthetic world: two images of one world at two times, with the truth a loss needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch, turned
from stereo4d.data.synthetic.render import Rendered
from stereo4d.data.synthetic.room_scenes import photographed
from stereo4d.data.synthetic.world import Draw
from stereo4d.data.synthetic.worlds import Scenes, Worlds
from stereo4d.geometry.camera import project
from stereo4d.geometry.rigid import invert, transform_points


def sample_pairs(
    config: Worlds,
    batch: int,
    height: int,
    width: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    query_times: int = 0,
    at_times: Sequence[float] = (),
) -> PairBatch:
    """Draw B worlds and see each at two random times in [0, 1].

    Args:
        config: draws the worlds.
        batch: B.
        height: H.
        width: W.
        seed: the same seed gives the same batch on the same kind of device.
        device: where the world is drawn and rendered.
        query_times: Q, times at which motion is known, drawn for each pair; the images do not depend on it.
        at_times: the same times for every pair, instead of drawn ones.
    """
    config = config.drawn(seed)
    scenes = config.scenes(batch, seed=seed, device=device)
    draw = Draw(seed + 1_000_003, device)
    # two frames of a clip, in either order
    gap = draw.log_uniform(batch, low=config.pair_gap[0], high=config.pair_gap[1])
    start = draw.uniform(batch) * (1 - gap)
    forward = draw.uniform(batch) < 0.5
    time0 = torch.where(forward, start, start + gap)
    time1 = torch.where(forward, start + gap, start)
    times = _query_times(batch, query_times, Draw(seed + 2_000_003, device))
    if at_times:
        times = torch.tensor([list(at_times)] * batch, device=times.device)
    return _observe(scenes, time0, time1, times, height, width, draw, seed)


def _query_times(batch: int, count: int, draw: Draw) -> Tensor:
    """(B, Q) times: half of them one of the two ends, half anywhere between (the paper leaves it open)."""
    between, end = draw.uniform(batch, count), (draw.uniform(batch, count) < 0.5).float()
    return torch.where(draw.uniform(batch, count) < 0.5, end, between)


def _observe(
    scenes: Scenes,
    time0: Tensor,
    time1: Tensor,
    times: Tensor,
    height: int,
    width: int,
    draw: Draw,
    seed: int,
) -> PairBatch:
    intrinsics = scenes.camera_intrinsics(height, width)
    cam0, cam1 = scenes.camera_pose(time0), scenes.camera_pose(time1)
    seen0 = scenes.render(time0, cam0, intrinsics, height, width)
    seen1 = scenes.render(time1, cam1, intrinsics, height, width)
    to_cam0 = invert(cam0)
    valid0, valid1 = ~seen0.sky, ~seen1.sky
    point0 = scenes.surface_position(seen0.surface, seen0.local, time0)
    point1 = scenes.surface_position(seen1.surface, seen1.local, time1)
    asked = time0[:, None] + times * (time1 - time0)[:, None]  # (B, Q) clip times
    upright = torch.zeros_like(valid0[:, 0, 0])
    return PairBatch(
        image0=scenes.photographed(seen0.rgb, draw),
        image1=scenes.photographed(seen1.rgb, draw),
        pointmap0=_measured(valid0, transform_points(to_cam0, point0)),
        pointmap1=_measured(valid1, transform_points(to_cam0, point1)),
        valid0=valid0,
        valid1=valid1,
        moving0=seen0.moving,
        moving1=seen1.moving,
        sky0=seen0.sky,
        sky1=seen1.sky,
        match0=_matches(scenes, seen0, seen1, cam1, intrinsics, time1),
        match1=_matches(scenes, seen1, seen0, cam0, intrinsics, time0),
        intrinsics0=intrinsics,
        intrinsics1=intrinsics,
        relative=to_cam0 @ cam1,
        portrait0=upright,
        portrait1=upright,
        metric=~upright,
        times=times,
        motion0=turned(to_cam0, _motion(scenes, seen0, point0, asked)),
        motion1=turned(to_cam0, _motion(scenes, seen1, point1, asked)),
        motion_valid0=valid0[:, None] & (times != 0)[..., None, None],
        motion_valid1=valid1[:, None] & (times != 1)[..., None, None],
        names=tuple(f"synthetic pair {number} of seed {seed}" for number in range(len(time0))),
    )


def _measured(valid: Tensor, points: Tensor) -> Tensor:
    return torch.where(valid[..., None], points, 0)


def _motion(scenes: Scenes, seen: Rendered, start: Tensor, asked: Tensor) -> Tensor:
    """(B, Q, H, W, 3) displacements in the world of what is seen, from where it is to clip times (B, Q)."""
    ends = [scenes.surface_position(seen.surface, seen.local, time) for time in asked.unbind(1)]
    return torch.stack([end - start for end in ends], 1) if ends else start[:, None][:, :0]


def _matches(
    scenes: Scenes, source: Rendered, other: Rendered, cam2world: Tensor, intrinsics: Tensor, time: Tensor
) -> Tensor:
    """(B, H, W, 2) pixels of the other view that see the source's surface points at the other view's time."""
    height, width = source.depth.shape[1:]
    points = transform_points(invert(cam2world), scenes.surface_position(source.surface, source.local, time))
    pixel, depth = project(points, intrinsics)
    column, row = pixel.round().clamp(-1, max(height, width)).long().unbind(-1)
    inside = (depth > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row * width + column).clamp(0, height * width - 1).flatten(1)
    surface = other.surface.flatten(1).gather(1, index).view_as(source.surface)
    seen_depth = other.depth.flatten(1).gather(1, index).view_as(depth)
    # The nearest pixel's depth stands in for the exact ray: a share of depth covers slanted surfaces.
    visible = inside & ~source.sky & (surface == source.surface) & ((seen_depth - depth).abs() < 0.05 * depth)
    return torch.where(visible[..., None], pixel, torch.nan)


__all__ = ["photographed", "sample_pairs"]
