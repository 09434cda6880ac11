"""How the camera moved between two views, judged from matches: by a baseline, by turning only, or not at all.

Matches are normalised image coordinates: pixels with the intrinsics taken off. The three models are fitted robustly and
compared by what they leave unexplained and by what they cost (GRIC, Torr 1998): a camera that only turns is not told
a baseline that its noise suggests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stereo4d_plugins.predictors.classical.pose_fitting import (
    epipolar_residuals,
    fit_rotation,
    refine_baseline,
    rotation_residuals,
)

Kind = Literal["parallax", "rotation", "static", "none"]

_FEWEST = 12  # matches; with less, chance agreements decide
_MOST = 2000  # matches to fit to: the answer no longer changes with more
_AGREEING = 0.3  # share of matches that the model must explain to be believed
_SAMPLES = 1000  # hypotheses of the robust searches
_DIFFERENT = 0.1  # largest difference of rotation entries or of directions below which two motions are the same


@dataclass(frozen=True)
class PairPose:
    """How camera 1 stands to camera 0."""

    kind: Kind
    """``parallax``: turned and moved; ``rotation``: turned only; ``static``: neither; ``none``: matches do not say."""
    world2cam1: np.ndarray
    """(4, 4) float64, from camera 0 to camera 1: ``x1 = R x0 + t`` with t of length 1, or zero without a baseline."""
    inliers: np.ndarray
    """(P,) bool: the matches that agree with it; all False for ``none``."""
    rival: np.ndarray | None = None
    """(4, 4): another motion that explains the matches as well, as for views of a single wall; None without one."""


def relative_pose(points0: np.ndarray, points1: np.ndarray, threshold: float, seed: int = 0) -> PairPose:
    """Judge how the camera moved between two views.

    Args:
        points0: (P, 2) matches in view 0, normalised image coordinates.
        points1: (P, 2) the same points in view 1.
        threshold: distance from which a match disagrees with a model, in the same units: pixels over focal.
        seed: same seed, same answer.
    """
    points0, points1 = np.asarray(points0, np.float64), np.asarray(points1, np.float64)
    usable = np.isfinite(points0).all(1) & np.isfinite(points1).all(1)
    if usable.sum() < _FEWEST:
        return PairPose("none", np.eye(4), np.zeros(len(points0), bool))
    chosen = _some_of(np.flatnonzero(usable), seed)
    rays0, rays1 = _rays(points0), _rays(points1)
    few0, few1 = rays0[chosen], rays1[chosen]
    turned = fit_rotation(few0, few1, threshold, seed=seed)
    candidates: list[tuple[Kind, np.ndarray]] = [("static", np.eye(4)), ("rotation", _motion(turned, np.zeros(3)))]
    candidates += [("parallax", motion) for motion in _baselines(few0, few1, turned, threshold, seed)]
    costs = [_cost(kind, motion, few0, few1, threshold) for kind, motion in candidates]
    kind, motion = candidates[int(np.argmin(costs))]
    rival = None
    if kind == "parallax":
        equals = [motion for (_, motion), cost in zip(candidates, costs, strict=True) if cost < min(costs) + _tie(few0)]
        motion, rival = _least_turned(equals)
    residual = _residuals(kind, motion, rays0, rays1)
    agreeing = usable & (np.where(usable, residual, np.inf) < threshold)
    if agreeing.sum() < _AGREEING * usable.sum():
        return PairPose("none", np.eye(4), np.zeros(len(points0), bool))
    return PairPose(kind, motion, agreeing, rival)


def triangulated_depths(motion: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depths along both rays of the points where they pass closest to each other.

    Args:
        motion: (4, 4) from camera 0 to camera 1.
        rays0: (P, 3) directions in camera 0.
        rays1: (P, 3) directions in camera 1.

    Returns:
        Two (P,), in units of the ray directions; negative behind a camera, infinite where rays are parallel.
    """
    turned, offset = rays0 @ motion[:3, :3].T, motion[:3, 3]
    # least squares of d1 rays1 - d0 turned = offset
    aa, bb, ab = (turned**2).sum(1), (rays1**2).sum(1), (turned * rays1).sum(1)
    ao, bo = turned @ offset, rays1 @ offset
    determinant = aa * bb - ab**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ab * bo - bb * ao) / determinant, (aa * bo - ab * ao) / determinant


def _baselines(
    rays0: np.ndarray, rays1: np.ndarray, turned: np.ndarray, threshold: float, seed: int
) -> list[np.ndarray]:
    """Motions with a baseline, refined from two starts: by five-point samples, and from turning alone.

    With a short baseline samples of five points say little, but then the camera that only turns is close to the truth.
    On a single wall they find one of the two motions that explain it; its homography gives both.
    """
    starts = [(turned, _direction_given(turned, rays0, rays1, threshold))]
    starts += _five_points(rays0, rays1, threshold, seed)
    starts += _wall_motions(rays0, rays1, threshold)
    motions = []
    for rotation, direction in starts:
        rotation, direction = refine_baseline(rotation, direction, rays0, rays1, threshold)
        motions.append(_in_front(_motion(rotation, direction), rays0, rays1, threshold))
    return motions


def _least_turned(motions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Of motions that explain the matches equally well, the one that turns least, and one that differs from it."""
    # A wall seen twice allows two motions; between frames of a video the smaller turn is the likelier one.
    first, *others = sorted(motions, key=lambda motion: -np.trace(motion[:3, :3]))
    different = [motion for motion in others if np.abs(motion - first)[:3].max() > _DIFFERENT]
    return first, different[0] if different else None


def _tie(rays: np.ndarray) -> float:
    """Difference of costs below which two motions explain matches equally well."""
    return 6 + 0.01 * len(rays)


def _wall_motions(rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotations and directions of the motions that show one plane as the best homography does."""
    points0, points1 = np.ascontiguousarray(rays0[:, :2]), np.ascontiguousarray(rays1[:, :2])
    try:
        homography, mask = cv2.findHomography(points0, points1, cv2.RANSAC, threshold, maxIters=_SAMPLES)
        if homography is None or not np.isfinite(homography).all() or mask.mean() < _AGREEING:
            return []
        _, rotations, offsets, _ = cv2.decomposeHomographyMat(homography, np.eye(3))
    except cv2.error:
        return []
    found = [(rotation, offset[:, 0]) for rotation, offset in zip(rotations, offsets, strict=True)]
    # Each comes with both signs of its offset; cheirality decides about that later.
    return [(rotation, offset / np.linalg.norm(offset)) for rotation, offset in found[::2] if offset.any()]


def _five_points(
    rays0: np.ndarray, rays1: np.ndarray, threshold: float, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotation and direction of the best sample of five matches; empty where there is none."""
    settings = cv2.UsacParams()
    settings.threshold = threshold
    settings.confidence = 0.999
    settings.maxIterations = _SAMPLES
    settings.sampler = cv2.SAMPLING_UNIFORM
    # OpenCV's MAGSAC is lost at thresholds as small as those of normalised coordinates: measured.
    settings.score = cv2.SCORE_METHOD_MSAC
    settings.loMethod = cv2.LOCAL_OPTIM_INNER_LO
    settings.loIterations = 5
    settings.randomGeneratorState = seed
    points0, points1 = np.ascontiguousarray(rays0[:, :2]), np.ascontiguousarray(rays1[:, :2])
    eye, none = np.eye(3), np.zeros(0)
    try:
        essential, mask = cv2.findEssentialMat(points0, points1, eye, eye, none, none, settings)
        if essential is None or essential.shape != (3, 3) or not np.isfinite(essential).all():
            return []
        _, rotation, direction, _ = cv2.recoverPose(essential, points0, points1, eye, mask=mask)
    except cv2.error:  # some degenerate matches make its solvers give up
        return []
    return [(rotation, direction[:, 0])]


def _direction_given(rotation: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> np.ndarray:
    """The unit direction of the baseline under a known rotation: all epipolar planes meet in it."""
    normals = np.cross(rays0 @ rotation.T, rays1)
    length = np.linalg.norm(normals, axis=1)
    weight = np.ones(len(normals))
    direction = np.array([1.0, 0.0, 0.0])
    for _ in range(8):  # reweighted: moving points leave the sum
        direction = np.linalg.eigh((normals * weight[:, None]).T @ normals)[1][:, 0]
        weight = 1 / (1 + (normals @ direction / threshold) ** 2) ** 2 / (1 + length / threshold)
    return direction


def _in_front(motion: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> np.ndarray:
    """The motion with the sign of its baseline that puts most of the matches in front of both cameras."""
    depth0, depth1 = triangulated_depths(motion, rays0, rays1)
    fits = epipolar_residuals(motion[:3, :3], motion[:3, 3], rays0, rays1) < threshold
    # Only matches with parallax tell front from behind.
    parallax = rotation_residuals(motion[:3, :3], rays0, rays1)
    weight = fits * np.minimum(parallax / threshold, 10) ** 2
    balance = np.sum(weight * (np.sign(depth0) + np.sign(depth1)), where=np.isfinite(depth0) & np.isfinite(depth1))
    return motion if balance >= 0 else _motion(motion[:3, :3], -motion[:3, 3])


def _residuals(kind: Kind, motion: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(P,) distances of matches from what a model allows, in normalised image coordinates."""
    if kind != "parallax":
        return rotation_residuals(motion[:3, :3], rays0, rays1)
    residual = epipolar_residuals(motion[:3, :3], motion[:3, 3], rays0, rays1)
    return residual + _behind(motion, rays0, rays1)


def _behind(motion: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """(P,) how far a match would have to move along its epipolar line to lie in front of both cameras."""
    depth0, depth1 = triangulated_depths(motion, rays0, rays1)
    behind = (depth0 < 0) | (depth1 < 0)
    return np.where(behind, rotation_residuals(motion[:3, :3], rays0, rays1), 0)


_DIMENSIONS = {"static": 2, "rotation": 2, "parallax": 3}
_PARAMETERS = {"static": 0, "rotation": 3, "parallax": 5}


def _cost(kind: Kind, motion: np.ndarray, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> float:
    """GRIC (Torr 1998): matches have 4 coordinates, a model confines them to a manifold of fewer dimensions."""
    squared = (
        2 * (_residuals(kind, motion, rays0, rays1) / threshold) ** 2
    )  # an error of the threshold is sqrt(2) sigma
    dimensions, count = _DIMENSIONS[kind], len(rays0)
    robust = np.minimum(squared, 2 * (4 - dimensions)).sum()
    return float(robust + count * dimensions * np.log(4) + _PARAMETERS[kind] * np.log(4 * count))


def _some_of(indices: np.ndarray, seed: int) -> np.ndarray:
    """At most ``_MOST`` of the indices, in order."""
    if len(indices) <= _MOST:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, _MOST, replace=False))


def _rays(points: np.ndarray) -> np.ndarray:
    """(P, 3) directions with depth 1 along the optical axis."""
    return np.concatenate([points, np.ones((len(points), 1))], 1)


def _motion(rotation: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A rigid motion (4, 4)."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, offset
    return motion
