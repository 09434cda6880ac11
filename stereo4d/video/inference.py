"""Run the network on the pairs of a clip, encoding every frame once.

Encodings wait in a cache for the pairs that need them and leave it after the last one. With edges ordered as
``pair_graph`` orders them, the cache never holds more than the window and one batch, however long the clip is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.network.stereo import Encoded, StereoNetwork
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import Edge

_CPU_TOKENS = 4096  # tokens of first views in a batch: beyond it a CPU gains nothing
_CUDA_SHARE = 0.5  # of the free memory that a batch may fill
_BYTES_PER_PIXEL = 6000  # working memory of a float32 DPT head and decoder for one pair, per pixel, rounded up


@dataclass(frozen=True)
class PredictedBatch:
    """A batch of pairs with what the network says about them."""

    edges: tuple[Edge, ...]
    """Positions of (view 0, view 1) in the clip."""
    prediction: PairPrediction
    """On the CPU, float32, in the order of ``edges``."""


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


def predict_pairs(
    network: StereoNetwork,
    clip: Clip,
    edges: Sequence[Edge],
    *,
    batch_size: int | None = None,
    progress: Progress = SILENT,
) -> Iterator[PredictedBatch]:
    """Predict all pairs, batch by batch, in the order of ``edges``.

    Args:
        network: in eval mode, on the device to work on.
        clip: the frames.
        edges: positions of (view 0, view 1) in the clip, as ``pair_graph`` orders them.
        batch_size: pairs at a time; by default as many as suit the device.
        progress: told about every pair.
    """
    if batch_size is None:
        height, width = clip.rgb.shape[1:3]
        batch_size = suitable_batch(next(network.parameters()).device, height, width, network.config.patch_size)
    cache = EncodingCache(network, clip, edges)
    with progress.stage("pairs", len(edges), "pair") as stage:
        for start in range(0, len(edges), batch_size):
            batch = tuple(edges[start : start + batch_size])
            with torch.inference_mode():
                prediction = network.predict(*cache.take(batch))
            yield PredictedBatch(batch, on_cpu(prediction))
            stage.advance(len(batch))


def suitable_batch(device: torch.device, height: int, width: int, patch_size: int = 16) -> int:
    """How many pairs of this size a device takes at a time."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(32, max(1, _CUDA_SHARE * free // (_BYTES_PER_PIXEL * height * width))))
    tokens = (height // patch_size) * (width // patch_size)
    return min(16, max(1, _CPU_TOKENS // tokens))


def on_cpu(prediction: PairPrediction) -> PairPrediction:
    """The same prediction as float32 tensors in main memory."""

    def plain(value: Tensor) -> Tensor:
        return value.float().cpu()

    return PairPrediction(
        plain(prediction.pointmap0),
        plain(prediction.confidence0),
        plain(prediction.pointmap1),
        plain(prediction.confidence1),
        {head: {name: plain(value) for name, value in maps.items()} for head, maps in prediction.extras.items()},
    )
