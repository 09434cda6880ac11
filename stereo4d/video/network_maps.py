"""What the heads of a network write beside points and confidence, and motion from whatever head says it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stereo4d.network.config import StereoConfig
from stereo4d.network.head import AnyHead, TimedHead, load_head
from stereo4d.network.motion_fields import motion_fields
from stereo4d.network.stereo import StereoNetwork
from stereo4d.types import PairPrediction
from stereo4d.video.head_maps import MOTION, HeadMaps, WrittenMaps

log = logging.getLogger(__name__)


def takes_times(config: StereoConfig) -> bool:
    """Whether a network of this config can be asked for query times: heads take them, or know motion at any time."""
    kinds = [load_head(choice.head_type) for choice in config.heads.values()]
    return any(issubclass(kind, TimedHead) or knows_motion(kind) for kind in kinds)


def knows_motion(kind: type[AnyHead]) -> bool:
    """Whether heads of this class say how points move."""
    return kind.motion_field is not AnyHead.motion_field


def maps_written(network: StereoNetwork, query_times: Sequence[float]) -> WrittenMaps:
    """What a network adds to each pair when it is asked for these times.

    Args:
        network: on any device, also without storage.
        query_times: (Q,); none leaves out heads that take times.
    """
    main = network.downstream_head1
    further = tuple(output for output in main.outputs if output.name not in ("pointmap", "confidence"))
    heads = {main.extras_name: HeadMaps(further)} if further else {}
    times = torch.tensor([list(query_times)]) if query_times and network.takes_times else None
    for name, (head, _) in network.heads_asked(times).items():
        heads[name] = HeadMaps(tuple(head.outputs), isinstance(head, TimedHead))
    return WrittenMaps(heads, tuple(query_times))


def predict_with_motion(
    network: StereoNetwork, predict: Callable[[Tensor | None], PairPrediction], times: Tensor | None
) -> PairPrediction:
    """A prediction with displacements and confidences under ``MOTION`` in place of what the motion head wrote.

    Heads say motion as displacements, positions or curves; from here on it is displacements.

    Args:
        network: what predicts.
        predict: makes it predict E pairs, at the times that it is given, if any.
        times: (E, Q), None where no motion is asked for.

    Raises:
        UsageError: a head does not know motion at one of the times.
    """
    asked = times if network.takes_times else None
    prediction = predict(asked)
    if times is None or not (fields := motion_fields(network, prediction, asked)):
        return prediction
    chosen, *left_out = fields
    if left_out:
        log.warning("several heads say how points move; %s is taken, %s left out", chosen, ", ".join(left_out))
    motion = {}
    for view, field in enumerate(fields[chosen]):
        motion[f"displacement{view}"] = field.displacement(times)
        motion[f"confidence{view}"] = field.confidence(times)
    others = {name: maps for name, maps in prediction.extras.items() if name not in fields}
    return replace(prediction, extras={**others, MOTION: motion})
