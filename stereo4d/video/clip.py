"""The chosen frames of a clip at network size: what inference works on and a resumed run starts from."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, stack

from stereo4d.data.transforms import normalise, prepare_image, to_uint8
from stereo4d.errors import InputError
from stereo4d.progress import SILENT, Progress
from stereo4d.storage import map_arrays, read_metadata, save_arrays
from stereo4d.types import PixelMap
from stereo4d.video.frames import FailedFrame, Listing, read
from stereo4d.video.sources import Source

log = logging.getLogger(__name__)

Size = tuple[int, int]
"""(height, width)."""

_STILL_LEVELS = 4  # grey levels of 256; sensor noise and compression stay below it


@dataclass(frozen=True)
class Clip:
    """N frames at one network size."""

    rgb: np.ndarray
    """(N, H, W, 3) uint8; H and W are multiples of the patch size."""
    times: np.ndarray
    """(N,) float64 seconds, strictly rising."""
    frame_indices: np.ndarray
    """(N,) int64 positions in the input."""
    original_sizes: np.ndarray
    """(N, 2) int64 (height, width) of each frame as seen, before crop and resize."""
    pixel_maps: np.ndarray
    """(N, 4) float64: scale_u, scale_v, offset_u, offset_v of each frame's ``PixelMap`` to original pixels."""
    failed: tuple[FailedFrame, ...] = ()
    """Frames that were asked for and could not be decoded."""

    def __len__(self) -> int:
        return len(self.rgb)

    def images(self, positions: Sequence[int]) -> Tensor:
        """Network input (B, 3, H, W), in [-1, 1], of the frames at these positions."""
        return stack([normalise(np.array(self.rgb[position])) for position in positions])

    def pixel_map(self, position: int) -> PixelMap:
        """From network pixels of one frame to its original pixels."""
        return PixelMap(*self.pixel_maps[position].tolist())

    def at(self, positions: np.ndarray | slice) -> Clip:
        """Some of the frames as a clip."""
        return replace(self, failed=(), **{name: getattr(self, name)[positions] for name in _ARRAYS})

    def save(self, path: Path) -> None:
        """Store the clip in one safetensors file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_arrays(path, arrays, {"failed": json.dumps([asdict(frame) for frame in self.failed])})

    @classmethod
    def load(cls, path: Path) -> Clip:
        """Open a stored clip; pixels are memory-mapped."""
        arrays = map_arrays(path)
        failed = json.loads(read_metadata(path)["failed"])
        return cls(**{name: arrays[name] for name in _ARRAYS}, failed=tuple(FailedFrame(**entry) for entry in failed))


_ARRAYS = ("rgb", "times", "frame_indices", "original_sizes", "pixel_maps")


def read_clip(
    source: Source,
    listing: Listing,
    indices: Sequence[int],
    *,
    size: int,
    patch_size: int = 16,
    square_ok: bool = False,
    progress: Progress = SILENT,
) -> Clip:
    """Decode frames one by one and bring each to network size at once; only small frames are kept.

    Args:
        source: the clip.
        listing: what ``frames.describe`` said about it.
        indices: frames to take, rising.
        size: long side at network size, in pixels; see ``data.transforms.prepare_image``.
        patch_size: sides at network size are multiples of it.
        square_ok: leave square frames square.
        progress: told about every frame.

    Raises:
        InputError: not one frame could be decoded.
    """
    common = common_size(listing, indices)
    views, failed = [], []
    pictures = np.empty(0, np.uint8)
    place = {index: position for position, index in enumerate(indices)}
    odd: list[tuple[int, Size]] = []
    with progress.stage("frames", len(indices), "frame") as stage:
        for frame in read(source, indices):
            stage.advance()
            if isinstance(frame, FailedFrame):
                failed.append(frame)
                continue
            original = (frame.rgb.shape[0], frame.rgb.shape[1])
            rgb, to_original = bring_to(frame.rgb, common)
            if original != common:
                odd.append((frame.index, original))
            view = prepare_image(rgb, size, patch_size=patch_size, square_ok=square_ok)
            picture = to_uint8(view.image)
            if not len(pictures):  # all at once: stacked at the end, they would be in memory twice
                pictures = np.empty((len(indices), *picture.shape), np.uint8)
            pictures[place[frame.index]] = picture
            views.append((frame.index, frame.time, original, view.to_original.then(to_original)))
    if not views:
        raise InputError(f"{source.label}: none of its {len(indices)} chosen frames can be decoded: {failed[0].reason}")
    _warn(source, len(indices), failed, odd, common)
    views.sort(key=lambda view: view[0])
    frame_indices, times, originals, maps = zip(*views, strict=True)
    return Clip(
        pictures[[place[index] for index in frame_indices]] if failed else pictures,
        _strictly_rising(np.array(times, np.float64)),
        np.array(frame_indices, np.int64),
        np.array(originals, np.int64),
        np.array([(m.scale_u, m.scale_v, m.offset_u, m.offset_v) for m in maps], np.float64),
        tuple(failed),
    )


def common_size(listing: Listing, indices: Sequence[int]) -> Size:
    """The size that most of the frames have; the first of them on a tie."""
    if len(listing.sizes) == 1:
        return listing.sizes[0]
    return Counter(listing.sizes[index] for index in indices).most_common(1)[0][0]


def bring_to(rgb: np.ndarray, size: Size) -> tuple[np.ndarray, PixelMap]:
    """Resize and crop an image around its centre so that it fills a size.

    Args:
        rgb: (h, w, 3) uint8.
        size: wanted (height, width).

    Returns:
        (height, width, 3) uint8, and the map from its pixels to those of ``rgb``.
    """
    height, width = rgb.shape[:2]
    if (height, width) == size:
        return rgb, PixelMap()
    scale = max(size[0] / height, size[1] / width)
    resized_height, resized_width = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    top, left = (resized_height - size[0]) // 2, (resized_width - size[1]) // 2
    picture = Image.fromarray(rgb).resize((resized_width, resized_height), Image.Resampling.LANCZOS)
    cropped = np.asarray(picture.crop((left, top, left + size[1], top + size[0])))
    scale_u, scale_v = width / resized_width, height / resized_height
    # Resizing keeps the image's edges, half a pixel outside the centres of its outer pixels.
    return cropped, PixelMap(scale_u, scale_v, (left + 0.5) * scale_u - 0.5, (top + 0.5) * scale_v - 0.5)


def camera_stands_still(clip: Clip) -> bool:
    """Whether most pixels keep their colour through the whole clip, as under a camera on a tripod."""
    first = clip.rgb[0].astype(np.int16)
    return all(np.median(np.abs(frame.astype(np.int16) - first)) <= _STILL_LEVELS for frame in clip.rgb[1:])


def _warn(
    source: Source, asked: int, failed: Sequence[FailedFrame], odd: Sequence[tuple[int, Size]], common: Size
) -> None:
    """Say what is not as it should be, naming files."""
    if failed:
        log.warning(
            "%s: %d of %d chosen frames could be read, the rest is left out (%s)",
            *(source.label, asked - len(failed), asked, failed[0].reason),
        )
    if odd:
        names = [f"{_frame_name(source, index)} is {width}x{height}" for index, (height, width) in odd[:5]]
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        log.warning(
            "%s: images differ in size; brought to %dx%d (width x height) by resizing and cropping: %s%s",
            *(source.label, common[1], common[0], ", ".join(names), more),
        )


def _frame_name(source: Source, index: int) -> str:
    return source.paths[index].name if source.is_images else f"frame {index}"


def _strictly_rising(times: np.ndarray) -> np.ndarray:
    """Nudge repeated timestamps, which some files have, a microsecond apart."""
    for i in range(1, len(times)):
        times[i] = max(times[i], times[i - 1] + 1e-6)
    return times
