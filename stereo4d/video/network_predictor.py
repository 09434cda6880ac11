"""The network as a pair predictor; on a clip it encodes every frame once.

Encodings wait in a cache for the pairs that need them and leave it after the last one. With edges ordered as
``pair_graph`` orders them, the cache never holds more than the window and one batch, however long the clip is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from stereo4d.network.precision import choose
from stereo4d.network.stereo import Encoded, StereoNetwork
from stereo4d.network.weights import inspect, load_model, read_checkpoint, stereo_config
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.network_cost import network_cost, suitable_batch
from stereo4d.video.network_maps import maps_written, predict_with_motion, takes_times
from stereo4d.video.pair_graph import Edge
from stereo4d.video.predictor import ClipPredictor, Cost, Identity, Predictor, Traits
from stereo4d.video.similarity import frame_similarity


class EncodingCache:
    """Encodings of frames, each made once and dropped after its last pair."""

    def __init__(self, network: StereoNetwork, clip: Clip, edges: Sequence[Edge]) -> None:
        self._network = network
        self._clip = clip
        self._device = next(network.parameters()).device
        self._pairs_left = Counter(frame for edge in edges for frame in edge)
        self._held: dict[int, Encoded] = {}
        self.encoded = 0
        """Frames encoded so far."""
        self.peak = 0
        """The most encodings that were held at once."""

    def take(self, edges: Sequence[Edge]) -> tuple[Encoded, Encoded]:
        """First views and second views of some pairs, each as one batch."""
        missing = sorted({frame for edge in edges for frame in edge} - self._held.keys())
        if missing:
            batch = self._network.encode(self._clip.images(missing).to(self._device))
            self._held |= {frame: batch.select([slot]) for slot, frame in enumerate(missing)}
            self.encoded += len(missing)
            self.peak = max(self.peak, len(self._held))
        views = [Encoded.stack([self._held[edge[side]] for edge in edges]) for side in (0, 1)]
        for frame in (frame for edge in edges for frame in edge):
            self._pairs_left[frame] -= 1
            if not self._pairs_left[frame]:
                del self._held[frame]
        return views[0], views[1]


class NetworkOnClip(ClipPredictor):
    """A network at work on one clip."""

    def __init__(
        self, network: StereoNetwork, clip: Clip, edges: Sequence[Edge], query_times: Sequence[float] = ()
    ) -> None:
        self._device = next(network.parameters()).device
        height, width = clip.rgb.shape[1:3]
        self.batch_size = suitable_batch(
            self._device, height, width, network.config.patch_size, maps=max(1, len(query_times))
        )
        self.cache = EncodingCache(network, clip, edges)
        """What it has encoded of the clip."""
        self.written = maps_written(network, query_times)
        self._network = network

    def predict(self, edges: Sequence[Edge]) -> PairPrediction:
        """See ``ClipPredictor.predict``."""
        times = _times(self.written.query_times, len(edges), self._device)
        with torch.inference_mode():
            predict = partial(self._network.predict_encoded, *self.cache.take(edges))
            return predict_with_motion(self._network, predict, times)


class NetworkPredictor(Predictor):
    """A two-view network from a weights file; the file's description is read at once, its tensors when first needed."""

    def __init__(self, weights: str, *, device: torch.device, precision: str = "auto") -> None:
        """Look at a weights file.

        Args:
            weights: ``"embedded"``, a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors``.
            device: where the network shall run.
            precision: see ``network.precision.choose``.

        Raises:
            CheckpointError: the file cannot be used.
        """
        self.device = device
        self.config = stereo_config(read_checkpoint(weights))
        self._weights, self._precision = weights, precision
        self._dtype = choose(precision, device).reduced or torch.float32

    @property
    def traits(self) -> Traits:
        """See ``Predictor.traits``; the licence is that of the file, which ``identity`` tells."""
        return Traits(
            size=max(self.config.img_size),
            patch_size=self.config.patch_size,
            computes_in=str(self._dtype).removeprefix("torch."),
            steered=False,
            finds_likeness=True,
            takes_times=takes_times(self.config),
        )

    @cached_property
    def network(self) -> StereoNetwork:
        """The network, loaded when it is first asked for."""
        return load_model(self._weights, device=self.device, precision=self._precision)

    def open(
        self,
        clip: Clip,
        edges: Sequence[Edge],
        *,
        intrinsics: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = SILENT,
        query_times: Sequence[float] = (),
    ) -> NetworkOnClip:
        """See ``Predictor.open``; a network has no use for known intrinsics."""
        return NetworkOnClip(self.network, clip, edges, query_times)

    def identity(self, weights: str) -> Identity:
        """See ``Predictor.identity``."""
        info = inspect(self._weights)
        return Identity(info.name, info.licence, info.sha256, info.format)

    def cost(
        self,
        *,
        frames: int,
        pairs: int,
        size: tuple[int, int],
        by_similarity: bool = False,
        query_times: Sequence[float] = (),
    ) -> Cost:
        """See ``Predictor.cost``; the work is counted, and the machine's speed probed."""
        # To know how alike frames look, they are encoded once more.
        encodings = frames * (2 if by_similarity else 1)
        return network_cost(
            self.config, encodings, pairs, size, device=self.device, dtype=self._dtype, query_times=query_times
        )

    def similarity(self, clip: Clip, *, progress: Progress = SILENT) -> np.ndarray:
        """See ``Predictor.similarity``."""
        return frame_similarity(self.network, clip, progress=progress)

    def predict_images(
        self, images0: Tensor, images1: Tensor, *, seed: int = 0, query_times: Sequence[float] = ()
    ) -> PairPrediction:
        """See ``Predictor.predict_images``; a network takes first and second images of two sizes as well."""
        if query_times:
            self.check_takes_times()
        times = _times(query_times, len(images0), self.device)
        first, second = images0.to(self.device), images1.to(self.device)
        with torch.inference_mode():
            return predict_with_motion(
                self.network, lambda asked: self.network(first, second, times=asked), times
            ).on_cpu()


def _times(query_times: Sequence[float], pairs: int, device: torch.device) -> Tensor | None:
    """(E, Q) the same times for every pair; None where there are none."""
    return torch.tensor([list(query_times)] * pairs, device=device) if query_times else None
