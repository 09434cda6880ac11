"""Clips that are blurred throughout, by the motion of the camera or a poor lens."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from stereo4d_plugins.predictors.classical.calibration import calibrate_clip
from stereo4d_plugins.predictors.classical.predictor import ClassicalClip

import stereo4d
from stereo4d.data.synthetic.clip import load_truth
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.video.clip import Clip

DEMO = Path(stereo4d.__file__).parent / "assets" / "demo" / "clip.mp4"
FRAMES = 10


def demo_clip(blur: int) -> Clip:
    """The first frames of the demo clip, smeared sideways over some pixels."""
    kernel = np.full((1, blur), 1 / blur, np.float32)
    frames = [frame.to_ndarray(format="rgb24") for frame in av.open(str(DEMO)).decode(video=0)][:FRAMES]
    rgb = np.stack([cv2.filter2D(frame, -1, kernel) for frame in frames])
    height, width = rgb.shape[1:3]
    sizes, indices = np.tile([[height, width]], (FRAMES, 1)), np.arange(FRAMES)
    return Clip(rgb, indices / 12, indices, sizes, np.tile([1.0, 1.0, 0.0, 0.0], (FRAMES, 1)))


@pytest.fixture(scope="module")
def seen() -> dict[int, tuple[float, float]]:
    """Blur in pixels -> error of the path as a share of its length, and mean confidence of a pair."""
    truth = torch.tensor(load_truth(DEMO).clip.cam2world[:FRAMES]).double()
    found = {}
    for blur in (1, 5, 41):
        clip = demo_clip(blur)
        calibration = calibrate_clip(clip.rgb)
        path = torch.from_numpy(np.linalg.inv(calibration.world2cam))
        error = absolute_trajectory_error(path, truth) / path_length(truth)
        pair = ClassicalClip(clip, [(2, 6)], calibration).predict([(2, 6)])
        assert all(bool(torch.isfinite(v).all()) for v in (pair.pointmap0, pair.pointmap1, pair.confidence0))
        found[blur] = (float(error), float(pair.confidence0.mean()))
    return found


def test_a_clip_that_is_blurred_throughout_still_has_its_path(seen):
    assert seen[1][0] < 0.01
    assert seen[5][0] < 0.03


def test_confidence_falls_with_blur(seen):
    assert seen[1][1] > seen[5][1] > seen[41][1]
