"""Depths and masks from files of several formats, brought to network resolution (docs/known.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from stereo4d.errors import InputError
from stereo4d.types import PixelMap
from stereo4d.video.frame_matching import FrameGeometry, Rows, npz_rows, resized, row_names, same_aspect
from stereo4d.video.outside_files import Npz, existing_file, list_folder, open_npy

_HAIR = 1e-6  # of a pixel: less than that is rounding


@dataclass(frozen=True)
class MapsFile:
    """Maps of pixels as files give them, one a frame."""

    rows: Rows
    read: Callable[[int], np.ndarray]
    """The map (h, w) of a row."""
    files: tuple[Path, ...]
    """What is read."""

    def maps(self, frames: FrameGeometry) -> Iterator[tuple[int, np.ndarray, PixelMap]]:
        """The maps of a clip's frames, one by one.

        Yields:
            Position in the clip, the map (h, w), and where the network's pixels lie in it.

        Raises:
            InputError: nothing for any frame, or a file cannot be used.
        """
        positions, rows = self.rows.match(frames)
        for position, row in zip(positions.tolist(), rows.tolist(), strict=True):
            values = self.read(row)
            size = (values.shape[0], values.shape[1])
            yield position, values, _from_network(size, frames, position, f"{self.rows.path}: {self.rows.names[row]}")


def open_depths(path: Path) -> MapsFile:
    """Depth maps by frame: finite and above 0 where measured, in the unit of the poses; metres from 16-bit images.

    Raises:
        InputError: the folder or file cannot be used.
    """
    readers = {
        ".npy": _npy_depth,
        ".npz": lambda file: _depth_of(Npz(file).read("depth"), str(file)),
        ".png": _png_depth,
    }
    if os.path.isdir(path):  # unlike Path.is_dir, not put out by names that cannot be
        return _folder(path, readers, "depths")
    return _array(existing_file(path), "depth", _depth_of)


def open_masks(path: Path) -> MapsFile:
    """Masks by frame; true, or not zero, is ignored.

    Raises:
        InputError: the folder or file cannot be used.
    """
    readers = {".npy": _npy_mask, ".npz": lambda file: _mask_of(Npz(file).read("mask"), str(file)), ".png": _png_mask}
    if os.path.isdir(path):
        return _folder(path, readers, "masks")
    if existing_file(path).suffix.lower() == ".png":
        rows = Rows(path, (path.name,), for_all=True)
        return MapsFile(rows, cache(lambda row: _png_mask(path)), (path,))
    return _array(path, "mask", _mask_of)


def nearest(depth: np.ndarray, from_network: PixelMap, size: tuple[int, int]) -> np.ndarray:
    """Depth at network resolution: that of the nearest pixel, for between two surfaces there is none.

    Args:
        depth: (h, w).
        from_network: from network pixels to those of ``depth``.
        size: (H, W) of the network's images.

    Returns:
        (H, W) float32; 0 where nothing was measured.
    """
    v, inside_v = _nearest_pixels(from_network.scale_v, from_network.offset_v, size[0], depth.shape[0])
    u, inside_u = _nearest_pixels(from_network.scale_u, from_network.offset_u, size[1], depth.shape[1])
    with np.errstate(over="ignore"):  # beyond float32 is as good as infinite
        taken = np.asarray(depth[v[:, None], u[None]], np.float32)
    measured = np.isfinite(taken) & (taken > 0) & inside_v[:, None] & inside_u[None]
    return np.where(measured, taken, np.float32(0))


def any_covered(mask: np.ndarray, from_network: PixelMap, size: tuple[int, int]) -> np.ndarray:
    """A mask at network resolution: a pixel is ignored if any pixel that it covers is, if only in part.

    Args:
        mask: (h, w) bool.
        from_network: from network pixels to those of ``mask``.
        size: (H, W) of the network's images.

    Returns:
        (H, W) bool.
    """
    top, bottom = _covered_pixels(from_network.scale_v, from_network.offset_v, size[0], mask.shape[0])
    left, right = _covered_pixels(from_network.scale_u, from_network.offset_u, size[1], mask.shape[1])
    # Sums over rectangles from a table of sums from the corner (Crow 1984).
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    table[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    counts = table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
    return counts > 0


def _nearest_pixels(scale: float, offset: float, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: the pixel (limit of them) nearest to each network pixel, and whether it lies in the image."""
    place = np.floor(scale * np.arange(count) + offset + 0.5 + _HAIR).astype(np.int64)
    # Half a pixel over the edge comes from rounding sizes to whole pixels.
    inside = (place >= -1) & (place <= limit)
    return place.clip(0, limit - 1), inside


def _covered_pixels(scale: float, offset: float, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: first pixel, and the one after the last, that each network pixel covers."""
    centre = scale * np.arange(count) + offset + 0.5
    first = np.floor(centre - scale / 2 + _HAIR).astype(np.int64).clip(0, limit - 1)
    end = np.ceil(centre + scale / 2 - _HAIR).astype(np.int64).clip(1, limit)
    return first, np.maximum(end, first + 1)


def _from_network(size: tuple[int, int], frames: FrameGeometry, position: int, where: str) -> PixelMap:
    """From network pixels to those of a map of this (height, width)."""
    original = (int(frames.original_sizes[position][0]), int(frames.original_sizes[position][1]))
    if size != original and size == frames.network_size:
        return PixelMap()
    if not same_aspect(size, original):
        raise InputError(
            f"{where}: is {size[1]}x{size[0]} (width x height); the clip's frame is {original[1]}x{original[0]}, the "
            f"network's {frames.network_size[1]}x{frames.network_size[0]}; give maps of one of these, or of that shape"
        )
    return frames.pixel_maps[position].then(resized(original, size))


def _folder(path: Path, readers: dict[str, Callable[[Path], np.ndarray]], what: str) -> MapsFile:
    """A file a frame, all of one kind: that which comes first among the readers."""
    listed = list_folder(path)
    for suffix, reader in readers.items():
        named = [(re.search(r"(\d{1,15})$", file.stem), file) for file in listed if file.suffix.lower() == suffix]
        numbered = sorted((int(match[1]), file) for match, file in named if match)
        if not numbered:
            continue
        frames = np.array([frame for frame, _ in numbered], np.int64)
        files = tuple(file for _, file in numbered)
        rows = Rows(path, tuple(file.name for file in files), frames=frames)
        return MapsFile(rows, partial(_read_one, reader, files), files)
    raise InputError(
        f"{path}: no {what} in this folder; it needs a file for each frame ({' or '.join(readers)}) whose name ends in "
        "the frame's number, such as 000012.png"
    )


def _read_one(reader: Callable[[Path], np.ndarray], files: tuple[Path, ...], row: int) -> np.ndarray:
    return reader(files[row])


def _array(path: Path, name: str, check: Callable[[np.ndarray, str], np.ndarray]) -> MapsFile:
    """All frames in one array (frames, h, w)."""
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        shape, rows = array.shape, None

        def read_all() -> np.ndarray:
            """The array that is open already."""
            return array
    elif path.suffix.lower() == ".npz":
        file = Npz(path)
        shape, read_all = file.shape(name), cache(lambda: file.read(name))
        rows = npz_rows(file, shape[0]) if len(shape) == 3 else None
    else:
        kinds = "a folder, .npy or .npz" + (" or .png" if name == "mask" else "")
        raise InputError(f"{path}: {name}s come as {kinds}, not {path.suffix!r}")
    if name == "mask" and len(shape) == 2:
        return MapsFile(Rows(path, ("the mask",), for_all=True), lambda row: check(read_all(), str(path)), (path,))
    if len(shape) != 3 or not all(shape):
        raise InputError(f"{path}: is {shape}; {name}s in one array are (frames, height, width)")
    rows = rows or Rows(path, row_names(shape[0]))
    return MapsFile(rows, lambda row: check(read_all()[row], f"{path}: row {row}"), (path,))


def _npy_depth(path: Path) -> np.ndarray:
    return _depth_of(open_npy(path), str(path))


def _npy_mask(path: Path) -> np.ndarray:
    return _mask_of(open_npy(path), str(path))


def _depth_of(depth: np.ndarray, where: str) -> np.ndarray:
    _check_map(depth, where)
    if depth.dtype.kind != "f":
        raise InputError(f"{where}: depth of {depth.dtype}, whose unit nobody can know; save it as float")
    return depth


def _mask_of(mask: np.ndarray, where: str) -> np.ndarray:
    _check_map(mask, where)
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise InputError(f"{where}: a mask must be of finite numbers, 0 where a pixel counts")
    return np.asarray(mask != 0)


def _check_map(values: np.ndarray, where: str) -> None:
    if values.ndim != 2 or not values.size:
        raise InputError(f"{where}: is {values.shape}; it must be (height, width)")


def _png_depth(path: Path) -> np.ndarray:
    """16-bit millimetres to metres."""
    from stereo4d.data.transforms import open_image

    picture = open_image(path, mode=None)
    if picture.mode not in ("I", "I;16", "I;16B"):
        raise InputError(f"{path}: depth images have 16 bits of grey, in millimetres; this one is {picture.mode!r}")
    return np.asarray(picture, np.float32) / 1000


def _png_mask(path: Path) -> np.ndarray:
    from stereo4d.data.transforms import open_image

    picture = open_image(path, mode=None)
    if picture.mode not in ("1", "L", "P", "RGB", "I", "I;16", "I;16B"):
        raise InputError(f"{path}: an image of kind {picture.mode!r}; masks are grey, without transparency")
    values = np.asarray(picture)
    return np.asarray(values != 0) if values.ndim == 2 else np.asarray((values != 0).any(-1))
