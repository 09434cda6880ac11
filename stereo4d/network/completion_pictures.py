"""Pictures in and out of a completion network, as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.network.patches import patch_statistics, patchify, unpatchify
from stereo4d.network.pictures import Picture, as_image

if TYPE_CHECKING:
    from stereo4d.network.completion import Completion

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
HIDDEN_GREY = 0.5


@dataclass(frozen=True)
class CompletedPicture:
    """A picture completed from another, for display. Pictures are (H, W, 3) float32 RGB in [0, 1]."""

    picture: np.ndarray
    """The picture with its hidden patches as predicted, the visible ones as they are."""
    masked: np.ndarray
    """What the network saw of it: hidden patches are grey."""
    hidden: np.ndarray
    """(rows, columns) bool: the patches that were hidden."""
    image: np.ndarray
    """The picture whole, as scaled and cropped for the network."""
    reference: np.ndarray
    """The other one, likewise."""


def fit(picture: Picture, size: tuple[int, int]) -> Tensor:
    """Scale a picture until it covers (height, width), and cut its centre out.

    Returns:
        (3, height, width) float32 in [0, 1].

    Raises:
        InputError: a file is no picture.
        ShapeError: an array or tensor is no picture.
    """
    found = as_image(picture)
    image = found.convert("RGB") if isinstance(found, Image.Image) else Image.fromarray(np.ascontiguousarray(found))
    height, width = size
    shrinks = image.width >= width and image.height >= height
    kernel = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    pixels = np.array(ImageOps.fit(image, (width, height), kernel))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def imagenet_input(picture: Tensor) -> Tensor:
    """(3, H, W) in [0, 1] to what CroCo networks expect: less the mean of ImageNet, divided by its deviation."""
    mean, deviation = _imagenet(picture)
    return (picture - mean) / deviation


def read_hidden(hidden: np.ndarray | Tensor) -> Tensor:
    """A mask over the patches of one picture, (T,) or (rows, columns), as (1, T) bool.

    Raises:
        ShapeError: it is of another shape or kind.
    """
    mask = torch.as_tensor(hidden)
    if mask.ndim not in (1, 2) or mask.dtype != torch.bool:
        raise ShapeError(
            f"hidden is {tuple(mask.shape)} of {mask.dtype}; it must be (patches,) or (rows, columns) of booleans"
        )
    return mask.reshape(1, -1)


def compose(completion: Completion, image: Tensor, reference: Tensor, patch_size: int) -> CompletedPicture:
    """Lay the prediction of one picture out for display.

    The prediction is of patches less their own mean and divided by their own deviation; both are taken from the
    picture itself, hidden patches included: what is predicted is the pattern, not its brightness and contrast.

    Args:
        completion: of one pair.
        image: (3, H, W) in [0, 1], which was completed.
        reference: (3, H', W') in [0, 1].
        patch_size: p.
    """
    mean, deviation = patch_statistics(completion.target)
    predicted = unpatchify(completion.prediction * deviation + mean, completion.image_size, patch_size)[0]
    channel_mean, channel_deviation = _imagenet(image)
    colours = (predicted * channel_deviation + channel_mean).clamp(0, 1)
    seen = patchify(image[None], patch_size)
    covered = completion.hidden[..., None]
    patches = {
        "picture": torch.where(covered, patchify(colours[None], patch_size), seen),
        "masked": torch.where(covered, HIDDEN_GREY, seen),
    }
    rows, columns = (side // patch_size for side in completion.image_size)
    return CompletedPicture(
        **{name: _shown(unpatchify(value, completion.image_size, patch_size)[0]) for name, value in patches.items()},
        hidden=completion.hidden[0].reshape(rows, columns).cpu().numpy(),
        image=_shown(image),
        reference=_shown(reference),
    )


def _imagenet(like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) of ImageNet's colours."""
    return like.new_tensor(IMAGENET_MEAN)[:, None, None], like.new_tensor(IMAGENET_DEVIATION)[:, None, None]


def _shown(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).contiguous().cpu().numpy()
