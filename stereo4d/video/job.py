"""One reconstruction, decided but not begun: which frames, which pairs, which predictor, at which size, where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from stereo4d import __version__
from stereo4d.data.transforms import plan_fit
from stereo4d.errors import InputError, UsageError
from stereo4d.network.precision import resolve_device
from stereo4d.video.aligning import load_solver, settings_of
from stereo4d.video.choosing import Choice, choose_weights
from stereo4d.video.clip import Size, common_size
from stereo4d.video.flow import load_flow
from stereo4d.video.frames import Listing
from stereo4d.video.head_maps import query_times_of
from stereo4d.video.motion import check_motion
from stereo4d.video.options import Options
from stereo4d.video.pair_graph import Edge, goes_by_similarity, most_pairs, pair_graph, window_graph
from stereo4d.video.plan import FlowWork, Plan, make_plan
from stereo4d.video.predictor import Identity, Predictor
from stereo4d.video.predictors import load_predictor
from stereo4d.video.sources import Source, sha256
from stereo4d.video.ways import way_of


@dataclass(frozen=True)
class Job:
    """Everything that is known before the first frame is kept and the first weight is loaded."""

    source: Source
    options: Options
    listing: Listing
    indices: tuple[int, ...]
    """Frames to take, rising."""
    choice: Choice
    """What predicts the pairs, as the user named it or by a look at the clip."""
    predictor: Predictor
    size: int
    """Long side at network size, in pixels."""
    device: torch.device
    shot: tuple[int, int] | None = None
    """First and last frame of the input's shot that this is; None where the job is a whole clip's."""

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
        return plan_fit(width, height, self.size, patch_size=self.predictor.traits.patch_size).size

    @property
    def graph(self) -> str:
        """The pair graph's name: the user's, or what the alignment asks for, or what the predictor does best with."""
        return self.options.graph or way_of(self.options.alignment).graph or self.predictor.traits.graph

    @property
    def goes_by_similarity(self) -> bool:
        """Whether which pairs there are depends on how alike frames look."""
        return goes_by_similarity(self.graph)

    @property
    def query_times(self) -> tuple[float, ...]:
        """When, between the frames of a pair, to ask where points are; nothing of predictors that cannot tell."""
        return query_times_of(self.options.query_times) if self.predictor.traits.takes_times else ()

    def asked_of_predictor(self) -> dict[str, Any]:
        """Arguments for predictors that take query times; others need not know of these."""
        return {"query_times": self.query_times} if self.query_times else {}

    def edges(self, num_frames: int, similarity: np.ndarray | None = None) -> list[Edge]:
        """The pairs among this many frames; see ``pair_graph``."""
        return pair_graph(self.graph, num_frames, similarity=similarity)

    def plan(self) -> Plan:
        """What this job will cost."""
        frames, pairs, size = len(self.indices), most_pairs(self.graph, len(self.indices)), self.network_size
        asked = {"by_similarity": self.goes_by_similarity, **self.asked_of_predictor()}
        return make_plan(
            self.predictor.cost(frames=frames, pairs=pairs, size=size, **asked),
            predictor=self.choice.words(),
            frames=frames,
            span=self.indices[-1] - self.indices[0] + 1,
            pairs=pairs,
            pairs_are_most=self.goes_by_similarity,
            size=size,
            original_size=self.original_size,
            exact=self.exact,
            query_times=self.query_times,
            windows=self.windows(),
            flow=self.flow_work(),
        )

    def flow_work(self) -> FlowWork:
        """What optical flow is asked for, window by window."""
        options, frames = self.options.alignment, len(self.indices)
        if options.motion == "off" or "motion" not in way_of(options).takes or frames < 2:
            return FlowWork()
        edges = self._edges_at_most()
        couples = np.unique(np.sort([edge for edge in edges if edge[0] != edge[1]], axis=1), axis=0)
        windows = way_of(options).plan(options, frames, edges, self.network_size)
        pairs = sum(int(((couples >= one.start) & (couples < one.stop)).all(1).sum()) for one in windows)
        return FlowWork(pairs, options.motion == "auto", load_flow(options.flow).seconds_per_pixel)

    def _edges_at_most(self) -> list[Edge]:
        """The pairs, or such as there may be where that depends on how alike frames look."""
        frames = len(self.indices)
        return window_graph(frames) if self.goes_by_similarity else self.edges(frames)

    def windows(self) -> tuple[int, ...]:
        """Frames of each window that the clip is solved in; empty where it is solved at once.

        Raises:
            UsageError: windows of these sizes cannot be.
        """
        options = self.options.alignment
        planned = way_of(options).plan(options, len(self.indices), self._edges_at_most(), self.network_size)
        return tuple(len(window) for window in planned) if len(planned) > 1 else ()

    @cached_property
    def input_sha256(self) -> str:
        """Checksum of the input; the whole of it is read."""
        return sha256(self.source)

    @cached_property
    def identity(self) -> Identity:
        """What the predictor is, with licence and, of weights, checksum; the whole file is read."""
        return self.predictor.identity(self.choice.weights)

    def settings(self) -> dict[str, Any]:
        """All that decides what frames and predictions look like, as plain values."""
        return {
            "stereo4d": __version__,
            "input_sha256": self.input_sha256,
            "selection": asdict(self.options.selection),
            "graph": self.graph,
            "size": self.size,
            "network_size": list(self.network_size),
            "weights_sha256": self.identity.sha256,
            "predictor": None if self.identity.sha256 else f"{self.identity.name} ({self.identity.version})",
            "precision": self.options.precision,
            "dtype": self.predictor.traits.computes_in,
            "steered_by": self._steering() if self.predictor.traits.steered else None,
            "query_times": list(self.query_times),
            **({"shot": list(self.shot)} if self.shot else {}),
        }

    def _steering(self) -> dict[str, Any]:
        """What beside frames and weights decides what the predictor says."""
        intrinsics = self.options.known.settings().get("intrinsics", {})
        return {"seed": self.options.seed, "intrinsics_sha256": intrinsics.get("sha256")}

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
        PluginError: the predictor cannot be used.
        UsageError: an option is wrong, or asks for what the predictor cannot do.
    """
    options.known.check()
    way = way_of(options.alignment, options.known)
    load_solver(options.alignment.solver)
    check_motion(options.alignment)
    device = resolve_device(options.device)
    # Windows take clips of any length.
    selection = options.selection.without_cap() if options.alignment.window else options.selection
    indices = tuple(selection.choose(listing.times))
    if not indices:
        raise InputError(
            f"{source.label}: no frame lies between --start and --end; its {len(listing.times)} frames span "
            f"{listing.times[0]:.3f} to {listing.times[-1]:.3f} s"
        )
    choice = _choice(source, indices, options)
    predictor = load_predictor(choice.weights, device=device, precision=options.precision)
    size = options.size or predictor.traits.size
    job = Job(source, options, listing, indices, choice, predictor, size, device)
    if job.goes_by_similarity and not predictor.traits.finds_likeness:
        raise UsageError(
            f"--graph {job.graph} goes by how alike frames look, which {choice.weights} cannot tell; "
            f"take another graph, such as {predictor.traits.graph}, or a network (--weights embedded)"
        )
    if options.query_times and not predictor.traits.takes_times:
        raise UsageError(
            f"--query-times: {choice.weights} has no head that says how points move; leave the option out, or take "
            "weights with a motion head"
        )
    # All can fail: better now than after the work.
    _ = job.query_times
    _ = job.network_size, most_pairs(job.graph, len(indices)), job.windows()
    if way.check_edges is not None and not job.goes_by_similarity:
        way.check_edges(job.edges(len(indices)), len(indices))
    return job


def _choice(source: Source, indices: Sequence[int], options: Options) -> Choice:
    """The user's, or by a look at the clip."""
    if options.weights is not None:
        return Choice(options.weights)
    by_similarity = options.graph is not None and goes_by_similarity(options.graph)
    return choose_weights(source, indices, by_similarity=by_similarity)
