"""Images as sequences of patches, some of them hidden.

Letters: B batch, T tokens (patches, row-major), V visible tokens, p patch size. A patch is flattened by row, column and
channel, the channel running fastest.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from stereo4d.errors import ShapeError, UsageError
from stereo4d.network.layers import check_multiple

VARIANCE_EPS = 1e-6


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) images as (B, T, 3 p^2) patches.

    Raises:
        ShapeError: a side is not a multiple of the patch size.
    """
    check_multiple(images.shape[-2], images.shape[-1], patch_size)
    return rearrange(images, "b c (y i) (x j) -> b (y x) (i j c)", i=patch_size, j=patch_size)


def unpatchify(patches: Tensor, image_size: tuple[int, int], patch_size: int) -> Tensor:
    """(B, T, 3 p^2) patches as (B, 3, H, W) images: the inverse of ``patchify``.

    Raises:
        ShapeError: the patches do not make up an image of this size.
    """
    rows, columns = image_size[0] // patch_size, image_size[1] // patch_size
    expected = (rows * columns, 3 * patch_size**2)
    if patches.shape[1:] != expected or (rows * patch_size, columns * patch_size) != image_size:
        raise ShapeError(
            f"patches {tuple(patches.shape)} do not make up images of {image_size[0]}x{image_size[1]} pixels (height x "
            f"width) at patch size {patch_size}, which have {expected} each"
        )
    return rearrange(patches, "b (y x) (i j c) -> b c (y i) (x j)", y=rows, x=columns, i=patch_size, j=patch_size)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, T, 1) of the values of each patch; the variance is unbiased, plus 1e-6."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + VARIANCE_EPS).sqrt()


def draw_mask(
    batch: int,
    count: int,
    ratio: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Hide patches at random: in every sample exactly ``int(ratio * count)``, each choice as likely as any other.

    Args:
        batch: B.
        count: T, patches of one image.
        ratio: share to hide, 0 <= ratio < 1.
        generator: what to draw from, on its own device; None draws from the global one of ``device``.
        device: of the result.

    Returns:
        (B, T) bool, True where hidden.

    Raises:
        UsageError: the ratio leaves nothing to see.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"mask ratio {ratio} must be at least 0 and less than 1, so that some patch is seen")
    noise = torch.rand(batch, count, generator=generator, device=generator.device if generator else device)
    drawn = noise.to(device).argsort(dim=1)[:, : int(ratio * count)]
    return torch.zeros(batch, count, dtype=torch.bool, device=device).scatter_(1, drawn, True)


def visible_places(hidden: Tensor) -> Tensor:
    """(B, V) indices of the patches that are not hidden, ascending.

    Args:
        hidden: (B, T) bool.

    Raises:
        ShapeError: samples hide different numbers of patches, or one hides all.
    """
    counts = (~hidden).sum(dim=1).unique()
    if len(counts) != 1 or not counts.item():
        seen = ", ".join(str(count) for count in counts.tolist())
        raise ShapeError(
            f"samples of one batch show {seen} of {hidden.shape[1]} patches; all must show equally many, at least one"
        )
    return hidden.to(torch.uint8).argsort(dim=1, stable=True)[:, : int(counts.item())]


def take(values: Tensor, places: Tensor) -> Tensor:
    """(B, T, C) values at (B, V) indices: (B, V, C)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))
