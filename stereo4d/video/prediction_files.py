"""Pair predictions on disk: shards of safetensors, written as they come, mapped or read back as one.

Keys of a shard: ``edges`` (E, 2) int64, ``pointmap0`` ``pointmap1`` (E, H, W, 3), ``confidence0`` ``confidence1``
(E, H, W), and ``HEAD/NAME`` for what further heads add. ``frames.safetensors`` beside them holds ``rgb``, ``times`` and
where the frames came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.errors import SceneError
from stereo4d.storage import map_arrays, save_arrays
from stereo4d.types import PairPrediction
from stereo4d.video.inference import PredictedBatch
from stereo4d.video.pair_graph import Edge

FRAMES_FILE = "frames.safetensors"
SHARD_BYTES = 64 << 20
_MAIN = ("pointmap0", "confidence0", "pointmap1", "confidence1")
_HALF_LIMIT = float(torch.finfo(torch.float16).max)


class ShardWriter:
    """Collects batches and writes a shard whenever enough has come together."""

    def __init__(self, folder: Path, *, exact: bool = False, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._dtype = torch.float32 if exact else torch.float16
        self._shard_bytes = shard_bytes
        self._waiting: list[dict[str, Tensor]] = []
        self._number = len(shards(folder))

    def add(self, batch: PredictedBatch) -> None:
        """Take a batch; write a shard if it is time."""
        arrays = {name: self._narrow(value) for name, value in _flat(batch.prediction).items()}
        self._waiting.append({"edges": torch.tensor(batch.edges, dtype=torch.int64), **arrays})
        if sum(value.nbytes for arrays in self._waiting for value in arrays.values()) >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._waiting:
            return
        arrays = {name: torch.cat([batch[name] for batch in self._waiting]) for name in self._waiting[0]}
        save_arrays(self._folder / f"pairs-{self._number:05d}.safetensors", arrays)
        self._number += 1
        self._waiting = []

    def _narrow(self, value: Tensor) -> Tensor:
        if self._dtype == torch.float32:
            return value
        # Confidence grows exponentially and can pass the end of float16; "as sure as can be" is what it says then.
        return value.clamp(-_HALF_LIMIT, _HALF_LIMIT).half()


def shards(folder: Path) -> list[Path]:
    """The shards of a folder, in order."""
    return sorted(folder.glob("pairs-*.safetensors"))


def stored_edges(folder: Path) -> list[Edge]:
    """The pairs that a folder's shards hold, in order."""
    return [(int(i), int(j)) for shard in shards(folder) for i, j in map_arrays(shard)["edges"]]


def read_predictions(folder: Path) -> tuple[Tensor, PairPrediction]:
    """All predictions of a folder.

    Returns:
        (E, 2) int64 edges, and the predictions in the precision and order they were written in.

    Raises:
        SceneError: there are none, or a shard is damaged.
    """
    parts = [map_arrays(shard) for shard in shards(folder)]
    if not parts:
        raise SceneError(f"{folder}: no pair predictions (pairs-*.safetensors) here")
    names = parts[0].keys() - {"edges"}
    read = {name: _join([part[name] for part in parts]) for name in names}
    extras: dict[str, dict[str, Tensor]] = {}
    for name in sorted(names - set(_MAIN)):
        head, _, output = name.partition("/")
        extras.setdefault(head, {})[output] = read[name]
    edges = torch.cat([torch.tensor(part["edges"]) for part in parts])
    main = {name: read[name] for name in _MAIN}
    return edges, PairPrediction(**main, extras=extras)


def _join(parts: Sequence[np.ndarray]) -> Tensor:
    """One tensor of several mapped arrays, without having two copies of everything at any time."""
    whole = np.empty((sum(len(part) for part in parts), *parts[0].shape[1:]), parts[0].dtype)
    np.concatenate(parts, out=whole)
    return torch.from_numpy(whole)


def _flat(prediction: PairPrediction) -> dict[str, Tensor]:
    """A prediction as named arrays."""
    extras = {f"{head}/{name}": value for head, maps in prediction.extras.items() for name, value in maps.items()}
    return {name: getattr(prediction, name) for name in _MAIN} | extras
