"""The contract of dynamic masks: which pixels of a clip move on their own.

A way to tell is a class found by entry point (group ``stereo4d.masks``), made without arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from stereo4d import registry
from stereo4d.errors import PluginError
from stereo4d.geometry.camera import pinhole
from stereo4d.geometry.pointmap import estimate_focal
from stereo4d.storage import map_arrays
from stereo4d.video.clip import Clip
from stereo4d.video.flow import FlowPair
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.predictor import Predictor

GROUP = "stereo4d.masks"


@dataclass(frozen=True)
class MaskEvidence:
    """All that masks can be made from; nothing is read, and no flow found, before it is asked for."""

    clip: Clip
    """N frames."""
    paths: tuple[Path, ...]
    """Files of their pairs."""
    flows: FlowCache
    """Optical flow between any two frames."""
    given_intrinsics: np.ndarray | None = None
    """(N, 3, 3) where they are known, at the resolution of the clip, rows of NaN where not."""
    predictor: Predictor | None = None
    """What predicted the pairs, where it is at hand."""
    start: int = 0
    """The frame of the files that the first of the clip's frames is: the clip may be a window of a longer one."""
    rows: dict[tuple[int, int], tuple[Path, int]] = field(init=False)
    """Where each directed pair of two of these frames is stored."""

    def __post_init__(self) -> None:
        found: dict[tuple[int, int], tuple[Path, int]] = {}
        for path in self.paths:
            edges = np.asarray(map_arrays(path)["edges"]) - self.start
            inside = ((edges >= 0) & (edges < len(self.clip))).all(1) & (edges[:, 0] != edges[:, 1])
            found |= {(int(edges[row, 0]), int(edges[row, 1])): (path, int(row)) for row in np.flatnonzero(inside)}
        object.__setattr__(self, "rows", found)

    @property
    def couples(self) -> list[tuple[int, int]]:
        """The pairs of frames, lower first, sorted; flow of neighbours in this list shares a frame."""
        return sorted({(min(pair), max(pair)) for pair in self.rows})

    def has(self, name: str) -> bool:
        """Whether the files hold an array of this name, such as ``dynamics/moving0``."""
        return any(name in map_arrays(path) for path in {path for path, _ in self.rows.values()})

    def read(self, pair: tuple[int, int], name: str) -> np.ndarray:
        """One array of a directed pair, float32."""
        path, row = self.rows[pair]
        return np.array(map_arrays(path)[name][row], np.float32)

    def flow(self, first: int, second: int) -> FlowPair:
        """Flow of two frames; those of couples before this one are let go."""
        found = self.flows.between(first, second)
        self.flows.keep_only([(first, second)])
        return found

    @cached_property
    def intrinsics(self) -> np.ndarray:
        """(N, 3, 3) float64: those known, else one focal for all, the median of what the pairs' first views say."""
        height, width = self.clip.rgb.shape[1:3]
        votes = [self._vote(pair) for pair in self.rows]
        usable = [vote for vote in votes if np.isfinite(vote) and vote > 0]
        focal = float(np.median(usable)) if usable else float(max(height, width))
        lenses = pinhole(torch.full((len(self.clip),), focal, dtype=torch.float64), height, width).numpy()
        if self.given_intrinsics is None:
            return lenses
        return np.where(np.isnan(self.given_intrinsics), lenses, self.given_intrinsics)

    def _vote(self, pair: tuple[int, int]) -> float:
        path, row = self.rows[pair]
        height, width = self.clip.rgb.shape[1:3]
        stride = max(1, max(height, width) // 48)
        points = np.array(map_arrays(path)["pointmap0"][row][::stride, ::stride], np.float32)
        centre = (width / 2 / stride, height / 2 / stride)
        return stride * float(estimate_focal(torch.from_numpy(points)[None], principal_point=centre)[0])


class MaskMaker(ABC):
    """Tells what moves."""

    @abstractmethod
    def moving(self, evidence: MaskEvidence) -> np.ndarray:
        """Which pixels move on their own.

        Args:
            evidence: of N frames of (H, W) pixels.

        Returns:
            (N, H, W) bool.

        Raises:
            UsageError: the evidence does not hold what this way needs.
        """


def load_mask_maker(name: str) -> MaskMaker:
    """The way of that name.

    Raises:
        UsageError: there is none.
        PluginError: the entry point names something else.
    """
    registry.check_installed("--mask-by", GROUP, name, besides=["auto"])
    return registry.load_class(GROUP, name, MaskMaker)()


def checked_masks(masks: np.ndarray, shape: Sequence[int], maker: MaskMaker) -> np.ndarray:
    """Masks as they should be, (N, H, W) bool.

    Raises:
        PluginError: they are of another shape, or of numbers.
    """
    if masks.shape != tuple(shape) or masks.dtype != bool:
        raise PluginError(f"{type(maker).__name__}: masks are {masks.dtype} {masks.shape}, must be bool {tuple(shape)}")
    return masks
