"""Some pairs out of many in files, read without the rest: memory is set by what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.errors import SceneError
from stereo4d.storage import map_arrays
from stereo4d.types import PairPrediction
from stereo4d.video.prediction_files import PREDICTED, join_predictions


class PairReader:
    """The pairs of a clip where they lie in files, one after the other."""

    def __init__(self, paths: Sequence[Path], chosen: np.ndarray | None = None) -> None:
        """Note where every pair lies; no prediction is read.

        Args:
            paths: files of pairs, as ``prediction_files`` writes them; all hold the same arrays.
            chosen: (E,) bool, which pairs there are; None takes all.

        Raises:
            SceneError: there is no pair.
        """
        self._paths, self._chosen = list(paths), chosen
        counts = [map_arrays(path)["edges"] for path in self._paths]
        edges = np.concatenate([np.array(table) for table in counts]) if counts else np.zeros((0, 2), np.int64)
        places = [(file, row) for file, table in enumerate(counts) for row in range(len(table))]
        keep = np.ones(len(edges), bool) if chosen is None else chosen
        self.edges = edges[keep]
        """(E, 2) int64."""
        self._places = np.array(places, np.int64).reshape(-1, 2)[keep]
        if not len(self.edges):
            raise SceneError("there are no pair predictions here; predict the pairs first")

    def read(self, rows: Sequence[int] | np.ndarray, *, stride: int = 1) -> tuple[Tensor, PairPrediction]:
        """Bring some pairs into memory.

        Args:
            rows: (K,) which pairs.
            stride: take the middle pixel of every square of this side.

        Returns:
            (K, 2) int64 edges and K predictions in the precision that they are stored in, in the order of ``rows``.
        """
        rows = np.asarray(rows, np.int64)
        region = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
        found: dict[str, np.ndarray] = {}
        for file in np.unique(self._places[rows, 0]):
            here = np.flatnonzero(self._places[rows, 0] == file)
            arrays = map_arrays(self._paths[file])
            for name in PREDICTED:
                part = arrays[name][:, *region[1:]]
                if name not in found:
                    found[name] = np.empty((len(rows), *part.shape[1:]), part.dtype)
                found[name][here] = part[self._places[rows[here], 1]]
        points0, sure0, points1, sure1 = (torch.from_numpy(found[name]) for name in PREDICTED)
        told = PairPrediction(points0, sure0, points1, sure1)
        return torch.from_numpy(self.edges[rows].astype(np.int64)), told

    def read_all(self) -> tuple[Tensor, PairPrediction]:
        """All pairs, as ``read`` gives some; those of a single file stay mapped where none is left out."""
        return join_predictions(self._paths, extras=False, chosen=self._chosen)

    def inside(self, start: int, stop: int) -> np.ndarray:
        """(K,) rows of the pairs whose frames both lie in ``start`` ... ``stop - 1``."""
        return np.flatnonzero(((self.edges >= start) & (self.edges < stop)).all(1))
