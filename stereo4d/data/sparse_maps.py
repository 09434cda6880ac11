"""Pointmaps and motion from tracks: sparse maps whose pixels each belong to one track."""

from __future__ import annotations

import numpy as np


def winning_tracks(points: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which track each pixel shows: the nearest of those whose projection falls into it.

    Args:
        points: (N, 3) in the camera's frame; NaN where a track is not seen.
        intrinsics: (3, 3) pixels, pixel centres at integers.
        size: (H, W) of the image.

    Returns:
        (H, W) int64 numbers of tracks; -1 where there is none. Of equally near ones the first wins.
    """
    height, width = size
    known = np.flatnonzero(np.isfinite(points).all(1) & (points[:, 2] > 0))
    depth = points[known, 2]
    pixels = points[known, :2] / depth[:, None] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    column, row = np.floor(pixels + 0.5).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    known, depth = known[inside], depth[inside]
    place = row[inside].astype(np.int64) * width + column[inside].astype(np.int64)
    order = np.lexsort((known, depth, place))
    places, first = np.unique(place[order], return_index=True)
    winners = np.full(height * width, -1, dtype=np.int64)
    winners[places] = known[order][first]
    return winners.reshape(size)


def of_tracks(values: np.ndarray, winners: np.ndarray) -> np.ndarray:
    """(H, W, ...) float64 values (N, ...) of the tracks that pixels show; NaN where there is none."""
    none = np.full((1, *values.shape[1:]), np.nan)
    return np.concatenate([values, none])[winners]  # -1 is the last
