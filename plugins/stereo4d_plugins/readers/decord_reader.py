"""Videos through decord: fast, applies rotation, has every frame's timestamp. It cannot open AV1 or GIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.video.frames import Frame, Listing, Reader
from stereo4d.video.sources import is_image

_NOT_FOR_DECORD = ("libdav1d", "libaom-av1", "av1")
_REOPEN_AFTER = 128
# decord keeps what it decoded on the way to a frame; opening anew now and then bounds that for long, large clips.


class DecordReader(Reader):
    """Reads one video file with decord."""

    def opens(self, paths: Sequence[Path]) -> bool:
        """Whether it is a single file that may be a video."""
        return len(paths) == 1 and not is_image(paths[0]) and paths[0].suffix.lower() != ".gif"

    def describe(self, paths: Sequence[Path]) -> Listing:
        """Times from the index; the first frame is decoded to learn the size as seen."""
        video = _open(paths[0])
        height, width = _pixels(video, 0).shape[:2]
        return Listing(_times(video), ((height, width),))

    def read(self, paths: Sequence[Path], indices: Sequence[int]) -> Iterator[Frame]:
        """Decode frame by frame: in a batch, one bad frame would take the good ones with it."""
        video = _open(paths[0])
        times = _times(video)
        for count, index in enumerate(indices, start=1):
            yield Frame(_pixels(video, index), index, float(times[index]))
            if count % _REOPEN_AFTER == 0 and count < len(indices):
                del video
                video = _open(paths[0])


def _open(path: Path) -> Any:
    import av
    import decord

    # decord writes to stderr, past every handler, about files it cannot open; let PyAV open first and say why.
    with av.open(str(path)) as container:
        if container.streams.video and container.streams.video[0].codec_context.name in _NOT_FOR_DECORD:
            raise ValueError("decord cannot decode AV1")
    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(str(path))


def _pixels(video: Any, index: int) -> np.ndarray:
    """(H, W, 3) uint8 of one frame."""
    rgb = video[index].asnumpy()
    if rgb.shape[2] != 3:
        # decord infers the channels from the padded length of a row, and takes some narrow images for RGBA
        raise ValueError(f"decord gives {rgb.shape[2]} channels")
    return rgb


def _times(video: Any) -> np.ndarray:
    """(N,) float64 seconds after the first frame, in presentation order."""
    stamps = np.asarray(video.get_frame_timestamp(range(len(video))), np.float64)[:, 0]
    # decord hands out float32 seconds; a microsecond is finer than that, and 0.1 reads better than 0.10000000149.
    return np.round(stamps - stamps[0], 6)
