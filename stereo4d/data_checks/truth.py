"""What training will see: pairs made as it makes them."""

from __future__ import annotations

import numpy as np
import torch

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.parts import Part, Shape
from stereo4d.data_checks.finding import Finding
from stereo4d.errors import Stereo4DError

_FINITE = ("image0", "image1", "pointmap0", "pointmap1", "intrinsics0", "intrinsics1", "relative", "motion0", "motion1")
_HARDLY = 0.005  # share of pixels with truth that is too little to learn from


def check_truth(
    part: Part, numbers: list[int], shape: Shape, label: str, rng: np.random.Generator, keep: int
) -> tuple[Finding, list[PairBatch]]:
    """Make pairs, and look for what must not be in them.

    Returns:
        The finding, and ``keep`` of the pairs, spread evenly.
    """
    wanted = {numbers[i] for i in np.linspace(0, len(numbers) - 1, keep).round().astype(int)} if numbers else set()
    kept: list[PairBatch] = []
    wrong: list[str] = []
    rows: list[dict[str, float]] = []
    for number in numbers:
        try:
            pair = part.pair(number, shape, rng, augmented=False)
        except Stereo4DError as error:
            wrong.append(str(error))
            continue
        wrong += [f"{pair.names[0]}: {name} is not finite" for name in _FINITE if not _finite(pair, name)]
        rows.append(_shares(pair))
        if number in wanted:
            kept.append(pair)
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        said = f"{len(wrong)} faults in {len(numbers)} pairs: {'; '.join(wrong[:3])}{more}"
        return Finding(label, "truth", "failed", said), kept
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    said = ", ".join(f"{name} {share:.1%}" for name, share in means.items())
    empty = sum(row["points"] < _HARDLY for row in rows)
    if empty:
        said = f"{empty} of {len(rows)} pairs have points at less than {_HARDLY:.1%} of their pixels; {said}"
    height, width = shape.size
    return Finding(label, "truth", "note" if empty else "ok", f"{said} of pixels, at {width}x{height}"), kept


def _finite(pair: PairBatch, name: str) -> bool:
    return bool(torch.isfinite(getattr(pair, name)).all())


def _shares(pair: PairBatch) -> dict[str, float]:
    """Shares of both views' pixels for which something is known."""
    shares = {
        "points": (pair.valid0, pair.valid1),
        "matches": (torch.isfinite(pair.match0).all(-1), torch.isfinite(pair.match1).all(-1)),
        "moving": (pair.moving0, pair.moving1),
        "sky": (pair.sky0, pair.sky1),
    }
    if pair.times.shape[1]:
        shares["motion"] = (pair.motion_valid0, pair.motion_valid1)
    return {name: float(sum(mask.float().mean() for mask in both) / 2) for name, both in shares.items()}
