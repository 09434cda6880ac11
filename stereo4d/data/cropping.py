"""From a data set's image to the size that training wants, with intrinsics that stay right.

Training centres images on their principal point, resizes them until the wanted size just fits, and cuts that out of
the middle.
Sizes are (height, width), boxes (left, top, right, bottom), in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stereo4d.errors import InputError


@dataclass(frozen=True)
class Crop:
    """How an image is brought to size: cut out, resized, and cut out again."""

    box: tuple[int, int, int, int]
    """Of the image."""
    resized: tuple[int, int]
    """(H, W) of the box after the resize."""
    window: tuple[int, int, int, int]
    """Of the resized box."""
    intrinsics: np.ndarray
    """(3, 3) float64 of the result, pixel centres at integers."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        left, top, right, bottom = self.window
        return bottom - top, right - left

    def picture(self, rgb: np.ndarray) -> Image.Image:
        """The result for an image (H, W, 3) uint8."""
        left, top, right, bottom = self.box
        cut = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
        smaller = self.resized[1] < right - left
        kernel = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
        return cut.resize(self.resized[::-1], kernel).crop(self.window)

    def map(self, values: np.ndarray) -> np.ndarray:
        """The result for a map (H, W): of each pixel one value, never a mean of several."""
        left, top, right, bottom = self.window
        rows = self.box[1] + _nearest(bottom, self.resized[0], self.box[3] - self.box[1])[top:]
        columns = self.box[0] + _nearest(right, self.resized[1], self.box[2] - self.box[0])[left:]
        return values[rows[:, None], columns]


def plan_crop(
    image_size: tuple[int, int],
    intrinsics: np.ndarray,
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    portraits: bool = False,
    jitter: int = 0,
    focal: float = 1.0,
    anywhere: bool = False,
) -> Crop:
    """How an image becomes one of the wanted size; what is drawn comes from ``rng``.

    The focal jitter is drawn from the same generator as all else; in the papers' code it comes from a global one.

    Args:
        image_size: (H, W) of the image.
        intrinsics: (3, 3) of the image, pixel centres at integers.
        size: (H, W) of the result, landscape or square where ``portraits``.
        rng: for the orientation of square images and for the augmentation.
        portraits: portrait images, and half of the nearly square ones, become (W, H).
        jitter: the resize leaves up to ``jitter - 1`` pixels more than needed.
        focal: smallest share of the image that is kept.
        anywhere: the result is cut out of the resized image anywhere, not of its middle.

    Raises:
        InputError: the principal point lies at the border or outside, so that nothing is left around it.
    """
    camera = np.array(intrinsics, dtype=np.float64)
    box = _around_principal_point(image_size, camera)
    if portraits and _stands(box, size, rng):
        size = size[::-1]
    if focal < 1:
        box = _zoomed(box, focal + (1 - focal) * rng.beta(0.5, 0.5))
    camera[:2, 2] -= box[:2]
    wanted = np.array(size) + (int(rng.integers(jitter)) if jitter > 1 else 0)
    before = np.array([box[3] - box[1], box[2] - box[0]])
    # a hair more than needed, so that rounding down never leaves less
    scale = (wanted / before).max() + 1e-8
    resized = np.floor(before * scale).astype(int)
    # Edges of the image scale, not centres of pixels. What is rounded off is taken from both sides alike.
    camera[:2, 2] = (camera[:2, 2] + 0.5) * scale - 0.5 * (before * scale - resized)[::-1] - 0.5
    camera[:2, :2] *= scale
    spare = resized - size
    top, left = rng.integers(spare + 1) if anywhere else np.round(0.5 * spare).astype(int)
    camera[:2, 2] -= (left, top)
    window = (int(left), int(top), int(left) + size[1], int(top) + size[0])
    return Crop(box, (int(resized[0]), int(resized[1])), window, camera)


def _around_principal_point(image_size: tuple[int, int], intrinsics: np.ndarray) -> tuple[int, int, int, int]:
    height, width = image_size
    column, row = (int(value) for value in np.round(intrinsics[:2, 2]))
    across, down = min(column, width - column), min(row, height - row)
    if across < 1 or down < 1:
        raise InputError(
            f"the principal point ({intrinsics[0, 2]:.1f}, {intrinsics[1, 2]:.1f}) leaves nothing around it in an "
            f"image of {width}x{height} pixels: are these the intrinsics of this size?"
        )
    return column - across, row - down, column + across, row + down


def _stands(box: tuple[int, int, int, int], size: tuple[int, int], rng: np.random.Generator) -> bool:
    width, height = box[2] - box[0], box[3] - box[1]
    if height > 1.1 * width:
        return True
    nearly_square = 0.9 < height / width < 1.1
    return nearly_square and size[0] != size[1] and bool(rng.integers(2))


def _zoomed(box: tuple[int, int, int, int], share: float) -> tuple[int, int, int, int]:
    """The middle of a box."""
    left, top, right, bottom = box
    width, height = max(1, int((right - left) * share)), max(1, int((bottom - top) * share))
    left, top = left + (right - left - width) // 2, top + (bottom - top - height) // 2
    return left, top, left + width, top + height


def _nearest(upto: int, resized: int, size: int) -> np.ndarray:
    """Source pixels of the first ``upto`` of ``resized`` pixels along an axis of ``size``."""
    # The step is rounded as OpenCV does it, which decides where a source pixel's edge is hit exactly.
    return np.minimum(np.floor(np.arange(upto) * (1 / (resized / size))).astype(int), size - 1)
