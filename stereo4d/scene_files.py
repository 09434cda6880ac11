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
from stereo4d.types import Scene

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
_DENSE = ("depth", "confidence", "dynamic", "rgb")


def save_scene(scene: Scene, folder: Path) -> Path:
    """Write a scene folder and return it; see ``Scene.save``."""
    arrays = {name: _for_storage(name, getattr(scene, name)) for name in _SCENE_ARRAYS}
    _check_shapes(arrays, OutputError, "this scene cannot be saved")
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
    _check_shapes(stored, SceneError, str(folder / SCENE_FILE))
    arrays = {name: stored[name] if name in _DENSE else np.array(stored[name]) for name in _SCENE_ARRAYS}
    scale = read_metadata(folder / SCENE_FILE).get("scale", "unknown")
    return Scene(**arrays, scale=scale, manifest=manifest)


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
    dtype = np.dtype(_SCENE_ARRAYS[name][0])
    value = np.asanyarray(value)
    if value.dtype == dtype or name not in ("depth", "confidence"):
        return value.astype(dtype, copy=False)
    # float16 ends at 65504: a depth beyond it is no measurement, a confidence beyond it is as good as certain.
    limit = float(np.finfo(np.float16).max)
    if name == "depth":
        return np.where(np.abs(value) <= limit, value, 0).astype(dtype)
    return np.nan_to_num(np.clip(value, None, limit), nan=1.0).astype(dtype)


def _check_shapes(arrays: Mapping[str, np.ndarray], error: type[Exception], what: str) -> None:
    """Raise ``error`` unless dtypes and shapes are those of a scene, with one N, H and W for all."""
    sizes: dict[str | int, int] = {}
    for name, (dtype, letters) in _SCENE_ARRAYS.items():
        array = arrays[name]
        fits = len(array.shape) == len(letters) and all(
            size == (letter if isinstance(letter, int) else sizes.setdefault(letter, size))
            for letter, size in zip(letters, array.shape, strict=True)
        )
        if not fits or array.dtype != np.dtype(dtype):
            wanted = " x ".join(f"{letter}={sizes[letter]}" if letter in sizes else str(letter) for letter in letters)
            raise error(f"{what}: {name} is {array.dtype} {array.shape}, must be {np.dtype(dtype)} {wanted}")
    if not sizes["N"]:
        raise error(f"{what}: it has no frames")
