"""Bundle adjustment: cameras, points and one shared focal from tracks, by Levenberg-Marquardt.

Points are eliminated by the Schur complement (Triggs et al. 2000; Hartley and Zisserman, appendix 6), so that each step
solves for 6 N + 1 unknowns. Observations are weighted by Cauchy's function: what moves on its own loses its say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stereo4d_plugins.predictors.classical.rotations import rotations_of

_NEAREST = 1e-3  # depth below which a point counts as behind the camera, in units of the bundle
_LOST = 1e3  # residual of such a point in pixels: it must not be a way to lower the cost
_PRIOR_SPREAD = 0.7  # standard deviation of log focal around its start: only breaks ties where nothing tells it

Motion = Literal["free", "rotation"]


@dataclass(frozen=True)
class Bundle:
    """N cameras and T points."""

    rotation: np.ndarray
    """(N, 3, 3) world to camera."""
    translation: np.ndarray
    """(N, 3) world to camera."""
    points: np.ndarray
    """(T, 3) in the world; its unit is arbitrary."""
    focal: float
    """Pixels, of all cameras."""


@dataclass(frozen=True)
class Observations:
    """What T points look like in N cameras, centred."""

    offsets: np.ndarray
    """(T, N, 2) pixels from the principal point, each axis divided by its focal over the shared one; 0 where unseen."""
    seen: np.ndarray
    """(T, N) bool."""

    def take(self, rows: np.ndarray) -> Observations:
        """Some of the points."""
        return Observations(self.offsets[rows], self.seen[rows])


@dataclass(frozen=True)
class Adjusted:
    """What an adjustment ended with."""

    bundle: Bundle
    residuals: np.ndarray
    """(T, N) distance in pixels between a point's image and where it was seen; NaN where unseen."""
    sigma: float
    """Robust standard deviation of one coordinate in pixels."""
    cost: float
    """Mean robust cost of an observation, in pixels squared."""
    focal_deviation: float
    """Standard deviation of log focal that the observations leave; inf where the focal was held."""


def residual_parts(bundle: Bundle, observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and where points lie in their cameras.

    Returns:
        (T, N, 2) pixels, image of the point minus observation, 0 where unseen; and (T, N, 3) points in camera frames.
    """
    local = (bundle.points @ bundle.rotation.transpose(0, 2, 1)).transpose(1, 0, 2) + bundle.translation
    depth = np.where(local[..., 2] > _NEAREST, local[..., 2], 1.0)
    residual = bundle.focal * local[..., :2] / depth[..., None] - observations.offsets
    residual[local[..., 2] <= _NEAREST] = _LOST
    residual[~observations.seen] = 0
    return residual, local


def distances(bundle: Bundle, observations: Observations) -> np.ndarray:
    """(T, N) reprojection error in pixels; NaN where unseen."""
    residual, _ = residual_parts(bundle, observations)
    return np.where(observations.seen, np.linalg.norm(residual, axis=-1), np.nan)


def adjust(
    bundle: Bundle,
    observations: Observations,
    *,
    motion: Motion = "free",
    free_focal: bool,
    sigma: float | None = None,
    rounds: int = 20,
    tolerance: float = 1e-4,
) -> Adjusted:
    """Move cameras, points and the focal to where the observations are explained best.

    Args:
        bundle: the start.
        observations: of its points in its cameras.
        motion: "rotation" holds every translation.
        free_focal: whether the focal is an unknown.
        sigma: standard deviation of a coordinate in pixels, for the robust weights; None: from the residuals, anew
            each round.
        rounds: steps at most.
        tolerance: relative gain of cost that ends it.
    """
    wanted = bundle.focal
    residual, local = residual_parts(bundle, observations)
    scale = _spread(residual, observations.seen) if sigma is None else sigma
    cost = _cost(residual, observations.seen, scale, bundle.focal, wanted)
    damping, quiet = 1e-3, 0
    for _ in range(rounds):
        system = _System.build(bundle, residual, local, observations.seen, scale, motion, free_focal, wanted)
        for _ in range(6):
            trial = system.step(bundle, damping)
            trial_residual, trial_local = residual_parts(trial, observations)
            trial_cost = _cost(trial_residual, observations.seen, scale, trial.focal, wanted)
            if np.isfinite(trial_cost) and trial_cost <= cost:
                break
            damping *= 8
        else:
            break
        gain = (cost - trial_cost) / max(cost, 1e-12)
        bundle, residual, local, cost = trial, trial_residual, trial_local, trial_cost
        damping = max(damping / 6, 1e-9)
        quiet = quiet + 1 if gain < tolerance else 0
        if quiet >= 2:
            break
        if sigma is None:
            scale = _spread(residual, observations.seen)
            cost = _cost(residual, observations.seen, scale, bundle.focal, wanted)
    deviation = np.inf
    if free_focal:
        system = _System.build(bundle, residual, local, observations.seen, scale, motion, True, wanted)
        deviation = system.focal_deviation() * scale
    spread = _spread(residual, observations.seen)
    return Adjusted(bundle, distances(bundle, observations), spread, cost, float(deviation))


def _spread(residual: np.ndarray, seen: np.ndarray) -> float:
    """Robust standard deviation of a coordinate; never below a twentieth of a pixel, which no tracker reaches."""
    values = np.abs(residual[seen])
    return max(0.05, 1.4826 * float(np.median(values))) if values.size else 0.05


def _cost(residual: np.ndarray, seen: np.ndarray, sigma: float, focal: float, wanted: float) -> float:
    """Mean Cauchy cost of an observation; the scale is 2.4 sigma, where it is 95 % as good as least squares."""
    scale = (2.385 * sigma) ** 2
    total = scale * np.log1p(np.square(residual[seen]).sum(-1) / scale).sum()
    total += (sigma * np.log(focal / wanted) / _PRIOR_SPREAD) ** 2
    return float(total / max(1, seen.sum()))


@dataclass(frozen=True)
class _System:
    """Normal equations of one step: C camera unknowns (with the focal last), T points."""

    camera: np.ndarray
    """(C, C)."""
    camera_gradient: np.ndarray
    """(C,)."""
    point: np.ndarray
    """(T, 3, 3)."""
    point_gradient: np.ndarray
    """(T, 3)."""
    mixed: np.ndarray
    """(T, 3, C)."""
    per_camera: int
    """Unknowns of a camera: 6, or 3 where only rotations are free."""
    free_focal: bool

    @classmethod
    def build(
        cls,
        bundle: Bundle,
        residual: np.ndarray,
        local: np.ndarray,
        seen: np.ndarray,
        sigma: float,
        motion: Motion,
        free_focal: bool,
        wanted: float,
    ) -> _System:
        """The system of a bundle as it stands.

        Args:
            bundle: N cameras and T points.
            residual: (T, N, 2), with ``local`` (T, N, 3) as ``residual_parts`` gives them.
            seen: (T, N) bool.
            sigma: standard deviation of a coordinate in pixels.
            motion: with ``free_focal``, as for ``adjust``.
            wanted: the focal before any step, in pixels, towards which it is drawn.
        """
        use = seen & (local[..., 2] > _NEAREST)
        squared = np.square(residual).sum(-1)
        root = np.where(use, (1 + squared / (2.385 * sigma) ** 2) ** -0.5, 0.0)
        by_camera, by_point, by_focal = _jacobians(bundle, local, use, motion)
        by_camera, by_point = by_camera * root[..., None, None], by_point * root[..., None, None]
        by_focal, weighted = by_focal * root[..., None], residual * root[..., None]
        weighted[~use] = 0
        tracks, frames = seen.shape
        size = by_camera.shape[-1]
        count = frames * size + int(free_focal)
        camera, gradient = np.zeros((count, count)), np.zeros(count)
        per_frame = by_camera.transpose(1, 0, 2, 3).reshape(frames, tracks * 2, size)
        turned = per_frame.transpose(0, 2, 1)
        blocks = turned @ per_frame
        for frame in range(frames):
            part = slice(frame * size, (frame + 1) * size)
            camera[part, part] = blocks[frame]
        flat = weighted.transpose(1, 0, 2).reshape(frames, tracks * 2, 1)
        gradient[: frames * size] = (turned @ flat).ravel()
        mixed = np.empty((tracks, 3, count))
        # Products of 2-vectors written out: thousands of tiny matrix products are slower.
        pairs = sum(by_point[:, :, axis, :, None] * by_camera[:, :, axis, None, :] for axis in (0, 1))
        mixed[..., : frames * size] = np.asarray(pairs).transpose(0, 2, 1, 3).reshape(tracks, 3, frames * size)
        of_point = by_point.reshape(tracks, frames * 2, 3)
        if free_focal:
            focal_row = by_focal.reshape(tracks, frames * 2, 1)
            mixed[..., -1:] = of_point.transpose(0, 2, 1) @ focal_row
            focal_flat = by_focal.transpose(1, 0, 2).reshape(frames, tracks * 2, 1)
            camera[-1, :-1] = camera[:-1, -1] = (turned @ focal_flat).ravel()
            stiffness = (sigma / _PRIOR_SPREAD) ** 2
            camera[-1, -1] = np.square(by_focal).sum() + stiffness
            gradient[-1] = (by_focal * weighted).sum() + stiffness * np.log(bundle.focal / wanted)
        point = of_point.transpose(0, 2, 1) @ of_point
        point_gradient = (of_point.transpose(0, 2, 1) @ weighted.reshape(tracks, frames * 2, 1))[..., 0]
        return cls(camera, gradient, point, point_gradient, mixed, size, free_focal)

    def _reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cameras' own system, its right side, and the points' inverses."""
        point = self.point.copy()
        diagonal = np.einsum("tii->ti", point)
        diagonal += damping * diagonal + 1e-9 * diagonal.sum(-1, keepdims=True) + 1e-12
        inverse = np.linalg.inv(point)
        left = (inverse @ self.mixed).reshape(-1, self.mixed.shape[-1])
        right = self.mixed.reshape(-1, self.mixed.shape[-1])
        camera = self.camera - right.T @ left
        gradient = self.camera_gradient - left.T @ self.point_gradient.ravel()
        return camera, gradient, inverse

    def step(self, bundle: Bundle, damping: float) -> Bundle:
        """The bundle after one damped step."""
        camera, gradient, inverse = self._reduced(damping)
        diagonal = np.diag(self.camera)
        # World and scale are free to drift: the damping holds them, and a trace of it stays at the end.
        camera[np.diag_indices_from(camera)] += max(damping, 1e-8) * diagonal + 1e-10 * diagonal.max() + 1e-12
        try:
            change = -np.linalg.solve(camera, gradient)
        except np.linalg.LinAlgError:
            change = np.zeros_like(gradient)
        shift = -(inverse @ (self.point_gradient + self.mixed @ change)[..., None])[..., 0]
        return self._moved(bundle, change, shift)

    def _moved(self, bundle: Bundle, change: np.ndarray, shift: np.ndarray) -> Bundle:
        focal = bundle.focal
        if self.free_focal:
            focal *= float(np.exp(np.clip(change[-1], -0.3, 0.3)))
            change = change[:-1]
        change = change.reshape(-1, self.per_camera)
        turn = rotations_of(change[:, :3])
        translation = bundle.translation
        if self.per_camera == 6:
            translation = translation + change[:, 3:]
        return Bundle(turn @ bundle.rotation, translation, bundle.points + shift, focal)

    def focal_deviation(self) -> float:
        """Standard deviation of log focal for unit noise, all else free."""
        camera, _, _ = self._reduced(1e-9)
        rest = camera[:-1, :-1]
        rest[np.diag_indices_from(rest)] += 1e-7 * np.diag(self.camera)[:-1] + 1e-12
        try:
            left = camera[-1, -1] - camera[-1, :-1] @ np.linalg.solve(rest, camera[:-1, -1])
        except np.linalg.LinAlgError:
            return np.inf
        return float(left**-0.5) if left > 0 else np.inf


def _jacobians(
    bundle: Bundle, local: np.ndarray, use: np.ndarray, motion: Motion
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of residuals by the camera (T, N, 2, 6 or 3), the point (T, N, 2, 3) and log focal (T, N, 2).

    A camera turns about its own centre's origin: x -> exp(w) R X + t + dt, so d x = -[R X]x w + dt.
    """
    depth = np.where(use, local[..., 2], 1.0)
    plane = local[..., :2] / depth[..., None]
    by_local = np.zeros((*local.shape[:2], 2, 3))
    by_local[..., 0, 0] = by_local[..., 1, 1] = bundle.focal / depth
    by_local[..., 2] = -bundle.focal * plane / depth[..., None]
    by_point = by_local @ bundle.rotation
    turned = local - bundle.translation
    x, y, z = np.moveaxis(turned, -1, 0)[..., None]
    along_x, along_y, along_z = np.moveaxis(by_local, -1, 0)
    # a . (w x p) = w . (p x a), for both rows a
    by_turn = np.stack([y * along_z - z * along_y, z * along_x - x * along_z, x * along_y - y * along_x], -1)
    by_camera = by_turn if motion == "rotation" else np.concatenate([by_turn, by_local], -1)
    return by_camera, by_point, bundle.focal * plane
