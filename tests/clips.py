"""Tiny clips for tests, written with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)


def picture(index: int, height: int = 64, width: int = 96) -> np.ndarray:
    """(H, W, 3) uint8: a smooth texture that drifts to the left with the index, red towards the top left corner."""
    v, u = np.mgrid[:height, :width].astype(np.float32)
    waves = np.stack([np.sin((u + 3 * index) * k + v / (5 + k * 9)) for k in (0.11, 0.23, 0.37)], -1)
    image = 110 + 60 * waves
    image[..., 0] += 80 * np.exp(-(u + v) / 30)
    return image.clip(0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    times_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    index_first: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write (H, W, 3) uint8 images as a video, 10 frames a second unless stamps in milliseconds are given."""
    stamps = times_ms or [100 * i for i in range(len(images))]
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for image, stamp in zip(images, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_rotation(path: Path, degrees: int) -> Path:
    """Write a display rotation into an mp4 file: players turn the frames clockwise by this much."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees % 360]
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + (4 + 20 if data[header] == 0 else 4 + 32) + 16
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float, to: Path) -> Path:
    """The first part of a file, as a broken download leaves it."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to
