"""One reconstruction, decided but not begun: which frames, which pairs, which network, at which size, where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from stereo4d import __version__
from stereo4d.data.transforms import plan_fit
from stereo4d.errors import InputError
from stereo4d.network.config import StereoConfig
from stereo4d.network.precision import choose, resolve_device
from stereo4d.network.weights import CheckpointInfo, inspect, read_checkpoint
from stereo4d.video.aligning import load_solver, settings_of
from stereo4d.video.clip import Size, common_size
from stereo4d.video.frames import Listing
from stereo4d.video.options import Options
from stereo4d.video.pair_graph import Edge, goes_by_similarity, most_pairs, pair_graph
from stereo4d.video.plan import Plan, make_plan
from stereo4d.video.sources import Source, sha256


@dataclass(frozen=True)
class Job:
    """Everything that is known before the first frame is kept and the first weight is loaded."""

    source: Source
    options: Options
    listing: Listing
    indices: tuple[int, ...]
    """Frames to take, rising."""
    config: StereoConfig
    size: int
    """Long side at network size, in pixels."""
    device: torch.device
    dtype: torch.dtype
    """What encoder and decoder compute in."""

    @property
    def exact(self) -> bool:
        """Whether predictions are stored in float32."""
        return self.options.precision == "exact"

    @property
    def original_size(self) -> Size:
        """(height, width) that frames are brought to before they are resized for the network."""
        return common_size(self.listing, self.indices)

    @property
    def network_size(self) -> Size:
        """(H, W) of the network's images."""
        height, width = self.original_size
        return plan_fit(width, height, self.size, patch_size=self.config.patch_size).size

    @property
    def goes_by_similarity(self) -> bool:
        """Whether which pairs there are depends on how alike frames look."""
        return goes_by_similarity(self.options.graph)

    def edges(self, num_frames: int, similarity: np.ndarray | None = None) -> list[Edge]:
        """The pairs among this many frames; see ``pair_graph``."""
        return pair_graph(self.options.graph, num_frames, similarity=similarity)

    def plan(self) -> Plan:
        """What this job will cost."""
        return make_plan(
            self.config,
            frames=len(self.indices),
            span=self.indices[-1] - self.indices[0] + 1,
            pairs=most_pairs(self.options.graph, len(self.indices)),
            pairs_are_most=self.goes_by_similarity,
            size=self.network_size,
            original_size=self.original_size,
            device=self.device,
            dtype=self.dtype,
            exact=self.exact,
        )

    @cached_property
    def input_sha256(self) -> str:
        """Checksum of the input; the whole of it is read."""
        return sha256(self.source)

    @cached_property
    def checkpoint(self) -> CheckpointInfo:
        """What the weights are, with checksum and licence; the whole file is read."""
        return inspect(self.options.weights)

    def settings(self) -> dict[str, Any]:
        """All that decides what frames and predictions look like, as plain values."""
        return {
            "stereo4d": __version__,
            "input_sha256": self.input_sha256,
            "selection": asdict(self.options.selection),
            "graph": self.options.graph,
            "size": self.size,
            "network_size": list(self.network_size),
            "weights_sha256": self.checkpoint.sha256,
            "precision": self.options.precision,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def alignment_settings(self) -> dict[str, Any]:
        """All that decides how the pairs are brought into one world, as plain values; frames and predictions stay."""
        return settings_of(self.options.alignment, self.options.known, self.options.seed)


def open_job(source: Source, listing: Listing, options: Options) -> Job:
    """Look at weights and machine, cheaply, and decide.

    Args:
        source: the clip.
        listing: what ``frames.describe`` said about it.
        options: what the user chose.

    Raises:
        InputError: the selection leaves no frame, or a file of what is known cannot be used.
        CheckpointError: the weights cannot be used.
        GraphError: the pair graph cannot be.
        UsageError: an option is wrong.
    """
    options.known.check()
    load_solver(options.alignment.solver)
    device = resolve_device(options.device)
    dtype = choose(options.precision, device).reduced or torch.float32
    indices = tuple(options.selection.choose(listing.times))
    if not indices:
        raise InputError(
            f"{source.label}: no frame lies between --start and --end; its {len(listing.times)} frames span "
            f"{listing.times[0]:.3f} to {listing.times[-1]:.3f} s"
        )
    config = StereoConfig.from_json(read_checkpoint(options.weights).options)
    size = options.size or max(config.img_size)
    job = Job(source, options, listing, indices, config, size, device, dtype)
    # Both can fail: better now than after the work.
    _ = job.network_size, most_pairs(options.graph, len(indices))
    return job
