"""What depth maps and tracks hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stereo4d.data_checks.files import Opened
from stereo4d.data_checks.finding import Finding

_HARDLY = 0.01  # share of measured pixels, or of a scene's tracks, that is too little to be meant
_SKY_LIKE = 1e4  # farther than this, in medians, is rather a mark of the sky than a measurement


def check_depth(opened: Opened, label: str) -> Iterator[Finding]:
    """How much is measured, and how far it reaches; nothing to say of a data set without depth."""
    maps = [frame.depth for _, *both in opened.pairs for frame in both if frame.depth is not None]
    if not maps:
        return
    values = np.concatenate([depth.reshape(-1)[:: max(1, depth.size // 50_000)] for depth in maps])
    strange = int(np.isinf(values).sum())
    measured = values[np.isfinite(values) & (values > 0)]
    share = len(measured) / len(values)
    if not len(measured):
        yield Finding(label, "depth", "failed", f"nothing is measured in {len(maps)} maps; depth is a number above 0")
        return
    low, middle, high = np.quantile(measured, [0.0, 0.5, 1.0])
    said = f"{share:.0%} of pixels measured, {low:.3g} to {high:.3g}, median {middle:.3g}"
    nan = np.isnan(values).mean()
    notes = []
    if nan:
        notes.append(f"{nan:.1%} NaN count as not measured")
    if strange:
        notes.append(f"{strange / len(values):.1%} infinite count as not measured")
    if share < _HARDLY:
        notes.append("that is hardly anything; are these the depth maps?")
    if high > _SKY_LIKE * middle:
        notes.append(f"{high:.3g} is no distance; is it the sky? truth.farthest leaves it out")
    strict = share < _HARDLY or high > _SKY_LIKE * middle
    yield Finding(label, "depth", "note" if strict else "ok", "; ".join([said, *notes]))


def check_tracks(opened: Opened, label: str) -> Iterator[Finding]:
    """How many tracks two frames share, and how many of them move; nothing to say of a data set without tracks."""
    shared, moving, counts = [], [], set()
    for pair, *_ in opened.pairs:
        both = [opened.frames.tracks(pair.scene, index) for index in (pair.first, pair.second)]
        if both[0] is None or both[1] is None:
            continue
        if both[0].shape != both[1].shape:
            said = f"scene {pair.scene}: {len(both[0])} tracks at frame {pair.first}, {len(both[1])} at {pair.second}"
            yield Finding(label, "tracks", "failed", f"{said}; row n must be the same point at every frame")
            return
        distance = np.linalg.norm(both[1] - both[0], axis=1)
        known = np.isfinite(distance)
        counts.add(len(known))
        shared.append(known.mean() if len(known) else 0.0)
        moving.append((distance[known] > 0.05).mean() if known.any() else 0.0)
    if not counts:
        return
    said = (
        f"{min(counts)} to {max(counts)} a scene, {np.mean(shared):.0%} of them known at both frames of a pair, "
        f"{np.mean(moving):.0%} of these move more than 0.05"
    )
    few = float(np.mean(shared)) < _HARDLY
    yield Finding(label, "tracks", "failed" if few else "ok", said + ("; pairs are too far apart" if few else ""))
