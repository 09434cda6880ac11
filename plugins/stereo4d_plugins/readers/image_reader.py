"""Images as frames. They carry no time: image i is shown at second i."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stereo4d.data.transforms import open_image
from stereo4d.errors import InputError
from stereo4d.video.frames import FailedFrame, Frame, Listing, Reader
from stereo4d.video.sources import is_image

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


class ImageReader(Reader):
    """Reads image files; EXIF orientation applied, alpha dropped."""

    def opens(self, paths: Sequence[Path]) -> bool:
        """Whether the files are named like images."""
        return is_image(paths[0])

    def describe(self, paths: Sequence[Path]) -> Listing:
        """Sizes from the headers alone; a file that is no image counts as one of the first readable size."""
        sizes: list[tuple[int, int] | None] = []
        failure: Exception | None = None
        for path in paths:
            try:
                sizes.append(_upright_size(path))
            except Exception as error:
                sizes.append(None)
                failure = failure or error
        first = next((size for size in sizes if size is not None), None)
        if first is None:
            raise failure or ValueError("no images")
        return Listing(np.arange(len(paths), dtype=np.float64), tuple(size or first for size in sizes))

    def read(self, paths: Sequence[Path], indices: Sequence[int]) -> Iterator[Frame | FailedFrame]:
        """Decode one image at a time; a damaged one does not stop the others."""
        for index in indices:
            try:
                rgb = np.asarray(open_image(paths[index]))
            except InputError as error:
                yield FailedFrame(index, str(error))
            else:
                yield Frame(rgb, index, float(index))


def _upright_size(path: Path) -> tuple[int, int]:
    """(height, width) after the EXIF orientation, from the header."""
    with Image.open(path) as image:
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    return (width, height) if sideways else (height, width)
