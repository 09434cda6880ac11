"""The contract of pair predictors: they say of two frames where the pixels of both lie, in the first frame's camera.

A predictor is a class found by entry point (group ``stereo4d.predictors``), made without arguments. The network is one
(``network_predictor``); what works without any weights is another. What a predictor finds out about a whole clip (its
focal, its optical flow, its encodings) lives in the ``ClipPredictor`` that it opens, and goes with it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stereo4d import registry
from stereo4d.data.transforms import to_uint8
from stereo4d.errors import InputError, UsageError
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.head_maps import WrittenMaps
from stereo4d.video.pair_graph import DEFAULT_GRAPH, Edge

GROUP = "stereo4d.predictors"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Traits:
    """What is known of a predictor before it has seen anything; a plug-in states what differs from these defaults."""

    size: int = 512
    """Long side, in pixels, of the images it does best with; taken unless the user gives one."""
    patch_size: int = 16
    """Sides of its images are multiples of this many pixels."""
    graph: str = DEFAULT_GRAPH
    """The pair graph it does best with; taken unless the user names one."""
    computes_in: str = "float32"
    """The number format of its arithmetic."""
    licence: str = "not stated"
    """Of the weights, or of the code where there are none."""
    steered: bool = True
    """Whether known intrinsics and the seed change what it says."""
    finds_likeness: bool = False
    """Whether it can say how alike frames look (``Predictor.similarity``), for graphs that go by it."""
    takes_times: bool = False
    """Whether it can say how points move: ``open``, ``cost`` and ``predict_images`` are then given ``query_times``."""
    pair_seconds: float = 2e-6
    """Seconds per pixel of a pair, on two cores; for ``--dry-run``."""
    frame_seconds: float = 0.0
    """Seconds per pixel of a frame that the whole clip takes before its pairs; for ``--dry-run``."""
    pixel_bytes: int = 1000
    """Working memory per pixel of a pair in a batch; for ``--dry-run``."""


@dataclass(frozen=True)
class Identity:
    """What a predictor is, for manifests; every value is plain JSON."""

    name: str
    licence: str
    sha256: str | None = None
    """Of the weights file; None where there is none."""
    format: str | None = None
    """``"pth"`` or ``"safetensors"``; None where there is no weights file."""
    version: str | None = None
    """The package, with its version, that brings a predictor without a weights file."""


@dataclass(frozen=True)
class Cost:
    """What the predictions of a clip will take."""

    seconds: float
    memory_bytes: int
    """While it works, beside the clip's frames."""
    gflop: float | None = None
    """Floating point operations in 1e9, where they can be counted."""
    gflops: float | None = None
    """1e9 operations a second here, where that was measured."""
    further_values: int = 0
    """Numbers a pixel of a view that are stored beside points and confidence."""


class ClipPredictor(ABC):
    """A predictor at work on one clip."""

    batch_size: int = 4
    """How many pairs to ask for at a time; an even number keeps the two ways of a pair together."""
    written: WrittenMaps = WrittenMaps()
    """What its predictions hold among their extras, the same in all of them."""

    @abstractmethod
    def predict(self, edges: Sequence[Edge]) -> PairPrediction:
        """What the pairs show.

        Args:
            edges: positions of (view 0, view 1) in the clip, some of those it was opened with, in their order.

        Returns:
            E pairs, float32, finite everywhere, confidence at least 1; on any device. Motion, if it was asked for, is
            in ``extras[MOTION]``; see ``head_maps``.
        """

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user about this clip (no parallax, a focal that cannot be told); none by default.

        Asked for once, when all pairs are predicted.
        """
        return ()


class Predictor(ABC):
    """Predicts pairs of any clip. Making one is cheap; weights, if there are any, wait until they are needed."""

    @property
    def traits(self) -> Traits:
        """What is known before any clip is; a class attribute of this name does."""
        return Traits()

    @abstractmethod
    def open(
        self,
        clip: Clip,
        edges: Sequence[Edge],
        *,
        intrinsics: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = SILENT,
        query_times: Sequence[float] = (),
    ) -> ClipPredictor:
        """Begin with a clip.

        Args:
            clip: N frames.
            edges: all pairs that will be asked for, as ``pair_graph`` orders them; when an interrupted run goes on,
                those that are left.
            intrinsics: (N, 3, 3) at the resolution of the clip's images where they are known, rows of NaN where not;
                None where nothing is known.
            seed: same seed, same answer.
            progress: told about work on the whole clip.
            query_times: when to say where points move, of every pair: 0 is the time of view 0, 1 that of view 1. Only
                given to predictors whose traits say that they take times.
        """

    def identity(self, weights: str) -> Identity:
        """What it is; of weights, the whole file is read.

        Args:
            weights: the name it goes by: that of its entry point.
        """
        return Identity(weights, self.traits.licence, version=registry.brought_by(GROUP, weights))

    def cost(
        self,
        *,
        frames: int,
        pairs: int,
        size: tuple[int, int],
        by_similarity: bool = False,
        query_times: Sequence[float] = (),
    ) -> Cost:
        """What predicting this many pairs of (H, W) pixels will take, said before any weight is loaded.

        Args:
            frames: N.
            pairs: E.
            size: (H, W) of the clip's images.
            by_similarity: the frames' likeness has to be found first.
            query_times: as for ``open``.
        """
        pixels = size[0] * size[1]
        memory = ClipPredictor.batch_size * pixels * self.traits.pixel_bytes
        return Cost(pixels * (pairs * self.traits.pair_seconds + frames * self.traits.frame_seconds), memory)

    def similarity(self, clip: Clip, *, progress: Progress = SILENT) -> np.ndarray:
        """How alike frames look, (N, N), larger is more; only asked for where ``traits.finds_likeness``."""
        raise NotImplementedError(f"{type(self).__name__} says that it finds likeness, but does not")

    def predict_images(
        self, images0: Tensor, images1: Tensor, *, seed: int = 0, query_times: Sequence[float] = ()
    ) -> PairPrediction:
        """Predict B pairs of images that belong to no clip, each as a clip of two frames.

        What there is to remark about a single pair is logged as a warning; about many it is not said.

        Args:
            images0: (B, 3, H, W) in [-1, 1].
            images1: likewise.
            seed: same seed, same answer.
            query_times: as for ``open``.

        Returns:
            B pairs, float32, on the CPU.

        Raises:
            InputError: first and second images differ in size.
            UsageError: query times are given, and it takes none.
        """
        if query_times:
            self.check_takes_times()
        if images0.shape != images1.shape:
            first, second = ("x".join(map(str, images.shape[:1:-1])) for images in (images0, images1))
            raise InputError(
                f"two images of one camera are needed, of one size; they are {first} and {second} pixels here: crop or "
                "resize one, or use a network (--weights embedded)"
            )
        predictions = []
        for image0, image1 in zip(images0, images1, strict=True):
            asked: dict[str, Any] = {"query_times": query_times} if query_times else {}
            at_work = self.open(clip_of_two(image0, image1), [(0, 1)], seed=seed, **asked)
            predictions.append(at_work.predict([(0, 1)]))
            for remark in at_work.remarks() if len(images0) == 1 else ():
                log.warning("%s", remark)

        return _joined([prediction.on_cpu() for prediction in predictions])

    def check_takes_times(self) -> None:
        """Refuse query times of a predictor that takes none.

        Raises:
            UsageError: it takes none.
        """
        if not self.traits.takes_times:
            raise UsageError(
                f"query times were given, but {type(self).__name__} has no head that says how points move (motion); "
                "leave them out, or take weights with a motion head"
            )


def _joined(predictions: Sequence[PairPrediction]) -> PairPrediction:
    """Several predictions as one."""

    def joined(name: str) -> Tensor:
        """One map of all pairs."""
        return torch.cat([getattr(prediction, name) for prediction in predictions])

    extras = {
        head: {name: torch.cat([one.extras[head][name] for one in predictions]) for name in maps}
        for head, maps in predictions[0].extras.items()
    }
    return PairPrediction(
        joined("pointmap0"), joined("confidence0"), joined("pointmap1"), joined("confidence1"), extras
    )


def clip_of_two(image0: Tensor, image1: Tensor) -> Clip:
    """Two images, (3, H, W) in [-1, 1], as a clip whose pixels are their own original, a second apart."""
    rgb = np.stack([to_uint8(image0), to_uint8(image1)])
    sizes, maps = np.tile(rgb.shape[1:3], (2, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (2, 1))
    return Clip(rgb, np.arange(2.0), np.arange(2), sizes.astype(np.int64), maps)
