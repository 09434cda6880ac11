"""Optical flow of a clip's pairs: found once for both directions, dropped when both frames have used it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stereo4d.video.flow import Flow, FlowPair, flow_pair


class FlowCache:
    """Flow between frames of a clip."""

    def __init__(self, flow: Flow, rgb: np.ndarray) -> None:
        """Begin empty.

        Args:
            flow: which flow.
            rgb: (N, H, W, 3) uint8.
        """
        self._flow = flow
        self._rgb = rgb
        self._held: dict[tuple[int, int], FlowPair] = {}
        self.found = 0
        """Pairs of frames whose flow was found so far."""
        self.peak = 0
        """The most pairs that were held at once."""

    def between(self, first: int, second: int) -> FlowPair:
        """Flow whose view 0 is the first frame."""
        key = (min(first, second), max(first, second))
        if key not in self._held:
            self._held[key] = flow_pair(self._flow, self._rgb[key[0]], self._rgb[key[1]])
            self.found += 1
            self.peak = max(self.peak, len(self._held))
        pair = self._held[key]
        return pair if first < second else pair.swapped()

    def keep_only(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Drop all pairs but these, in either order."""
        keys = {(min(pair), max(pair)) for pair in wanted}
        self._held = {key: pair for key, pair in self._held.items() if key in keys}
