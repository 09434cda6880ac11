"""Videos through PyAV: every codec of FFmpeg, and the good frames of a file that is cut short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.video.frames import Frame, Listing, Reader
from stereo4d.video.sources import is_image


class AvReader(Reader):
    """Reads one video file with PyAV, decoding from the start and keeping what was asked for."""

    def opens(self, paths: Sequence[Path]) -> bool:
        """Whether it is a single file that may be a video."""
        return len(paths) == 1 and not is_image(paths[0])

    def describe(self, paths: Sequence[Path]) -> Listing:
        """Times from the packets; the first frame is decoded to learn the size as seen."""
        with _container(paths[0]) as container:
            first = next(container.decode(_video_stream(container)))
            height, width = upright(first).shape[:2]
        stamps, base, declared = _stamps(paths[0])
        times = (stamps - stamps[0]) * base
        # A file that was cut short declares frames that are not there: list them, so that their absence is noticed.
        step = times[-1] / (len(times) - 1) if len(times) > 1 else base
        absent = times[-1] + step * np.arange(1, declared - len(times) + 1)
        return Listing(np.concatenate([times, absent]), ((height, width),))

    def read(self, paths: Sequence[Path], indices: Sequence[int]) -> Iterator[Frame]:
        """Decode in order; a damaged packet ends the clip, for what follows may be built on it."""
        stamps, base, _ = _stamps(paths[0])
        wanted = set(indices)
        with _container(paths[0]) as container:
            stream = _video_stream(container)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                index = int(np.searchsorted(stamps, frame.pts))
                if index in wanted:
                    yield Frame(upright(frame), index, float((stamps[index] - stamps[0]) * base))
                    wanted.discard(index)
                if not wanted:
                    return


def upright(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 pixels of a decoded frame with the container's rotation applied, which PyAV leaves to us."""
    quarter_turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), k=quarter_turns))


def _container(path: Path) -> Any:
    import av

    av.logging.set_level(None)
    return av.open(str(path))


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("no video stream in this file")
    return container.streams.video[0]


def _stamps(path: Path) -> tuple[np.ndarray, float, int]:
    """Stamps of the frames to present, rising; seconds of one unit; how many the file declares. Nothing is decoded."""
    stamps: set[int] = set()
    hidden = 0
    with _container(path) as container:
        stream = _video_stream(container)
        for packet in container.demux(stream):
            if packet.is_discard:
                hidden += 1
            elif packet.pts is not None:
                stamps.add(packet.pts)
        return np.array(sorted(stamps), np.int64), float(stream.time_base), stream.frames - hidden
