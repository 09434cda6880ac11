"""Frames whose way from the original images to network size is known."""

from pathlib import Path

import numpy as np
from PIL import Image

from stereo4d.types import PixelMap
from stereo4d.video.clip import Clip, read_clip
from stereo4d.video.frames import describe
from stereo4d.video.known_files import FrameGeometry
from stereo4d.video.sources import find_source

CHOSEN = (1, 3, 4)
HEIGHT, WIDTH = 97, 160


def clip_of_images(folder: Path) -> Clip:
    """Frames 1, 3 and 4 of six images, resized and cropped to 32x64; image 3 is of another size, 64x128."""
    for index in range(6):
        size = (64, 128) if index == 3 else (HEIGHT, WIDTH)
        Image.fromarray(np.full((*size, 3), 40 * index, np.uint8)).save(folder / f"{index}.png")
    source = find_source([str(folder)])
    return read_clip(source, describe(source), CHOSEN, size=64)


def plain_frames(count: int, size: tuple[int, int], to_original: PixelMap, network: tuple[int, int]) -> FrameGeometry:
    """The first frames of a clip, one every 0.1 s, all of one size and brought to network size in one way."""
    indices = np.arange(count)
    return FrameGeometry(indices, indices / 10, np.tile(size, (count, 1)), network, (to_original,) * count)
