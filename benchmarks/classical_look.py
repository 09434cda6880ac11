"""What the benchmark of the weight-free predictor reads from a scene before it goes: depth and confidence, by pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stereo4d.data.synthetic.clip import SyntheticTruth
from stereo4d.types import ClipTruth, Scene
from stereo4d.video.prediction_files import read_predictions

STEP = 3  # pixels: every how manyth is looked at, both ways
PARALLAX = 2.0  # degrees
TEXTURE = 2.0  # grey levels a pixel: several times what the clips' noise leaves after smoothing
WRONG = 0.25  # share that a depth is off by


def look(scene: Scene, truth: SyntheticTruth, folder: Path) -> dict[str, float]:
    """Depth where it can be known, and confidence where things move and where they do not.

    Args:
        scene: of all frames of the clip.
        truth: of the clip.
        folder: of the scene, with the pairs that it was aligned from.
    """
    where = [_seen(scene, truth.clip, frame) for frame in range(len(scene))]
    true_depth, dynamic, textured = (np.stack([one[part] for one in where]) for part in range(3))
    moves = dynamic > 0
    depth = np.asarray(scene.depth[:, ::STEP, ::STEP], np.float64)
    confidence = np.asarray(scene.confidence[:, ::STEP, ::STEP], np.float64)
    counted = textured & ~moves & (_parallax(scene, truth.clip, true_depth) >= PARALLAX)
    found: dict[str, float] = {"moving share": float(moves.mean()), "textured share": float(counted.mean())}
    if counted.any():
        scale = np.median(true_depth[counted]) / np.median(depth[counted])
        found["textured depth"] = float((np.abs(scale * depth - true_depth) / true_depth)[counted].mean())
    found |= _confidence("scene", confidence, moves)
    found |= _pair_confidence(folder / "pairs", moves)
    if moves.any():
        scale = np.median(true_depth[~moves]) / np.median(depth[~moves])
        off = np.abs(scale * depth - true_depth) / true_depth > WRONG
        sure = confidence >= np.median(confidence[~moves])
        found["moving: confident and wrong"] = float((off & sure)[moves].mean())
    return found


def _confidence(what: str, confidence: np.ndarray, moves: np.ndarray) -> dict[str, float]:
    found = {f"{what}: confidence static": float(confidence[~moves].mean())}
    if moves.any():
        found[f"{what}: confidence moving"] = float(confidence[moves].mean())
    return found


def _pair_confidence(pairs: Path, moves: np.ndarray) -> dict[str, float]:
    """What the predictor itself said, over both views of all pairs."""
    edges, prediction = read_predictions(pairs, extras=False)
    sums = np.zeros(2)
    counts = np.zeros(2)
    for pair, edge in enumerate(edges.tolist()):
        for frame, stored in zip(edge, (prediction.confidence0, prediction.confidence1), strict=True):
            confidence = stored[pair, ::STEP, ::STEP].double().numpy()
            for side, mask in enumerate((~moves[frame], moves[frame])):
                sums[side] += confidence[mask].sum()
                counts[side] += mask.sum()
    found = {"pairs: confidence static": float(sums[0] / counts[0])}
    if counts[1]:
        found["pairs: confidence moving"] = float(sums[1] / counts[1])
    return found


def _seen(scene: Scene, truth: ClipTruth, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True depth, what moves and what has texture at the pixels that are looked at, from the clip's nearest ones."""
    to_clip = scene.intrinsics_original[frame] @ np.linalg.inv(scene.intrinsics[frame].astype(np.float64))
    height, width = scene.depth.shape[1:]
    true_height, true_width = truth.depth.shape[1:]
    u = np.rint(to_clip[0, 0] * np.arange(0, width, STEP) + to_clip[0, 2]).astype(int).clip(0, true_width - 1)
    v = np.rint(to_clip[1, 1] * np.arange(0, height, STEP) + to_clip[1, 2]).astype(int).clip(0, true_height - 1)
    place = np.ix_(v, u)
    textured = _texture(np.asarray(scene.rgb[frame]))[::STEP, ::STEP] >= TEXTURE
    return np.asarray(truth.depth[frame], np.float64)[place], np.asarray(truth.dynamic[frame])[place], textured


def _texture(rgb: np.ndarray) -> np.ndarray:
    """(H, W) how much the brightness changes around each pixel: root mean square of its slope, grey levels a pixel."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
    slope = np.stack(np.gradient(grey)) ** 2
    return np.sqrt(cv2.boxFilter(slope.sum(0), -1, (9, 9)))


def _parallax(scene: Scene, truth: ClipTruth, depth: np.ndarray) -> np.ndarray:
    """(N, h, w) degrees: the widest angle between where a point is seen from and another frame that sees it too."""
    frames, height, width = len(scene), *scene.depth.shape[1:]
    intrinsics = scene.intrinsics_original[0] @ np.linalg.inv(scene.intrinsics[0].astype(np.float64))
    true_intrinsics = np.linalg.inv(intrinsics) @ np.asarray(truth.intrinsics[0], np.float64)
    v, u = np.mgrid[0:height:STEP, 0:width:STEP]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(true_intrinsics).T
    cam2world = np.asarray(truth.cam2world, np.float64)
    widest = np.zeros(depth.shape)
    for i in range(frames):
        points = depth[i][..., None] * rays @ cam2world[i, :3, :3].T + cam2world[i, :3, 3]
        for j in range(frames):
            local = (points - cam2world[j, :3, 3]) @ cam2world[j, :3, :3]
            ahead = local[..., 2] > 0.05
            pixel = local @ true_intrinsics.T
            column, row = (np.rint(pixel[..., axis] / np.where(ahead, pixel[..., 2], 1) / STEP) for axis in (0, 1))
            inside = ahead & (column >= 0) & (column < depth.shape[2]) & (row >= 0) & (row < depth.shape[1])
            there = depth[j][np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)]
            visible = inside & (np.abs(there - local[..., 2]) < 0.05 * local[..., 2])
            sides = points - cam2world[i, :3, 3], points - cam2world[j, :3, 3]
            cosine = (
                (sides[0] * sides[1]).sum(-1) / np.linalg.norm(sides[0], axis=-1) / np.linalg.norm(sides[1], axis=-1)
            )
            angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
            widest[i] = np.where(visible, np.maximum(widest[i], angle), widest[i])
    return widest
