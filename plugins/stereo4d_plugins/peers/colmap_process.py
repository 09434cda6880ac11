"""The process that COLMAP works in: ``python colmap_process.py FOLDER SEED`` reads images/ and writes its answer."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pycolmap

from stereo4d.evaluation.peer import ClipAnswer, SparseDepth
from stereo4d_plugins.peers.colmap import ANSWER

_EVERY_PAIR = 60  # frames: up to here every pair is matched, beyond only neighbours in time
_HALF_PIXEL = 0.5  # COLMAP's pixels have their centres at halves


def main(folder: Path, seed: int) -> None:
    """Answer about the images in a folder."""
    # It talks on stderr about every image; what matters is in the answer.
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    frames = len(list((folder / "images").iterdir()))
    started = time.monotonic()
    models = build(folder, frames, seed)
    seconds = time.monotonic() - started
    if models:
        # Frames that do not hang together come as several models, each in a world of its own.
        found = answer(max(models, key=lambda model: model.num_reg_images()), frames, len(models), seconds)
    else:
        found = ClipAnswer.nothing(frames, seconds, f"no model: {_what_there_was(folder / 'database.db')}")
    found.save(folder / ANSWER)


def build(folder: Path, frames: int, seed: int) -> list[pycolmap.Reconstruction]:
    """All models that COLMAP builds of the images in a folder."""
    database, images = folder / "database.db", folder / "images"
    (models := folder / "models").mkdir()
    pycolmap.set_random_seed(seed)
    features = pycolmap.FeatureExtractionOptions()
    # One thread: several number the images in the order in which they happen to be done.
    features.num_threads, features.use_gpu = 1, False
    reading = pycolmap.ImageReaderOptions()
    reading.camera_model = "SIMPLE_PINHOLE"
    pycolmap.extract_features(
        *(database, images),
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reading,
        extraction_options=features,
        device=pycolmap.Device.cpu,
    )
    matching, verification = pycolmap.FeatureMatchingOptions(), pycolmap.TwoViewGeometryOptions()
    matching.num_threads, matching.use_gpu = os.cpu_count() or 1, False
    verification.ransac.random_seed = seed
    match = pycolmap.match_exhaustive if frames <= _EVERY_PAIR else pycolmap.match_sequential
    match(database, matching_options=matching, verification_options=verification, device=pycolmap.Device.cpu)
    mapping = pycolmap.IncrementalPipelineOptions()
    # One thread: sums in another order would make another answer.
    mapping.num_threads, mapping.random_seed, mapping.extract_colors = 1, seed, False
    return list(pycolmap.incremental_mapping(database, images, models, mapping).values())


def answer(model: pycolmap.Reconstruction, frames: int, models: int, seconds: float) -> ClipAnswer:
    """What a model says.

    Args:
        model: of images named by their position in the clip.
        frames: N.
        models: how many there are.
        seconds: what they took.
    """
    cam2world, focal = np.full((frames, 4, 4), np.nan), np.full(frames, np.nan)
    places = [SparseDepth.none()]
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        frame = int(Path(image.name).stem)
        world2cam = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        cam2world[frame] = np.linalg.inv(world2cam)
        focal[frame] = model.cameras[image.camera_id].focal_length
        places.append(_places(model, image, frame, world2cam))
    lost = int(np.isnan(focal).sum())
    elsewhere = f" ({models} models; this is the largest)" if models > 1 else ""
    failure = f"{lost} of {frames} frames not placed{elsewhere}" if lost else ""
    points = SparseDepth(
        *(np.concatenate([getattr(place, part) for place in places]) for part in ("frame", "pixel", "depth"))
    )
    return ClipAnswer(cam2world, focal, points, seconds, failure)


def _places(model: pycolmap.Reconstruction, image: pycolmap.Image, frame: int, world2cam: np.ndarray) -> SparseDepth:
    """Where a frame sees triangulated points."""
    seen = [point for point in image.points2D if point.has_point3D()]
    if not seen:
        return SparseDepth.none()
    points = np.array([model.points3D[point.point3D_id].xyz for point in seen])
    depth = points @ world2cam[2, :3] + world2cam[2, 3]
    ahead = depth > 0
    pixel = np.array([point.xy for point in seen]) - _HALF_PIXEL
    return SparseDepth(np.full(int(ahead.sum()), frame, np.int64), pixel[ahead], depth[ahead])


def _what_there_was(path: Path) -> str:
    """What a model could have been built from."""
    with pycolmap.Database.open(path) as database:
        features = database.num_keypoints() / max(1, database.num_images())
        matches = database.num_inlier_matches() / max(1, database.num_matched_image_pairs())
    return f"{features:.0f} features a frame, {matches:.0f} verified matches a pair of frames"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
