"""COLMAP (Schönberger & Frahm 2016) through pycolmap: SIFT features, matches, incremental mapping, with its defaults.

What differs from the defaults is what a user of a video would say: all frames share one camera without distortion,
whose focal is unknown.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stereo4d.errors import InputError, MissingDependencyError
from stereo4d.evaluation.peer import ClipAnswer, Peer, SparseDepth

if TYPE_CHECKING:
    import pycolmap

_EVERY_PAIR = 60  # frames: up to here every pair is matched, beyond only neighbours in time
_HALF_PIXEL = 0.5  # COLMAP's pixels have their centres at halves


class Colmap(Peer):
    """Structure from motion by COLMAP on the CPU."""

    def reconstruct(self, rgb: np.ndarray, *, seed: int = 0) -> ClipAnswer:
        """Run features, matching and mapping in a scratch folder; see ``Peer.reconstruct``.

        Raises:
            MissingDependencyError: pycolmap is not installed.
            InputError: ``rgb`` is not a clip.
        """
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or not len(rgb):
            raise InputError(f"COLMAP takes (N, H, W, 3) uint8 with N >= 1, got {rgb.shape} {rgb.dtype}")
        colmap = _import()
        with tempfile.TemporaryDirectory(prefix="stereo4d-colmap-") as scratch:
            folder = Path(scratch)
            _write_images(folder / "images", rgb)
            started = time.monotonic()
            models = _map(colmap, folder, len(rgb), seed)
            seconds = time.monotonic() - started
            if not models:
                return ClipAnswer.nothing(len(rgb), seconds, f"no model: {_found(colmap, folder / 'database.db')}")
        # Frames that do not hang together come as several models, each in a world of its own.
        return _answer(max(models, key=lambda model: model.num_reg_images()), len(rgb), len(models), seconds)


def _import() -> Any:
    try:
        import pycolmap
    except ImportError as error:
        raise MissingDependencyError(
            "COLMAP is not installed: pip install pycolmap, or stereo4d with the extra 'colmap'"
        ) from error
    # It talks on stderr about every image; what matters is in the answer.
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


def _write_images(folder: Path, rgb: np.ndarray) -> None:
    folder.mkdir()
    for index, image in enumerate(rgb):
        Image.fromarray(image).save(folder / f"{index:06d}.png", compress_level=1)


def _map(colmap: Any, folder: Path, frames: int, seed: int) -> list[pycolmap.Reconstruction]:
    """All models that COLMAP builds of the images in a folder."""
    database, images = folder / "database.db", folder / "images"
    (models := folder / "models").mkdir()
    colmap.set_random_seed(seed)
    colmap.extract_features(
        *(database, images),
        camera_mode=colmap.CameraMode.SINGLE,
        reader_options={"camera_model": "SIMPLE_PINHOLE"},
        # One thread: several number the images in the order in which they happen to be done.
        extraction_options={"num_threads": 1, "use_gpu": False},
        device=colmap.Device.cpu,
    )
    match = colmap.match_exhaustive if frames <= _EVERY_PAIR else colmap.match_sequential
    match(
        database,
        matching_options={"num_threads": os.cpu_count() or 1, "use_gpu": False},
        verification_options={"ransac": {"random_seed": seed}},
        device=colmap.Device.cpu,
    )
    options = colmap.IncrementalPipelineOptions()
    # One thread: sums in another order would make another answer.
    options.num_threads, options.random_seed, options.extract_colors = 1, seed, False
    return list(colmap.incremental_mapping(database, images, models, options).values())


def _found(colmap: Any, path: Path) -> str:
    """What there was to build a model from."""
    with colmap.Database.open(path) as database:
        keypoints, matches, pairs = (
            database.num_keypoints(),
            database.num_inlier_matches(),
            database.num_matched_image_pairs(),
        )
        return (
            f"{keypoints / max(1, database.num_images()):.0f} features a frame, "
            f"{matches / max(1, pairs):.0f} verified matches a pair of frames"
        )


def _answer(model: pycolmap.Reconstruction, frames: int, models: int, seconds: float) -> ClipAnswer:
    cam2world, focal = np.full((frames, 4, 4), np.nan), np.full(frames, np.nan)
    places: list[tuple[int, np.ndarray, np.ndarray]] = []
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        frame = int(Path(image.name).stem)
        world2cam = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        cam2world[frame] = np.linalg.inv(world2cam)
        focal[frame] = model.cameras[image.camera_id].focal_length
        seen = [point for point in image.points2D if point.has_point3D()]
        if seen:
            points = np.array([model.points3D[point.point3D_id].xyz for point in seen])
            depth = points @ world2cam[2, :3] + world2cam[2, 3]
            places.append((frame, np.array([point.xy for point in seen]) - _HALF_PIXEL, depth))
    lost = np.flatnonzero(np.isnan(focal))
    elsewhere = f" ({models} models; this is the largest)" if models > 1 else ""
    failure = f"{len(lost)} of {frames} frames not placed{elsewhere}" if len(lost) else ""
    return ClipAnswer(cam2world, focal, _joined(places), seconds, failure)


def _joined(places: list[tuple[int, np.ndarray, np.ndarray]]) -> SparseDepth:
    if not places:
        return SparseDepth.none()
    frame = np.concatenate([np.full(len(depth), frame, np.int64) for frame, _, depth in places])
    pixel, depth = (np.concatenate([place[part] for place in places]) for part in (1, 2))
    ahead = depth > 0
    return SparseDepth(frame[ahead], pixel[ahead], depth[ahead])
