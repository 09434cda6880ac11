"""Small patches of texture, found again with sub-pixel accuracy although they turn, grow, lean or change brightness.

A patch is matched by an affine map and a change of gain and offset, which inverse-compositional Lucas-Kanade solves for
(Baker and Matthews 2004): all that depends on the patch alone is prepared once, and all patches go in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_STEPS = 10
_CLOSE = 0.01  # pixels that the last step may still have moved
_LEANING = 0.02  # ridge on the affine part, of the patch's own gradient energy: a bare edge cannot tell how it leans


@dataclass(frozen=True)
class Patches:
    """P square patches of side S, cut out around points of one or several frames."""

    values: np.ndarray
    """(P, S * S) float32 grey values."""
    answer: np.ndarray
    """(P, 8, S * S) float32: from a difference of grey values to the change of x, y, affine (4), gain and offset."""
    spread: np.ndarray
    """(P,) float32: standard deviation in pixels of the worse direction, for grey values with noise of one."""

    def take(self, keep: np.ndarray) -> Patches:
        """Some of the patches."""
        return Patches(self.values[keep], self.answer[keep], self.spread[keep])

    def joined(self, other: Patches) -> Patches:
        """These and then others."""
        return Patches(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.answer, other.answer]),
            np.concatenate([self.spread, other.spread]),
        )

    def replaced(self, where: np.ndarray, other: Patches) -> Patches:
        """The same with others at some places."""
        values, answer, spread = self.values.copy(), self.answer.copy(), self.spread.copy()
        values[where], answer[where], spread[where] = other.values, other.answer, other.spread
        return Patches(values, answer, spread)


def grid_of(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(S * S, 2) offsets of a patch's pixels from its centre, and their weights (Gaussian)."""
    steps = np.arange(side, dtype=np.float32) - (side - 1) / 2
    offsets = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    return offsets, np.exp(-0.5 * np.square(offsets).sum(1) / (0.3 * side) ** 2).astype(np.float32)


def sample(grey: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(P, Q) float32 values of an (H, W) float32 image at (P, Q, 2) pixels, bicubic; edges repeat."""
    coordinates = pixels.astype(np.float32)
    if not coordinates.size:
        return np.zeros(coordinates.shape[:2], np.float32)
    return cv2.remap(grey, coordinates, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def cut_out(grey: np.ndarray, pixels: np.ndarray, side: int) -> Patches:
    """Patches around points.

    Args:
        grey: (H, W) float32.
        pixels: (P, 2).
        side: S, odd.
    """
    offsets, weight = grid_of(side)
    place = pixels[:, None].astype(np.float32) + offsets
    values = sample(grey, place)
    half = np.float32(0.5)
    across = sample(grey, place + np.array([half, 0])) - sample(grey, place - np.array([half, 0]))
    down = sample(grey, place + np.array([0, half])) - sample(grey, place - np.array([0, half]))
    x, y = offsets.T
    columns = [across, down, across * x, across * y, down * x, down * y, values, np.ones_like(values)]
    jacobian = np.stack(columns, -1)  # (P, S * S, 8)
    weighted = jacobian * weight[:, None]
    normal = (weighted.transpose(0, 2, 1) @ jacobian).astype(np.float64)
    diagonal = np.einsum("pii->pi", normal)
    energy = diagonal[:, :2].sum(1, keepdims=True)
    diagonal[:, 2:6] += _LEANING * energy * np.square(x).mean()
    diagonal += 1e-6 * diagonal + 1e-9
    inverse = np.linalg.inv(normal)
    answer = (inverse @ weighted.transpose(0, 2, 1)).astype(np.float32)
    # The inverse and not the product of answers: where nothing shows a direction, the answer is zero but not certain.
    spread = np.linalg.eigvalsh(inverse[:, :2, :2])[:, -1] ** 0.5
    return Patches(values, answer, spread.astype(np.float32))


def find_again(
    patches: Patches, grey: np.ndarray, pixels: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where patches are in another frame.

    Args:
        patches: P of them.
        grey: (H, W) float32, the other frame.
        pixels: (P, 2) where they may be.
        shape: (P, 2, 2) affine map from a patch to the frame, to begin with.

    Returns:
        (P, 2) float32 pixels, (P, 2, 2) affine maps, and (P,) correlation of what was found with the patch, -1 where
        the search ran away.
    """
    side = round(patches.values.shape[1] ** 0.5)
    offsets, weight = grid_of(side)
    place, shape = pixels.astype(np.float32), shape.astype(np.float32)
    active = np.arange(len(place))
    found = np.zeros_like(patches.values)
    settled = np.zeros(len(place), bool)
    for _ in range(_STEPS):
        at = place[active, None] + offsets @ shape[active].transpose(0, 2, 1)
        found[active] = sample(grey, at)
        change = (patches.answer[active] @ (found[active] - patches.values[active])[..., None])[..., 0]
        lean = np.clip(change[:, 2:6].reshape(-1, 2, 2), -0.2, 0.2) + np.eye(2, dtype=np.float32)
        step = np.clip(change[:, :2], -2, 2)
        # The patch is moved onto the frame; undoing that moves the map: W <- W after the inverse of the change.
        shape[active] = shape[active] @ np.linalg.inv(lean)
        shift = (shape[active] @ step[..., None])[..., 0]
        place[active] -= shift
        quiet = np.abs(shift).max(1) < _CLOSE
        settled[active[quiet]] = True
        active = active[~quiet]
        if not len(active):
            break
    likeness = _correlation(found, patches.values, weight)
    size = np.linalg.det(shape)
    sane = (size > 0.25) & (size < 4) & np.isfinite(place).all(1)
    unsettled = ~settled & (likeness < 0.9)
    return place, shape, np.where(sane & ~unsettled, likeness, -1.0)


def _correlation(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(P,) weighted normalised cross-correlation of (P, Q) values; 0 for flat ones."""
    weight = weight / weight.sum()
    first = first - (first @ weight)[:, None]
    second = second - (second @ weight)[:, None]
    power = (np.square(first) @ weight) * (np.square(second) @ weight)
    return ((first * second) @ weight) / np.sqrt(np.maximum(power, 1e-6))
