"""Pair predictions from files, this program's or anybody's: found, checked, and given the frames they belong to.

Arrays of a file: ``edges`` (E, 2) int64, ``pointmap0`` ``pointmap1`` (E, H, W, 3) and ``confidence0`` ``confidence1``
(E, H, W) in any floating dtype, each pair in view 0's camera. In the same file, or in ``frames.safetensors`` beside it,
there may be what a ``Clip`` holds: ``rgb`` (N, H, W, 3) uint8, ``times`` (N,) float64, and ``frame_indices``
``original_sizes`` ``pixel_maps``. Without them frames are grey, one second apart, and as large as their predictions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d.errors import GraphError, InputError
from stereo4d.scene_files import MANIFEST_FILE, SCENE_FILE
from stereo4d.storage import map_arrays
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import pair_graph
from stereo4d.video.prediction_files import FRAMES_FILE, join_predictions
from stereo4d.video.workspace import PAIRS_FOLDER

log = logging.getLogger(__name__)

_PAIR_SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "edges": ("i8", ("E", 2)),
    "pointmap0": ("f", ("E", "H", "W", 3)),
    "pointmap1": ("f", ("E", "H", "W", 3)),
    "confidence0": ("f", ("E", "H", "W")),
    "confidence1": ("f", ("E", "H", "W")),
}
_FRAME_SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "rgb": ("u1", ("N", "H", "W", 3)),
    "times": ("f8", ("N",)),
    "frame_indices": ("i8", ("N",)),
    "original_sizes": ("i8", ("N", 2)),
    "pixel_maps": ("f8", ("N", 4)),
}
_FRAME_RULES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "times": (lambda t: np.isfinite(t).all() and (np.diff(t) > 0).all(), "finite and rise from frame to frame"),
    "frame_indices": (lambda i: (i >= 0).all() and (np.diff(i) > 0).all(), "0 or above and rise from frame to frame"),
    "original_sizes": (lambda s: (s > 0).all(), "above 0"),
    "pixel_maps": (lambda m: np.isfinite(m).all() and (m[:, :2] > 0).all(), "finite, with scales above 0"),
}
_GREY = 128


@dataclass(frozen=True)
class StoredPairs:
    """Pair predictions in files, checked but not read."""

    label: str
    """What the user wrote; errors name it."""
    paths: tuple[Path, ...]
    edges: Tensor
    """(E, 2) int64."""
    clip: Clip
    """The N frames that the pairs are of."""
    origin: Mapping[str, Any] | None
    """The manifest of the scene folder that the files lie in, if they do."""

    def read(self, graph: str | None = None) -> tuple[Tensor, PairPrediction]:
        """The pairs and what was predicted for them; one file is mapped, several are joined in memory.

        Args:
            graph: take only pairs that are in this graph; see ``pair_graph``.

        Raises:
            GraphError: the graph cannot be, or none of its pairs is stored.
        """
        return join_predictions(self.paths, extras=False, chosen=self.chosen(graph))

    def chosen(self, graph: str | None) -> np.ndarray | None:
        """(E,) bool: which pairs are in a graph; None where all of them are."""
        chosen = None if graph is None else self._are_in(graph)
        return None if chosen is None or chosen.all() else chosen

    def _are_in(self, graph: str) -> np.ndarray:
        wanted, stored = set(pair_graph(graph, len(self.clip))), [(i, j) for i, j in self.edges.tolist()]
        chosen = np.array([edge in wanted for edge in stored])
        if not chosen.any():
            raise GraphError(f"{self.label}: holds none of the {len(wanted)} pairs of {graph!r}; leave out --graph")
        if missing := len(wanted - set(stored)):
            log.warning("%s: %d of the %d pairs of %s are not stored", self.label, missing, len(wanted), graph)
        return chosen


def open_pairs(entries: Sequence[str]) -> StoredPairs:
    """Find pair predictions and check all that can be checked without reading them.

    Args:
        entries: a scene folder, its ``pairs`` folder, another folder of .safetensors files, or such files.

    Raises:
        InputError: nothing there, or not pair predictions of one clip.
        SceneError: a file is no safetensors file, or damaged.
    """
    paths = tuple(path for entry in entries for path in _files_of(Path(entry)))
    label = entries[0] if len(entries) == 1 else f"{entries[0]} and {len(entries) - 1} more"
    sizes: dict[str, int] = {}
    for path in paths:
        _check(path, map_arrays(path), _PAIR_SHAPES, sizes)
        del sizes["E"]  # every file has its own
    edges = np.concatenate([map_arrays(path)["edges"] for path in paths])
    if not len(edges):
        raise InputError(f"{label}: holds no pairs (edges is empty)")
    if not sizes["H"] * sizes["W"]:
        raise InputError(f"{label}: its pairs are of images of {sizes['H']} x {sizes['W']} pixels, which show nothing")
    clip = _clip(_frame_arrays(paths, label), edges, sizes, label)
    return StoredPairs(label, paths, torch.from_numpy(edges), clip, _origin(paths[0]))


def _files_of(path: Path) -> list[Path]:
    """The files of pairs that a PAIRS means."""
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        return [path]
    folder = path / PAIRS_FOLDER if (path / PAIRS_FOLDER).is_dir() else path
    found = sorted(file for file in folder.glob("*.safetensors") if file.name not in (FRAMES_FILE, SCENE_FILE))
    if not found:
        raise InputError(f"{folder}: no pair predictions (.safetensors) in this folder")
    return found


def _check(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[str, tuple[str | int, ...]]],
    sizes: dict[str, int],
) -> None:
    """Make sure that a file's arrays have the dtypes and shapes they should; letters get their sizes on the way."""
    for name, (dtype, letters) in expected.items():
        if name not in arrays:
            raise InputError(f"{path}: lacks {name}; pair predictions are {', '.join(expected)}")
        array, told = arrays[name], dict(sizes)
        right = array.dtype.kind == "f" if dtype == "f" else array.dtype == np.dtype(dtype)
        fits = len(array.shape) == len(letters) and all(
            size == (letter if isinstance(letter, int) else sizes.setdefault(letter, size))
            for letter, size in zip(letters, array.shape, strict=True)
        )
        if not right or not fits:
            kind = "floating" if dtype == "f" else str(np.dtype(dtype))
            wanted = " x ".join(str(told.get(str(letter), letter)) for letter in letters)
            shape = " x ".join(map(str, array.shape))
            raise InputError(f"{path}: {name} is {array.dtype} {shape}, must be {kind} {wanted}")


def _frame_arrays(paths: Sequence[Path], label: str) -> dict[str, tuple[Path, np.ndarray]]:
    """What is told about the frames, and by which file: one of the pairs' own, or that beside them."""
    beside = sorted({path.parent / FRAMES_FILE for path in paths if (path.parent / FRAMES_FILE).is_file()})
    found: dict[str, tuple[Path, np.ndarray]] = {}
    for files in (paths, beside):  # what lies in the pairs' own files comes first
        told: dict[str, tuple[Path, np.ndarray]] = {}
        for path in files:
            for name, array in map_arrays(path).items():
                if name in told and name in _FRAME_SHAPES:
                    raise InputError(f"{label}: {name} is in {told[name][0]} and in {path}; give the pairs of one clip")
                told[name] = (path, array)
        found = {name: entry for name, entry in told.items() if name in _FRAME_SHAPES} | found
    return found


def _clip(told: Mapping[str, tuple[Path, np.ndarray]], edges: np.ndarray, sizes: dict[str, int], label: str) -> Clip:
    """The frames, with what nobody tells filled in.

    Args:
        told: arrays of ``_FRAME_SHAPES``, and the file of each.
        edges: (E, 2).
        sizes: H and W.
        label: for errors.
    """
    for name in (name for name in _FRAME_SHAPES if name in told):
        path, array = told[name]
        _check(path, {name: array}, {name: _FRAME_SHAPES[name]}, sizes)
    count = sizes.get("N", int(edges.max()) + 1)
    if edges.min() < 0 or edges.max() >= count:
        raise InputError(f"{label}: edges name frames {edges.min()} to {edges.max()}, but there are 0 to {count - 1}")
    paired = np.unique(edges)
    if len(paired) < count:  # before anything of N frames is made: a stray number may be huge
        first = int(np.append(paired != np.arange(len(paired)), True).argmax())
        raise InputError(f"{label}: {count - len(paired)} of {count} frames are in no pair, the first is frame {first}")
    for name, (good, rule) in _FRAME_RULES.items():
        if name in told and not good(told[name][1]):
            raise InputError(f"{told[name][0]}: {name} must be {rule}")
    if "times" not in told:
        log.warning("%s: no times are stored; frames are taken to be one second apart", label)
    height, width = sizes["H"], sizes["W"]
    arrays: dict[str, Any] = {
        # A view of one pixel: as large as it needs to look.
        "rgb": np.broadcast_to(np.uint8(_GREY), (count, height, width, 3)),
        "times": np.arange(count, dtype=np.float64),
        "frame_indices": np.arange(count),
        "original_sizes": np.tile([height, width], (count, 1)),
        "pixel_maps": np.tile([1.0, 1.0, 0.0, 0.0], (count, 1)),
    }
    arrays |= {name: array for name, (_, array) in told.items()}
    return Clip(**arrays)


def _origin(path: Path) -> dict[str, Any] | None:
    """The manifest of the scene that a file of pairs was made for."""
    if path.parent.name != PAIRS_FOLDER:
        return None
    try:
        manifest = json.loads((path.parent.parent / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None
