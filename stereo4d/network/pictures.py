"""Pictures as people have them, Pillow's, NumPy's, torch's or in a file, into a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stereo4d.data.transforms import open_image, prepare_image
from stereo4d.errors import ShapeError
from stereo4d.types import View

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray | Tensor"
"""One picture: a file, a Pillow image, an array (H, W, 3), or a tensor (3, H, W); numbers are uint8 0 ... 255 or
floating point 0 ... 1."""

Pictures: TypeAlias = "Picture | Sequence[Picture]"
"""One picture, a list of them, or a batch as an array (B, H, W, 3) or a tensor (B, 3, H, W)."""


def prepare_pictures(pictures: Pictures, size: int, *, patch_size: int) -> list[View]:
    """Resize and crop pictures as the DUSt3R family does at inference.

    Args:
        pictures: one or several.
        size: long side, in pixels; at 224 the result is a square.
        patch_size: of the network.

    Raises:
        InputError: a file is no picture.
        ShapeError: an array or tensor is no picture.
    """
    return [prepare_image(as_image(picture), size, patch_size=patch_size) for picture in _one_by_one(pictures)]


def stacked(views: Sequence[View], which: str) -> Tensor:
    """(B, 3, H, W) of some views.

    Args:
        views: B of them.
        which: what to call them in an error.

    Raises:
        ShapeError: they are not of one size.
    """
    sizes = sorted({(view.image.shape[2], view.image.shape[1]) for view in views})
    if len(sizes) != 1:
        found = ", ".join(f"{width}x{height}" for width, height in sizes) or "none"
        raise ShapeError(f"{which} must be of one size to go in one batch, they become {found}; predict them by size")
    return torch.stack([view.image for view in views])


def _one_by_one(pictures: Pictures) -> list[Picture]:
    if isinstance(pictures, np.ndarray | Tensor):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    return [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)


def as_image(picture: Picture) -> Image.Image | np.ndarray:
    """A picture as Pillow has it, or as an (H, W, 3) uint8 array.

    Raises:
        InputError: a file is no picture.
        ShapeError: an array or tensor is no picture.
    """
    if isinstance(picture, str | Path):
        return open_image(picture)
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, Tensor):
        wanted, values = "(3, H, W)", picture.detach().cpu().numpy()
        fits = values.ndim == 3 and values.shape[0] == 3
        values = np.moveaxis(values, 0, -1) if fits else values
    else:
        wanted, values = "(H, W, 3)", np.asarray(picture)
        fits = values.ndim == 3 and values.shape[2] == 3
    if not fits:
        raise ShapeError(f"a picture of shape {tuple(picture.shape)} must be {wanted}, three channels of RGB")
    return _as_uint8(values)


def _as_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise ShapeError(f"a picture of {values.dtype} must be uint8 (0 ... 255) or floating point (0 ... 1)")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise ShapeError(
            f"a picture of values {low:.3g} ... {high:.3g} must lie in 0 ... 1; divide 0 ... 255 by 255, and hand "
            "images that are already normalised to [-1, 1] to the network itself: network(image0, image1)"
        )
    return np.round(values.astype(np.float32) * 255).astype(np.uint8)
