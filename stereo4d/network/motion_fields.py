"""From what heads wrote of pairs to fields that answer where points are at other times."""

from __future__ import annotations

from torch import Tensor

from stereo4d.motion import MotionField
from stereo4d.network.head import TimedHead
from stereo4d.network.stereo import StereoNetwork
from stereo4d.types import PairPrediction


def motion_fields(
    network: StereoNetwork, prediction: PairPrediction, times: Tensor | None
) -> dict[str, tuple[MotionField, MotionField]]:
    """How the points of both views move, by every head beside the main one that says so.

    Args:
        network: what predicted.
        prediction: of B pairs; its maps may have been moved to another device since.
        times: (B, Q) query times that it was asked for; None where there were none.

    Returns:
        By the head's name in the network's config the field of view 0 and that of view 1, both in view 0's camera.
    """
    found = {}
    for name, heads in network.heads_asked(times).items():
        fields = []
        for view, (head, points) in enumerate(zip(heads, (prediction.pointmap0, prediction.pointmap1), strict=True)):
            maps = {output.name: prediction.extras[name][f"{output.name}{view}"] for output in head.outputs}
            asked = times.to(points) if times is not None and isinstance(head, TimedHead) else None
            fields.append(head.motion_field(maps, points, float(view), asked))
        if fields[0] is not None and fields[1] is not None:
            found[name] = (fields[0], fields[1])
    return found
