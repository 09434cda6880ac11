"""Portrait images stored transposed, so that all images of a batch are landscape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from stereo4d.data.pair_batch import PairBatch

_MAPS = ("pointmap", "valid", "moving", "sky", "match")
_MAPS_AT_TIMES = ("motion", "motion_valid")


def laid_down(batch: PairBatch, view: int) -> PairBatch:
    """The same pairs with all images of one view transposed: what stood in row v, column u, is in row u, column v.

    Points stay as they are. The first two rows of the view's intrinsics change places, and so do the coordinates of
    what matches in it.

    Args:
        batch: pairs whose images of that view stand upright.
        view: 0 or 1.
    """
    changed: dict[str, Any] = {
        f"image{view}": getattr(batch, f"image{view}").transpose(2, 3).contiguous(),
        f"intrinsics{view}": getattr(batch, f"intrinsics{view}")[:, [1, 0, 2]],
        f"portrait{view}": ~getattr(batch, f"portrait{view}"),
    }
    for name in _MAPS:
        changed[f"{name}{view}"] = getattr(batch, f"{name}{view}").transpose(1, 2).contiguous()
    for name in _MAPS_AT_TIMES:
        changed[f"{name}{view}"] = getattr(batch, f"{name}{view}").transpose(2, 3).contiguous()
    other = f"match{1 - view}"
    changed[other] = torch.flip(getattr(batch, other), [-1])
    return replace(batch, **changed)
