"""How alike the frames of a clip look to the network that will reconstruct it."""

from __future__ import annotations

import numpy as np
import torch

from stereo4d.network.stereo import StereoNetwork
from stereo4d.progress import SILENT, Progress
from stereo4d.video.clip import Clip
from stereo4d.video.network_cost import suitable_batch


def frame_similarity(
    network: StereoNetwork, clip: Clip, *, batch_size: int | None = None, progress: Progress = SILENT
) -> np.ndarray:
    """Cosines between the frames' mean encoder tokens.

    The mean over a frame's tokens knows what is seen, not where in the image; what all frames of the clip have in
    common is taken off, which leaves what tells them apart. One vector a frame is kept, whatever the clip's length.

    Args:
        network: in eval mode, on the device to work on.
        clip: N frames.
        batch_size: frames at a time; by default as many as suit the device.
        progress: told about every frame.

    Returns:
        (N, N) float64 in [-1, 1]; 0 for frames in which nothing differs from the rest.
    """
    device = next(network.parameters()).device
    if batch_size is None:
        height, width = clip.rgb.shape[1:3]
        batch_size = suitable_batch(device, height, width, network.config.patch_size)
    means = []
    with progress.stage("similarity", len(clip), "frame") as stage, torch.inference_mode():
        for positions in torch.arange(len(clip)).split(batch_size):
            tokens = network.encode(clip.images(positions.tolist()).to(device)).tokens
            means.append(tokens.double().mean(1).cpu().numpy())
            stage.advance(len(positions))
    different = np.concatenate(means)
    different -= different.mean(0)
    length = np.linalg.norm(different, axis=1, keepdims=True)
    # Equal frames leave nothing but rounding.
    different = np.where(length > 1e-6, different / length.clip(min=1e-12), 0)
    return different @ different.T
