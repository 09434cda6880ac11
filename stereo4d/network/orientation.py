"""Heads on batches that mix landscape and portrait images, which are stored landscape (DUSt3R, training)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stereo4d.errors import ShapeError
from stereo4d.network.encoder import Encoded

RunHead = Callable[[Sequence[Tensor], tuple[int, int], Tensor], dict[str, Tensor]]
"""(token list of some images, their upright size, their places in the batch) to maps by name."""


def run_upright(
    run: RunHead, tokens: Sequence[Tensor], view: Encoded, *, landscape_only: bool, image_axis: int = 1
) -> dict[str, Tensor]:
    """Run a head on every image as it stands, and lay the maps of portrait images down again where that is asked for.

    Args:
        run: the head.
        tokens: entries (B, T, C).
        view: what they come from.
        landscape_only: outputs are stored landscape, whatever the image.
        image_axis: of H in the maps; W follows.

    Raises:
        ShapeError: orientations are mixed where they may not be.
    """
    height, width = view.image_size
    portrait = view.portrait
    everything = torch.arange(len(view), device=view.tokens.device)
    if portrait is None or not portrait.any():
        return run(tokens, (height, width), everything)
    if not landscape_only:
        if not portrait.all():
            raise ShapeError("a batch mixes portrait and landscape images: set landscape_only, or split it")
        return run(tokens, (width, height), everything)

    def laid_down(places: Tensor) -> dict[str, Tensor]:
        maps = run([entry[places] for entry in tokens], (width, height), places)
        return {name: value.transpose(image_axis, image_axis + 1) for name, value in maps.items()}

    if portrait.all():
        return laid_down(everything)
    lying = run([entry[~portrait] for entry in tokens], (height, width), everything[~portrait])
    turned = laid_down(everything[portrait])
    return {name: _merge(lying[name], turned[name], portrait) for name in lying}


def _merge(lying: Tensor, turned: Tensor, portrait: Tensor) -> Tensor:
    merged = lying.new_empty(len(portrait), *lying.shape[1:])
    merged[~portrait] = lying
    merged[portrait] = turned
    return merged
