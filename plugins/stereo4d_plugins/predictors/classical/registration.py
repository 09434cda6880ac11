"""A first camera path: a base pair, then every other camera from the points that are there, points as they come.

The path only has to be good enough for bundle adjustment to take over (Hartley and Zisserman, chapters 9, 12 and 18).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stereo4d.geometry.pnp import solve_pnp
from stereo4d_plugins.predictors.classical.bundle import Bundle, Observations, adjust, distances
from stereo4d_plugins.predictors.classical.pair_pose import relative_pose
from stereo4d_plugins.predictors.classical.rotations import rotation_between, unit_rays

_COMMON = 20  # tracks that two views must share
_FEWEST = 12  # points a camera is placed by
_ENOUGH_PARALLAX = 0.03  # of the focal: more makes a base pair no better, but its matches fewer
_EXACT = 0.05  # of the limit in a comparison of paths: what good tracks reach
_SMALLEST_ANGLE = np.deg2rad(0.25)


@dataclass(frozen=True)
class Path:
    """A bundle under construction."""

    bundle: Bundle
    placed: np.ndarray
    """(N,) bool: cameras that were found."""
    solid: np.ndarray
    """(T,) bool: points that were found."""


def misfit(path: Path, observations: Observations, limit: float) -> float:
    """How badly a path explains all observations: the mean of log(1 + (error / scale)^2), errors at most ``limit``.

    What a path does not place counts in full, so that paths of one clip can be compared. The scale is far below the
    limit: of two paths the one is right that explains most points exactly, not the one that nearly explains all of
    them, things that move included.

    Args:
        path: cameras and points.
        observations: of its points in its cameras.
        limit: pixels.
    """
    near, _ = triangulate(observations, path.bundle, path.placed)
    choices = [near, _far_away(observations, path), np.where(path.solid[:, None], path.bundle.points, near)]
    # A point that shows no parallax is explained too, or the path that invents parallax for it would win.
    cost = np.stack(
        [_costs(replace(path.bundle, points=points), observations, path.placed, limit) for points in choices]
    )
    return float(cost.min(0).sum() / max(1, observations.seen.sum()))


def _costs(bundle: Bundle, observations: Observations, placed: np.ndarray, limit: float) -> np.ndarray:
    """(T,) what each track costs, see ``misfit``."""
    error = distances(bundle, observations)
    error[:, ~placed] = limit
    error = np.where(observations.seen, np.minimum(error, limit), 0.0)
    return np.log1p(np.square(error / (_EXACT * limit))).sum(1)


def _far_away(observations: Observations, path: Path) -> np.ndarray:
    """(T, 3) points so far along their mean rays that no camera tells them from infinity."""
    rays = unit_rays(observations.offsets, path.bundle.focal).transpose(1, 0, 2) @ path.bundle.rotation
    use = (observations.seen & path.placed).astype(np.float64)
    direction = np.einsum("nti,tn->ti", rays, use)
    centres = -(path.bundle.translation[:, None] @ path.bundle.rotation)[:, 0][path.placed]
    size = 1.0 + float(np.abs(centres - centres[0]).max())
    return centres[0] + 1e4 * size * direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)


def base_pairs(observations: Observations, focal: float, *, wanted: int) -> list[tuple[int, int]]:
    """Pairs of frames that share many tracks and show much parallax beyond any rotation, best first."""
    rays = unit_rays(observations.offsets, focal)
    frames = observations.seen.shape[1]
    scored = []
    for first in range(frames):
        for second in range(first + 1, frames):
            both = observations.seen[:, first] & observations.seen[:, second]
            if both.sum() < _COMMON:
                continue
            _, angle = rotation_between(rays[both, first], rays[both, second])
            parallax = min(1.0, float(np.median(angle)) / _ENOUGH_PARALLAX)
            scored.append((parallax * float(both.sum()) ** 0.5, first, second))
    scored.sort(key=lambda entry: -entry[0])
    return [(first, second) for _, first, second in scored[:wanted]]


def triangulate(observations: Observations, bundle: Bundle, placed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points nearest to all rays that see them.

    Args:
        observations: of T points in N cameras.
        bundle: its cameras and focal.
        placed: (N,) cameras that count.

    Returns:
        (T, 3) points and (T,) how far their rays spread, in radians (standard deviation); 0 where there is no point.
    """
    rays = unit_rays(observations.offsets, bundle.focal).transpose(1, 0, 2) @ bundle.rotation  # (N, T, 3) in the world
    centres = -(bundle.translation[:, None] @ bundle.rotation)[:, 0]
    use = (observations.seen & placed).astype(np.float64)
    count = use.sum(1)
    weighted = (rays * use.T[..., None]).transpose(1, 0, 2)
    across = count[:, None, None] * np.eye(3) - weighted.transpose(0, 2, 1) @ rays.transpose(1, 0, 2)
    along = (rays @ centres[..., None])[..., 0].T  # (T, N)
    pull = use @ centres - (weighted.transpose(0, 2, 1) @ along[..., None])[..., 0]
    spread = np.maximum(np.linalg.eigvalsh(across)[:, 0] / np.maximum(count, 1), 0.0) ** 0.5
    good = (count >= 2) & (spread > 1e-5)
    points = np.zeros((len(use), 3))
    points[good] = np.linalg.solve(across[good], pull[good][..., None])[..., 0]
    return points, np.where(good, spread, 0.0)


def with_points(path: Path, observations: Observations, limit: float) -> Path:
    """Add the points that the placed cameras now show well; those that stay wrong are dropped."""
    fresh, spread = triangulate(observations, path.bundle, path.placed)
    points = np.where(path.solid[:, None], path.bundle.points, fresh)
    bundle = replace(path.bundle, points=points)
    error = distances(bundle, observations)
    error[:, ~path.placed] = np.nan
    worst = np.where(
        np.isnan(error).all(1), np.inf, np.nanmedian(np.where(np.isnan(error).all(1)[:, None], 0, error), 1)
    )
    parallax = spread[spread > 0]
    least = max(_SMALLEST_ANGLE, 0.2 * float(np.median(parallax))) if len(parallax) else np.inf
    return replace(path, bundle=bundle, solid=(spread > least) & (worst < limit))


def _polished(path: Path, observations: Observations, rounds: int, free_focal: bool) -> Path:
    """Adjust what is there so far."""
    rows, columns = np.flatnonzero(path.solid), np.flatnonzero(path.placed)
    if len(rows) < _FEWEST:
        return path
    part = Observations(observations.offsets[np.ix_(rows, columns)], observations.seen[np.ix_(rows, columns)])
    bundle = path.bundle
    small = Bundle(bundle.rotation[columns], bundle.translation[columns], bundle.points[rows], bundle.focal)
    done = adjust(small, part, free_focal=free_focal, rounds=rounds).bundle
    rotation, translation, points = bundle.rotation.copy(), bundle.translation.copy(), bundle.points.copy()
    rotation[columns], translation[columns], points[rows] = done.rotation, done.translation, done.points
    return replace(path, bundle=Bundle(rotation, translation, points, done.focal))


def begin(observations: Observations, focal: float, limit: float, seed: int) -> Path | None:
    """Two cameras and the points that both see; None where no pair shows parallax.

    Args:
        observations: of T points in N cameras.
        focal: pixels.
        limit: reprojection error in pixels from which an observation counts as wrong.
        seed: same seed, same answer.
    """
    frames = observations.seen.shape[1]
    best, best_value = None, 0.0
    for first, second in base_pairs(observations, focal, wanted=4):
        both = np.flatnonzero(observations.seen[:, first] & observations.seen[:, second])
        matches = observations.offsets[both] / focal
        pose = relative_pose(matches[:, first], matches[:, second], limit / focal, seed)
        if pose.kind != "parallax":
            continue
        rotation, translation = np.repeat(np.eye(3)[None], frames, 0), np.zeros((frames, 3))
        rotation[second], translation[second] = pose.world2cam1[:3, :3], pose.world2cam1[:3, 3]
        placed = np.zeros(frames, bool)
        placed[[first, second]] = True
        bundle = Bundle(rotation, translation, np.zeros((len(observations.seen), 3)), focal)
        path = with_points(Path(bundle, placed, np.zeros(len(observations.seen), bool)), observations, limit)
        _, spread = triangulate(observations, bundle, placed)
        if not path.solid.any():
            continue
        angle = float(np.median(spread[path.solid]))
        value = path.solid.sum() ** 0.5 * min(1.0, angle / np.deg2rad(2))
        if value > best_value:
            best, best_value = path, value
    return best


def extend(
    path: Path, observations: Observations, limit: float, *, free_focal: bool, seed: int, rounds: int = 5
) -> Path:
    """Place every camera that sees enough points, adjusting as the path grows.

    Args:
        path: at least two cameras.
        observations: of its points in its cameras.
        limit: reprojection error in pixels from which an observation counts as wrong.
        free_focal: let the adjustments move the focal.
        seed: same seed, same answer.
        rounds: adjustments at the end at most, each with the points that the last one showed to fit.
    """
    refused = np.zeros_like(path.placed)
    next_polish = 3
    while True:
        visible = (observations.seen & path.solid[:, None]).sum(0) * ~(path.placed | refused)
        camera = int(visible.argmax())
        if visible[camera] < _FEWEST:
            break
        pose = _resected(path, observations, camera, limit, seed)
        if pose is None:
            refused[camera] = True
            continue
        refused[:] = False
        path.bundle.rotation[camera], path.bundle.translation[camera] = pose[:3, :3], pose[:3, 3]
        path = replace(path, placed=path.placed | (np.arange(len(path.placed)) == camera))
        path = with_points(path, observations, limit)
        if path.placed.sum() >= next_polish:
            path = _polished(path, observations, 5, free_focal and next_polish > 3)
            path = with_points(replace(path, solid=np.zeros_like(path.solid)), observations, limit)
            next_polish = int(next_polish * 1.6) + 1
    for _ in range(rounds):
        before = path.bundle.focal, path.solid.sum()
        path = _polished(path, observations, 15, free_focal)
        path = with_points(replace(path, solid=np.zeros_like(path.solid)), observations, limit)
        if abs(np.log(path.bundle.focal / before[0])) < 2e-3 and abs(path.solid.sum() - before[1]) < 5:
            break
    return path


def resect_rest(path: Path, observations: Observations, limit: float, seed: int) -> Path:
    """Place every camera that the points as they are suffice for; nothing else moves."""
    rotation, translation = path.bundle.rotation.copy(), path.bundle.translation.copy()
    placed = path.placed.copy()
    for camera in np.flatnonzero(~path.placed):
        pose = _resected(path, observations, int(camera), limit, seed)
        if pose is not None:
            rotation[camera], translation[camera], placed[camera] = pose[:3, :3], pose[:3, 3], True
    return replace(path, bundle=replace(path.bundle, rotation=rotation, translation=translation), placed=placed)


def _resected(path: Path, observations: Observations, camera: int, limit: float, seed: int) -> np.ndarray | None:
    """(4, 4) world to camera from the points that it sees; None without a consensus."""
    use = observations.seen[:, camera] & path.solid
    if use.sum() < _FEWEST:
        return None
    focal = path.bundle.focal
    pose = solve_pnp(
        path.bundle.points[use],
        observations.offsets[use, camera],
        np.diag([focal, focal, 1.0]),
        threshold=2 * limit,
        iterations=200,
        seed=seed,
    )
    if pose.inliers < max(_FEWEST, 0.35 * use.sum()):
        return None
    return np.linalg.inv(pose.cam2world)
