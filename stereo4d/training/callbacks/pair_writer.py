"""What ``stereo4d predict`` leaves behind: pair predictions as files that the rest of the house reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from stereo4d.data.pair_batch import PairBatch
from stereo4d.errors import UsageError
from stereo4d.network.stereo import StereoNetwork
from stereo4d.storage import save_arrays
from stereo4d.training.network_module import NetworkModule
from stereo4d.types import PairPrediction
from stereo4d.video.head_maps import WrittenMaps
from stereo4d.video.inference import PredictedBatch
from stereo4d.video.network_maps import maps_written
from stereo4d.video.prediction_files import FRAMES_FILE, ShardWriter, shards

log = logging.getLogger(__name__)


class PairWriter(BasePredictionWriter):
    """Writes predictions as ``pairs-*.safetensors``, and their images as ``frames.safetensors``, in one folder.

    Pair p is of frames 2p and 2p + 1; the metadata of the frames' file say the pairs' ``names``. Where several
    processes predict, each has a folder of its own, ``rank-R``.

    Args:
        folder: where to; by default ``pairs`` in the trainer's root folder.
        exact: float32, otherwise float16.
    """

    def __init__(self, folder: str | None = None, *, exact: bool = False) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.exact = exact
        self._names: list[str] = []
        self._frames: list[np.ndarray] = []
        self._shards: ShardWriter | None = None

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """See that the folder is free.

        Raises:
            UsageError: it holds predictions already.
        """
        folder = self._place(trainer)
        if shards(folder):
            raise UsageError(f"{folder} holds pair predictions already; choose another folder, or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        self._names, self._frames = [], []
        self._shards = ShardWriter(folder, exact=self.exact)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        prediction: PairPrediction,
        batch_indices: Sequence[int] | None,
        batch: PairBatch,
        batch_index: int,
        dataloader_index: int,
    ) -> None:
        """Take a batch; see ``BasePredictionWriter``."""
        assert self._shards is not None
        assert isinstance(module, NetworkModule)
        first = len(self._names)
        edges = tuple((2 * pair, 2 * pair + 1) for pair in range(first, first + len(batch.names)))
        self._names += batch.names
        images = torch.stack([batch.image0, batch.image1], 1).flatten(0, 1).permute(0, 2, 3, 1)  # (2B, H, W, 3)
        self._frames.append(((images.cpu() + 1) * 127.5).round().clamp(0, 255).byte().numpy())
        self._shards.add(PredictedBatch(edges, *_told(module.network, prediction, batch)))

    def on_predict_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write what is left, and the images."""
        assert self._shards is not None
        self._shards.flush()
        if not self._frames:
            return
        rgb = np.concatenate(self._frames)
        count, (height, width) = len(rgb), rgb.shape[1:3]
        arrays = {
            "rgb": rgb,
            "times": np.arange(count, dtype=np.float64),
            "frame_indices": np.arange(count),
            "original_sizes": np.tile(np.array([height, width]), (count, 1)),
            "pixel_maps": np.tile(np.array([1.0, 1.0, 0.0, 0.0]), (count, 1)),
        }
        metadata = {"failed": "[]", "names": json.dumps(self._names)}
        save_arrays(self._place(trainer) / FRAMES_FILE, arrays, metadata)
        log.info("%d pairs are in %s", len(self._names), self._place(trainer))

    def _place(self, trainer: L.Trainer) -> Path:
        folder = Path(self.folder or Path(trainer.default_root_dir) / "pairs")
        return folder / f"rank-{trainer.global_rank}" if trainer.world_size > 1 else folder


def _told(network: Any, prediction: PairPrediction, batch: PairBatch) -> tuple[PairPrediction, WrittenMaps]:
    """A prediction with what its maps are; those at times that differ from pair to pair have no place in such files."""
    if not isinstance(network, StereoNetwork):
        raise UsageError(f"PairWriter writes what a two-view network predicts, not a {type(network).__name__}")
    times = batch.times.cpu()
    if not times.shape[1] or not network.takes_times:
        return prediction, maps_written(network, ())
    if bool((times == times[0]).all()):
        return prediction, maps_written(network, tuple(times[0].tolist()))
    kept = set(network.heads_asked(None)) | {network.downstream_head1.extras_name}
    extras = {name: maps for name, maps in prediction.extras.items() if name in kept}
    log.warning("query times differ from pair to pair: maps at these times are not written")
    return replace(prediction, extras=extras), maps_written(network, ())
