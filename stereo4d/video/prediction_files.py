"""Pair predictions on disk: shards of safetensors, written as they come, mapped or read back as one.

Keys of a shard: ``edges`` (E, 2) int64, ``pointmap0`` ``pointmap1`` (E, H, W, 3), ``confidence0`` ``confidence1``
(E, H, W), and ``HEAD/NAME`` for what further heads add, which the file's metadata describe (``head_maps``).
``frames.safetensors`` beside them holds ``rgb``, ``times`` and where the frames came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
PREDICTED = ("pointmap0", "confidence0", "pointmap1", "confidence1")
_HALF_LIMIT = float(torch.finfo(torch.float16).max)


class ShardWriter:
    """Collects batches and writes a shard whenever enough has come together."""

    def __init__(self, folder: Path, *, exact: bool = False, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._dtype = torch.float32 if exact else torch.float16
        self._shard_bytes = shard_bytes
        self._waiting: list[dict[str, Tensor]] = []
        self._metadata: dict[str, str] = {}
        self._number = len(shards(folder))

    def add(self, batch: PredictedBatch) -> None:
        """Take a batch; write a shard if it is time."""
        arrays = {name: self._narrow(value) for name, value in _flat(batch.prediction).items()}
        self._metadata = batch.written.metadata()
        self._waiting.append({"edges": torch.tensor(batch.edges, dtype=torch.int64), **arrays})
        if sum(value.nbytes for arrays in self._waiting for value in arrays.values()) >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._waiting:
            return
        arrays = {name: torch.cat([batch[name] for batch in self._waiting]) for name in self._waiting[0]}
        save_arrays(self._folder / f"pairs-{self._number:05d}.safetensors", arrays, self._metadata)
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


def read_predictions(folder: Path, *, extras: bool = True) -> tuple[Tensor, PairPrediction]:
    """All predictions of a folder; see ``join_predictions``.

    Raises:
        SceneError: there are none, or a shard is damaged.
    """
    if not (paths := shards(folder)):
        raise SceneError(f"{folder}: no pair predictions (pairs-*.safetensors) here")
    return join_predictions(paths, extras=extras)


def join_predictions(
    paths: Sequence[Path], *, extras: bool = True, chosen: np.ndarray | None = None
) -> tuple[Tensor, PairPrediction]:
    """The predictions of some files of pairs: one file is mapped, several, or a part, are brought into memory.

    Args:
        paths: at least one; all hold the same arrays, of images of one size.
        extras: read what further heads added, too.
        chosen: (E,) bool, which pairs to read; None reads all.

    Returns:
        (E, 2) int64 edges, and the predictions in the precision and order they were written in.

    Raises:
        SceneError: a file is damaged.
    """
    further = sorted(name for name in map_arrays(paths[0]) if extras and "/" in name)
    names = ("edges", *PREDICTED, *further)
    arrays: Mapping[str, np.ndarray]
    mapped = len(paths) == 1 and chosen is None
    arrays = map_arrays(paths[0], private=True) if mapped else _joined(paths, names, chosen)
    # Files of others may hold arrays at any byte; kernels want them at multiples of their items.
    read = {name: torch.from_numpy(np.require(arrays[name], requirements="A")) for name in names}
    maps: dict[str, dict[str, Tensor]] = {}
    for name in further:
        head, _, output = name.partition("/")
        maps.setdefault(head, {})[output] = read[name]
    # A copy of the few bytes that outlive the predictions, so that the mapped file can go with them.
    return read["edges"].clone(), PairPrediction(**{name: read[name] for name in PREDICTED}, extras=maps)


def _joined(paths: Sequence[Path], names: Sequence[str], chosen: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays of several files, end to end; beside them no more than one array of one file is in memory at a time."""
    ends = np.cumsum([len(map_arrays(path)["edges"]) for path in paths])
    keep = np.ones(ends[-1], bool) if chosen is None else chosen
    first = map_arrays(paths[0])
    whole = {name: np.empty((keep.sum(), *first[name].shape[1:]), first[name].dtype) for name in names}
    start = 0
    for path, inside in zip(paths, np.split(keep, ends[:-1]), strict=True):
        part, count = map_arrays(path), int(inside.sum())
        for name in names:
            whole[name][start : start + count] = part[name] if inside.all() else part[name][inside]
        start += count
    return whole


def _flat(prediction: PairPrediction) -> dict[str, Tensor]:
    """A prediction as named arrays."""
    extras = {f"{head}/{name}": value for head, maps in prediction.extras.items() for name, value in maps.items()}
    return {name: getattr(prediction, name) for name in PREDICTED} | extras
