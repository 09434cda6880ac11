"""What a scene keeps of what heads said of its pairs: motion towards neighbouring frames, and maps of every frame.

Pairs are read one at a time. Every pair has a unit of its own; the depth of its first frame, which the scene knows too,
tells how long that unit is in the scene.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stereo4d.errors import SceneError
from stereo4d.network.head import Output
from stereo4d.storage import map_arrays
from stereo4d.types import MotionSamples, Scene
from stereo4d.video.head_maps import MOTION, WrittenMaps, maps_written_in

UNIT_LENGTH = "unit length"
"""The ``Output.activation`` of directions: their means are brought to this length again."""
_HALF = float(np.finfo(np.float16).max)
_SAME_TIME = 1e-6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredPair:
    """One pair in a file of pairs; nothing is read before it is asked for."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    row: int
    frames: tuple[int, int]
    """Positions of view 0 and view 1 in the clip."""

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One array of this pair, float32.

        Raises:
            SceneError: it has another shape than expected.
        """
        array = self.arrays[name]
        if array.shape[1:] != shape or array.dtype.kind != "f":
            raise SceneError(f"{self.path}: {name} is {array.dtype} {array.shape}, must be floating (E, *{shape})")
        return np.asarray(array[self.row], np.float32)


def with_maps(scene: Scene, pairs: Sequence[Path]) -> Scene:
    """The scene with all that the heads of its pairs say of its frames, and a manifest that tells of it.

    Args:
        scene: aligned.
        pairs: the files of its pairs.

    Raises:
        SceneError: a file's arrays do not fit the scene, or what it says of them.
    """
    written = {path: maps_written_in(path) for path in pairs}
    maps, told = _maps(scene, written)
    manifest = {**scene.manifest, "maps": told, "heads": written[pairs[0]].as_dict() if pairs else {}}
    return replace(scene, motion_samples=motion_samples(scene, written), maps=maps, manifest=manifest)


def motion_samples(scene: Scene, written: Mapping[Path, WrittenMaps]) -> MotionSamples | None:
    """How points of each frame move on the way to the frames before and after it, in the world.

    Args:
        scene: aligned; what it says moves is left out when units are compared.
        written: the files of its pairs, and what they say of the maps in them.

    Returns:
        Those of neighbouring frames that are paired; None where no pair says how points move.

    Raises:
        SceneError: displacements do not fit the scene, or come without their times, or with several sets of them.
    """
    towards = {
        pair.frames: pair
        for pair in _stored(written)
        if abs(pair.frames[0] - pair.frames[1]) == 1 and f"{MOTION}/displacement0" in pair.arrays
    }
    if not towards:
        return None
    asked = {written[pair.path].query_times for pair in towards.values()}
    if len(asked) > 1 or () in asked:
        said = "with several sets of query times" if len(asked) > 1 else "without query times in their metadata"
        raise SceneError(
            f"{next(iter(towards.values())).path}: pairs hold {MOTION} {said}; predict them again together"
        )
    times = np.array(asked.pop(), np.float64)
    order = np.argsort(times)[np.sort(times) > _SAME_TIME]  # 0 is the frame itself
    if not len(order) or abs(times[order[-1]] - 1) > _SAME_TIME:
        log.warning("pairs say how points move at %s, not at 1, the other frame: the scene keeps no motion", times)
        return None
    size, queries = scene.depth.shape[1:], len(times)
    edges, displacements, confidences = [], [], []
    for frames, pair in sorted(towards.items()):
        if (scale := scale_in_scene(scene, pair)) is None:
            continue
        moved = pair.read(f"{MOTION}/displacement0", (queries, *size, 3))[order]
        sure = pair.read(f"{MOTION}/confidence0", (queries, *size))[order]
        rotation = scene.cam2world[frames[0], :3, :3].astype(np.float32)
        edges.append(frames)
        displacements.append((scale * moved @ rotation.T).clip(-_HALF, _HALF).astype(np.float16))
        confidences.append(sure.clip(1, _HALF).astype(np.float16))
    if not edges:
        return None
    return MotionSamples(np.array(edges, np.int64), times[order], np.stack(displacements), np.stack(confidences))


def scale_in_scene(scene: Scene, pair: StoredPair) -> float | None:
    """How long the unit of a pair is in the scene: the median of what the still pixels of its first frame say.

    Returns:
        None where no pixel says anything.
    """
    frame, size = pair.frames[0], scene.depth.shape[1:]
    depth, own = np.asarray(scene.depth[frame], np.float32), pair.read("pointmap0", (*size, 3))[..., 2]
    usable = (depth > 0) & (own > 0) & np.isfinite(depth) & np.isfinite(own)
    still = usable & (np.asarray(scene.dynamic[frame]) == 0)
    chosen = still if still.any() else usable
    if not chosen.any():
        return None
    # The median of pixels weighed by confidence: a head's worst pixels are off by far.
    ratios, weights = depth[chosen] / own[chosen], pair.read("confidence0", size)[chosen]
    order = np.argsort(ratios, kind="stable")
    along = np.cumsum(weights[order], dtype=np.float64)
    return float(ratios[order][np.searchsorted(along, along[-1] / 2)])


def _maps(scene: Scene, written: Mapping[Path, WrittenMaps]) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Maps of all frames by ``HEAD.OUTPUT``, and what they are."""
    by_frame: dict[int, list[StoredPair]] = {}
    for pair in _stored(written):
        by_frame.setdefault(pair.frames[0], []).append(pair)
    maps, told = {}, {}
    for head, output in _shown(written):
        values = np.full((*scene.depth.shape, *output.shape), np.nan, np.float16)
        for frame, pairs in by_frame.items():
            holding = [pair for pair in pairs if f"{head}/{output.name}0" in pair.arrays]
            if holding:
                values[frame] = _mean(scene, f"{head}/{output.name}0", output, holding)
        name = f"{head}.{output.name}"
        maps[name] = values
        # Axes of view 0 are those of the frame's own camera, as only pairs count in which the frame is view 0.
        frame_of = "own" if output.frame else ""
        told[name] = {"frame": frame_of, "activation": output.activation, "shown_as": output.shown_as}
    return maps, told


def _shown(written: Mapping[Path, WrittenMaps]) -> list[tuple[str, Output]]:
    """The maps that a scene keeps: those that can be seen; descriptors, say, are for pairs."""
    found = {
        (head, output.name): (head, output)
        for maps in written.values()
        for head, said in maps.heads.items()
        for output in said.outputs
        if not said.timed and output.shown_as != "nothing"
    }
    return list(found.values())


def _mean(scene: Scene, name: str, output: Output, pairs: Sequence[StoredPair]) -> np.ndarray:
    """(H, W, ...) float16: what some pairs say of their first frame, weighed by the confidence of its points."""
    size = scene.depth.shape[1:]
    directions = output.activation == UNIT_LENGTH
    total, weight = np.zeros((*size, *output.shape), np.float32), np.zeros(size, np.float32)
    for pair in pairs:
        # Points and vectors have lengths, in the pair's unit.
        scale = scale_in_scene(scene, pair) if output.frame and not directions else 1.0
        if scale is None:
            continue
        sure = pair.read("confidence0", size)
        total += _beside(sure, total) * scale * pair.read(name, (*size, *output.shape))
        weight += sure
    if directions:
        length = np.linalg.norm(total, axis=-1, keepdims=True)
        mean = np.divide(total, length, out=np.full_like(total, np.nan), where=length > 0)
    else:
        along = np.broadcast_to(_beside(weight, total), total.shape)
        mean = np.divide(total, along, out=np.full_like(total, np.nan), where=along > 0)
    return mean.clip(-_HALF, _HALF).astype(np.float16)


def _beside(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights (H, W) in a shape that multiplies values (H, W, ...)."""
    return weights.reshape(*weights.shape, *[1] * (values.ndim - 2))


def _stored(written: Mapping[Path, WrittenMaps]) -> Iterator[StoredPair]:
    for path in written:
        arrays = map_arrays(path)
        for row, (first, second) in enumerate(np.asarray(arrays["edges"]).tolist()):
            yield StoredPair(path, arrays, row, (first, second))
