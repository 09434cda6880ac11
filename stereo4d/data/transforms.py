"""From an image of any size to the network's input, keeping track of where every pixel came from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from stereo4d.errors import InputError, UsageError
from stereo4d.types import PixelMap, View

SHORT_SIDE_SIZE = 224
"""At this size, and only this one, the family fits the short side and crops a square."""


@dataclass(frozen=True)
class Fit:
    """How an image is brought to network size: resized as a whole, then cropped around its centre."""

    resized: tuple[int, int]
    """(width, height) after the resize, in pixels."""
    box: tuple[int, int, int, int]
    """(left, top, right, bottom) of the crop, in pixels of the resized image."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        left, top, right, bottom = self.box
        return bottom - top, right - left

    def to_original(self, width: int, height: int) -> PixelMap:
        """The map from the result's pixels to those of the original of this width and height.

        Resizing keeps the image's *edges*, which lie half a pixel outside the centres of its outer pixels.
        """
        scale_u, scale_v = width / self.resized[0], height / self.resized[1]
        left, top = self.box[:2]
        return PixelMap(scale_u, scale_v, (left + 0.5) * scale_u - 0.5, (top + 0.5) * scale_v - 0.5)


def plan_fit(width: int, height: int, size: int, *, patch_size: int = 16, square_ok: bool = False) -> Fit:
    """How an image of this width and height becomes network input of this size.

    Args:
        width: of the original, in pixels.
        height: of the original, in pixels.
        size: long side of the result, in pixels; at 224 the result is a 224 x 224 square.
        patch_size: sides of the result are multiples of it.
        square_ok: leave a square image square; otherwise it is cropped to 4:3.

    Raises:
        UsageError: ``size`` holds no patch.
        InputError: the image is so thin that no patch is left of it.
    """
    if size < patch_size:
        raise UsageError(f"size {size} is smaller than one patch of {patch_size} pixels; give a larger --size")
    longest = max(width, height)
    target = round(size * longest / min(width, height)) if size == SHORT_SIDE_SIZE else size
    new_width, new_height = (round(side * target / longest) for side in (width, height))
    if size == SHORT_SIDE_SIZE:
        crop_width = crop_height = 2 * min(new_width // 2, new_height // 2)
    else:
        # "2 * (side // 2)" drops an odd last pixel before rounding down to patches
        crop_width = 2 * (new_width // 2) // patch_size * patch_size
        crop_height = 2 * (new_height // 2) // patch_size * patch_size
        if new_width == new_height and not square_ok:
            crop_height = crop_width * 3 // 4 // patch_size * patch_size
    if not crop_width or not crop_height:
        raise InputError(
            f"an image of {width}x{height} pixels becomes {new_width}x{new_height} at size {size}: less than one patch "
            f"of {patch_size} pixels is left of it; use a larger --size, or crop the image"
        )
    left, top = new_width // 2 - crop_width // 2, new_height // 2 - crop_height // 2
    return Fit((new_width, new_height), (left, top, left + crop_width, top + crop_height))


def prepare_image(
    image: Image.Image | np.ndarray,
    size: int,
    *,
    patch_size: int = 16,
    square_ok: bool = False,
    index: int = 0,
    time: float = 0.0,
) -> View:
    """Resize, crop and normalise an upright image as the DUSt3R family does at inference.

    Args:
        image: upright RGB, a Pillow image or an (H, W, 3) uint8 array.
        size: long side of the result, in pixels; at 224 the result is a 224 x 224 square.
        patch_size: see ``plan_fit``.
        square_ok: see ``plan_fit``.
        index: frame index in the input.
        time: presentation time in seconds.

    Returns:
        The view; portrait images stay portrait.
    """
    picture = _as_picture(image)
    width, height = picture.size
    fit = plan_fit(width, height, size, patch_size=patch_size, square_ok=square_ok)
    kernel = Image.Resampling.LANCZOS if max(width, height) > max(fit.resized) else Image.Resampling.BICUBIC
    pixels = np.array(picture.resize(fit.resized, kernel).crop(fit.box))
    return View(
        image=normalise(pixels),
        original_size=(height, width),
        to_original=fit.to_original(width, height),
        index=index,
        time=time,
    )


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1]."""
    return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1] back to (H, W, 3) uint8: the exact inverse of ``normalise``."""
    scaled = (image.float() * 0.5 + 0.5) * 255
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def open_image(path: str | Path, *, mode: str | None = "RGB") -> Image.Image:
    """Read an image file as upright RGB: EXIF orientation applied, transparency dropped.

    Args:
        path: the file.
        mode: Pillow's name of another kind of image; None leaves it as stored.

    Raises:
        InputError: there is no such file, it is no image, or it is cut short.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened)
                return upright.convert(mode) if mode else upright
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; give an image file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


def _as_picture(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image array must be (H, W, 3) uint8; this one is {image.shape} {image.dtype}")
    return Image.fromarray(np.ascontiguousarray(image))
