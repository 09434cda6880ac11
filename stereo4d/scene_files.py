"""Scene folders: what ``Scene.save`` writes and ``Scene.load`` reads.

A scene folder holds ``scene.safetensors`` (dense arrays, memory-mapped when read), ``trajectory.txt`` (TUM) and
``manifest.json``. The manifest goes first when a scene is overwritten and comes last when it is written, so a folder
with a manifest is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stereo4d.errors import OutputError, SceneError
from stereo4d.storage import map_arrays, read_metadata, save_arrays, why, write_json, write_text
from stereo4d.types import MotionSamples, Scene

SCENE_FILE = "scene.safetensors"
MANIFEST_FILE = "manifest.json"
TRAJECTORY_FILE = "trajectory.txt"
FORMAT_VERSION = 1

# name -> (dtype, shape in the letters N H W and numbers); what a scene folder must hold
_SCENE_ARRAYS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "cam2world": ("<f4", ("N", 4, 4)),
    "intrinsics": ("<f4", ("N", 3, 3)),
    "depth": ("<f2", ("N", "H", "W")),
    "confidence": ("<f2", ("N", "H", "W")),
    "dynamic": ("u1", ("N", "H", "W")),
    "rgb": ("u1", ("N", "H", "W", 3)),
    "times": ("<f8", ("N",)),
    "frame_indices": ("<i8", ("N",)),
    "intrinsics_original": ("<f8", ("N", 3, 3)),
    "original_sizes": ("<i8", ("N", 2)),
}
# likewise; all of them or none
_MOTION_ARRAYS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "motion_edges": ("<i8", ("M", 2)),
    "motion_times": ("<f8", ("Q",)),
    "motion_displacement": ("<f2", ("M", "Q", "H", "W", 3)),
    "motion_confidence": ("<f2", ("M", "Q", "H", "W")),
}
_MAPS = "maps/"
_DENSE = ("depth", "confidence", "dynamic", "rgb")


def save_scene(scene: Scene, folder: Path) -> Path:
    """Write a scene folder and return it; see ``Scene.save``."""
    arrays = {name: _for_storage(name, getattr(scene, name)) for name in _SCENE_ARRAYS}
    if scene.motion_samples is not None:
        motion = {name: getattr(scene.motion_samples, name.removeprefix("motion_")) for name in _MOTION_ARRAYS}
        arrays |= {name: _for_storage(name, value) for name, value in motion.items()}
    arrays |= {_MAPS + name: _for_storage(_MAPS + name, value) for name, value in scene.maps.items()}
    _check_arrays(arrays, OutputError, "this scene cannot be saved")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # From here to the last line the folder is not a whole scene, and does not look like one.
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {why(error)}") from error
    metadata = {"format": "stereo4d.scene", "version": str(FORMAT_VERSION), "scale": scene.scale}
    save_arrays(folder / SCENE_FILE, arrays, metadata)
    write_text(folder / TRAJECTORY_FILE, tum_trajectory(scene.times, scene.cam2world))
    write_json(folder / MANIFEST_FILE, {"format_version": FORMAT_VERSION, **scene.manifest, "scale": scene.scale})
    return folder


def load_scene(folder: Path) -> Scene:
    """Open a scene folder; see ``Scene.load``."""
    if not (folder / SCENE_FILE).is_file() and (shots := shots_in(folder)):
        named = ", ".join(shots[:8]) + (" ..." if shots[8:] else "")
        raise SceneError(f"{folder} holds {len(shots)} scenes, one for each shot of a clip: open one of {named} in it")
    if not (folder / SCENE_FILE).is_file() or not (folder / MANIFEST_FILE).is_file():
        raise SceneError(
            f"{folder} is not a whole scene: it needs {SCENE_FILE} and {MANIFEST_FILE}; run stereo4d reconstruct again"
        )
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"{folder / MANIFEST_FILE} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise SceneError(f"{folder / MANIFEST_FILE} must hold a JSON object, not {type(manifest).__name__}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise SceneError(
            f"{folder / MANIFEST_FILE} has format_version {manifest.get('format_version')!r}; "
            f"this stereo4d reads {FORMAT_VERSION}"
        )
    stored = map_arrays(folder / SCENE_FILE)
    missing = sorted(set(_SCENE_ARRAYS) - set(stored))
    if missing:
        raise SceneError(f"{folder / SCENE_FILE} lacks {', '.join(missing)}; it is not a stereo4d scene")
    _check_arrays(stored, SceneError, str(folder / SCENE_FILE))
    arrays = {name: stored[name] if name in _DENSE else np.array(stored[name]) for name in _SCENE_ARRAYS}
    scale = read_metadata(folder / SCENE_FILE).get("scale", "unknown")
    maps = {name.removeprefix(_MAPS): array for name, array in stored.items() if name.startswith(_MAPS)}
    return Scene(**arrays, scale=scale, manifest=manifest, motion_samples=_motion_of(stored), maps=maps)


def shots_in(folder: Path) -> list[str]:
    """Folders of the scenes that a folder holds, by its manifest: one for each shot of a clip that was cut."""
    try:
        entries = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["shots"]
        names = [str(entry["folder"]) for entry in entries if entry["left_out"] is None]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # What a file says must not lead out of the folder.
    return [name for name in names if Path(name).name == name and (folder / name / MANIFEST_FILE).is_file()]


def _motion_of(stored: Mapping[str, np.ndarray]) -> MotionSamples | None:
    """What a scene file says of motion, if anything; dense arrays stay mapped."""
    if "motion_edges" not in stored:
        return None
    edges, times = (np.array(stored[name]) for name in ("motion_edges", "motion_times"))
    return MotionSamples(edges, times, stored["motion_displacement"], stored["motion_confidence"])


def tum_trajectory(times: np.ndarray, cam2world: np.ndarray) -> str:
    """A camera path in TUM order, one line a frame: ``t x y z qx qy qz qw`` (seconds, scene units, camera to world).

    Args:
        times: (N,) seconds.
        cam2world: (N, 4, 4).
    """
    from scipy.spatial.transform import Rotation

    poses = np.asarray(cam2world, np.float64)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()  # x y z w
    rows = np.column_stack([poses[:, :3, 3], quaternions])
    lines = [f"{time:.9f} " + " ".join(f"{value:.9g}" for value in row) for time, row in zip(times, rows, strict=True)]
    return "# t x y z qx qy qz qw\n" + "".join(line + "\n" for line in lines)


def _for_storage(name: str, value: np.ndarray) -> np.ndarray:
    dtype = np.dtype({**_SCENE_ARRAYS, **_MOTION_ARRAYS}[name][0] if not name.startswith(_MAPS) else "<f2")
    value = np.asanyarray(value)
    if value.dtype == dtype or dtype != np.float16:
        return value.astype(dtype, copy=False)
    # float16 ends at 65504: a depth or motion beyond it is no measurement, a confidence as good as certain.
    limit = float(np.finfo(np.float16).max)
    if name in ("depth", "motion_displacement"):
        nothing = 0 if name == "depth" else np.nan
        return np.where(np.abs(value) <= limit, value, nothing).astype(dtype)
    within = np.clip(value, -limit, limit).astype(dtype)
    return within if name.startswith(_MAPS) else np.nan_to_num(within, nan=1.0)


def _check_arrays(arrays: Mapping[str, np.ndarray], error: type[Exception], what: str) -> None:
    """Raise ``error`` unless dtypes and shapes are those of a scene, with one N, H and W for all."""
    wanted = dict(_SCENE_ARRAYS)
    if any(name in arrays for name in _MOTION_ARRAYS):
        wanted |= _MOTION_ARRAYS
    for name in arrays:
        if name.startswith(_MAPS):
            wanted[name] = ("<f2", ("N", "H", "W", *arrays[name].shape[3:]))
    missing = sorted(set(wanted) - set(arrays))
    if missing:
        raise error(f"{what}: it lacks {', '.join(missing)}, without which the others say nothing")
    sizes: dict[str | int, int] = {}
    for name, (dtype, letters) in wanted.items():
        _check_shape(name, arrays[name], np.dtype(dtype), letters, sizes, error, what)
    if not sizes["N"]:
        raise error(f"{what}: it has no frames")
    if "motion_edges" in arrays:
        _check_motion(arrays["motion_edges"], arrays["motion_times"], sizes["N"], error, what)


def _check_shape(
    name: str,
    array: np.ndarray,
    dtype: np.dtype,
    letters: tuple[str | int, ...],
    sizes: dict[str | int, int],
    error: type[Exception],
    what: str,
) -> None:
    """Raise ``error`` unless one array is as it should be; sizes that its letters stand for are noted."""
    fits = len(array.shape) == len(letters) and all(
        size == (letter if isinstance(letter, int) else sizes.setdefault(letter, size))
        for letter, size in zip(letters, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        wanted = " x ".join(f"{letter}={sizes[letter]}" if letter in sizes else str(letter) for letter in letters)
        raise error(f"{what}: {name} is {array.dtype} {array.shape}, must be {dtype} {wanted}")


def _check_motion(edges: np.ndarray, times: np.ndarray, frames: int, error: type[Exception], what: str) -> None:
    """Raise ``error`` unless motion leads from one frame of the scene to another, at times on the way."""
    if ((edges < 0) | (edges >= frames)).any() or (edges[:, 0] == edges[:, 1]).any():
        raise error(f"{what}: motion_edges must lead from one to another of the {frames} frames")
    if not len(times) or not (times > 0).all() or not (np.diff(times) > 0).all() or times[-1] != 1:
        raise error(f"{what}: motion_times {np.array(times).tolist()} must ascend in (0, 1] and end at 1")
