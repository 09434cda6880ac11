"""What predictors say beside points and confidence: which maps, of which heads, at which times.

It is told once (``ClipPredictor.written``), travels in the metadata of the files of pairs, and decides what a scene
keeps of the maps and what viewers show of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.errors import SceneError, UsageError
from stereo4d.network.head import Output
from stereo4d.storage import read_metadata
from stereo4d.types import PairPrediction

MOTION = "motion"
"""The name in ``PairPrediction.extras`` of how points move, whatever head said it: ``displacement0`` ``displacement1``
(E, Q, H, W, 3) from the pixel's own time to the query times, along view 0's axes and in the pair's unit, and
``confidence0`` ``confidence1`` (E, Q, H, W), at least 1."""
MOTION_MAPS: dict[str, tuple[int, ...]] = {"displacement": (3,), "confidence": ()}
"""The maps of ``MOTION`` of each view, and their shapes beyond (E, Q, H, W)."""
QUERY_TIMES = (0.5, 1.0)
"""Asked for unless the user says otherwise: the other frame, where tracks go on, and half of the way, so that between
frames a path may bend (two points make a straight line); each further time costs about an eighth of a pair."""
METADATA = "heads"


@dataclass(frozen=True)
class HeadMaps:
    """The maps that one head writes, each for both views: ``normal0`` and ``normal1``."""

    outputs: tuple[Output, ...]
    timed: bool = False
    """Maps are at the query times: (E, Q, H, W, ...)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"timed": self.timed, "outputs": [asdict(output) for output in self.outputs]}


@dataclass(frozen=True)
class WrittenMaps:
    """What a predictor writes into ``PairPrediction.extras``."""

    heads: Mapping[str, HeadMaps] = field(default_factory=dict)
    """By name. What is not declared here is stored and not shown, but for ``motion`` and ``dynamics``."""
    query_times: tuple[float, ...] = ()
    """(Q,) of all pairs and timed maps: 0 is the time of view 0, 1 that of view 1."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values: ``query_times``, and ``heads`` by name."""
        heads = {name: head.as_dict() for name, head in self.heads.items()}
        return {"query_times": list(self.query_times), "heads": heads}

    def shapes(
        self, head: str, name: str, pairs: int, size: Sequence[int], found: tuple[int, ...]
    ) -> list[tuple[int, ...]]:
        """The shapes that a map may have.

        Args:
            head: its head's name.
            name: its own, with the view's number at the end.
            pairs: E.
            size: (H, W).
            found: the shape it has; of maps that nobody declared, what follows the pixels is free.
        """
        plain, timed = (pairs, *size), (pairs, len(self.query_times), *size)
        if head == MOTION and name[:-1] in MOTION_MAPS:
            return [(*timed, *MOTION_MAPS[name[:-1]])]
        declared = self.heads.get(head, HeadMaps(()))
        for output in declared.outputs:
            if name[:-1] == output.name:
                return [(*(timed if declared.timed else plain), *output.shape)]
        return [(*plain, *found[3:]), *([(*timed, *found[4:])] if self.query_times else [])]

    def metadata(self) -> dict[str, str]:
        """The same for a file of pairs; nothing where there is nothing to tell."""
        return {METADATA: json.dumps(self.as_dict())} if self.heads or self.query_times else {}


def maps_written_in(path: Path) -> WrittenMaps:
    """What a file of pairs says of the maps in it.

    Raises:
        SceneError: its metadata are not those that ``WrittenMaps.metadata`` makes.
    """
    text = read_metadata(path).get(METADATA)
    if text is None:
        return WrittenMaps()
    try:
        told = json.loads(text)
        heads = {
            str(name): HeadMaps(tuple(_output(output) for output in head["outputs"]), bool(head["timed"]))
            for name, head in told["heads"].items()
        }
        return WrittenMaps(heads, tuple(float(time) for time in told["query_times"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SceneError(
            f"{path}: its metadata {METADATA!r} does not say what the heads wrote ({type(error).__name__}: {error}); "
            "remove it, or predict the pairs again"
        ) from error


def asked_of_pair(times: Sequence[float] | None) -> dict[str, Any]:
    """The argument of ``Predictor.predict_images`` for times, if there are any; other predictors need not know of it.

    Raises:
        UsageError: a time is outside the pair.
    """
    if wrong := [time for time in times or () if not 0 <= time <= 1]:
        raise UsageError(f"--time {wrong[0]:g}: must be from 0, the time of the first image, to 1, that of the second")
    return {"query_times": tuple(times)} if times else {}


def motion_of_pair(prediction: PairPrediction, times: Sequence[float]) -> dict[str, np.ndarray]:
    """What one pair says of motion, by the names of files of ``stereo4d pair``.

    Args:
        prediction: of one pair, at these times.
        times: (T,).

    Raises:
        UsageError: it says nothing of motion.
    """
    if MOTION not in prediction.extras:
        raise UsageError("--time: these weights have no head that says how points move; leave the option out")
    motion, arrays = prediction.extras[MOTION], {"times": np.array(times, np.float64)}
    for view in (0, 1):
        arrays[f"motion{view}"] = motion[f"displacement{view}"][0].numpy()
        arrays[f"motion_confidence{view}"] = motion[f"confidence{view}"][0].numpy()
    return arrays


def _output(told: Mapping[str, Any]) -> Output:
    words = {name: str(told[name]) for name in ("name", "frame", "activation", "shown_as")}
    return Output(shape=tuple(int(side) for side in told["shape"]), **words)  # type: ignore[arg-type]


def query_times_of(asked: Sequence[float] | None) -> tuple[float, ...]:
    """The times to ask for in a clip, rising: the user's and 1, the other frame, from which motion goes on.

    Args:
        asked: the user's; None for the usual ones, nothing for no motion.

    Raises:
        UsageError: a time does not lie above 0 and up to 1.
    """
    if asked is None:
        return QUERY_TIMES
    if wrong := [time for time in asked if not 0 < time <= 1]:
        raise UsageError(
            f"--query-times {wrong[0]:g}: each must be above 0, which is the frame itself, and at most 1, which is the "
            "other frame of the pair"
        )
    return tuple(sorted({*asked, 1.0})) if asked else ()
