"""What moves in a clip, or a window of it, found before the alignment: masks, flow between still pixels, the camera.

``motion_windows`` goes through a whole clip with it, window by window.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stereo4d.alignment.cells import cell_side, cell_sum
from stereo4d.alignment.known import Known, Masks
from stereo4d.alignment.terms import ClipEvidence, FlowCells, Term, check_terms, load_terms
from stereo4d.types import DYNAMICS
from stereo4d.video.camera_kind import CameraKind, camera_kind
from stereo4d.video.clip import Clip
from stereo4d.video.flow import Flow, FlowPair, flow_pair, load_flow
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.masks import MaskEvidence, checked_masks, load_mask_maker

if TYPE_CHECKING:
    from stereo4d.video.options import AlignmentOptions
    from stereo4d.video.predictor import Predictor

_FINEST_CELLS = 1200
MOST_MOVING = 0.8
"""Share of a frame that may move before all of it is heard."""
_STILL_SHARE = 0.9
_LIKE_VIDEO = 0.5
_LOOKED_AT = 5
_CAMERA_LOOKS = 24
_FAR_SHARE = 0.3  # of cells whose flow between frames far apart must hold, for it to be heard
_EVEN = 1.0  # pixels by which flow may vary within a cell and count half

log = logging.getLogger(__name__)

CellFlow = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]
"""Flow and weights of pairs of frames, lower first, on the finest cells of the solver."""


@dataclass(frozen=True)
class Motion:
    """What is known of motion before the alignment of N frames."""

    dynamic: np.ndarray
    """(N, H, W) bool: what moves."""
    flow: FlowCells | None
    """Between pixels that stand still."""
    camera: CameraKind
    mask_by: str
    """Which way masks were made."""

    def terms(self, clip: Clip, names: Sequence[str], device: torch.device) -> tuple[Term, ...]:
        """The terms of these frames."""
        told = None if self.flow is None else self.flow.on(device)
        times = torch.from_numpy(np.array(clip.times, np.float64)).to(device)
        size = (int(clip.rgb.shape[1]), int(clip.rgb.shape[2]))
        return load_terms(list(names), ClipEvidence(len(clip), times, size, told))

    @property
    def ignored(self) -> np.ndarray:
        """(N, H, W) bool: what of it the cameras are not judged by."""
        return self.dynamic & ~covered(self.dynamic)[:, None, None]

    def known(self, known: Known) -> Known:
        """What is known, with what moves left out of the judgement of cameras."""
        return replace(known, masks=_joined(known.masks, torch.from_numpy(self.ignored)))


@dataclass(frozen=True)
class Search:
    """How motion is looked for."""

    flow: Flow
    options: AlignmentOptions
    predictor: Predictor | None = None
    """What predicted the pairs, where it is at hand."""


def find_motion(
    paths: Sequence[Path],
    clip: Clip,
    known: Known,
    search: Search,
    *,
    start: int = 0,
    told: Callable[[int, int], None] = lambda count, most: None,
) -> Motion:
    """Find what moves in some frames that follow one another.

    Args:
        paths: files of pairs; those of other frames are left alone.
        clip: N >= 2 frames.
        known: what is known of them; intrinsics are used.
        search: how.
        start: the frame of the pairs that the first of the N frames is.
        told: called with the number of pairs of frames that were looked at so far, and of all of them.

    Raises:
        UsageError: a way to make masks does not exist, or cannot work here.
    """
    given = None
    if known.intrinsics is not None:
        given = np.full((len(clip), 3, 3), np.nan)
        given[known.intrinsics.frames.numpy()] = known.intrinsics.intrinsics.numpy()
    cache = _Watched(search.flow, clip.rgb)
    evidence = MaskEvidence(clip, tuple(paths), cache, given, search.predictor, start)
    said = search.options.mask_by
    if said == "auto":
        said = "heads" if evidence.has(f"{DYNAMICS}/moving0") else "ego-flow"
    # Ways that need no flow leave it to the terms; where there are none, only what the camera does is left to see.
    couples = evidence.couples
    if said == "heads" and not search.options.term_names(said):
        couples = _spread(couples)
    cache.told = lambda count: told(count, len(couples))
    maker = load_mask_maker(said)
    dynamic = checked_masks(maker.moving(evidence), clip.rgb.shape[:3], maker)
    for couple in couples:
        if couple not in cache.cells:
            evidence.flow(*couple)
    ignored = dynamic & ~covered(dynamic)[:, None, None]
    camera = what_the_camera_does(cache.looks, search.flow, clip.rgb, evidence.intrinsics[0], ignored)
    return Motion(dynamic, _between_still(cache.cells, ignored), camera, said)


def _spread(couples: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """A few couples, from the first to the last."""
    chosen = np.unique(np.linspace(0, len(couples) - 1, min(_CAMERA_LOOKS, len(couples))).round().astype(int))
    return [couples[place] for place in chosen.tolist()]


def what_the_camera_does(
    looks: CellFlow, flow: Flow, rgb: np.ndarray, intrinsics: np.ndarray, ignored: np.ndarray
) -> CameraKind:
    """What the camera does over some frames; a slow one hardly moves between neighbours, and is seen to over longer.

    Args:
        looks: flow between frames that are paired, on cells (h, w, 2), and its weight (h, w).
        flow: finds more of it.
        rgb: (N, H, W, 3) uint8.
        intrinsics: (3, 3) pixels.
        ignored: (N, H, W) bool: pixels that are not heard.
    """
    side = cell_side((rgb.shape[1], rgb.shape[2]), _FINEST_CELLS)
    kind = camera_kind(looks, intrinsics, ignored, side)
    last = len(rgb) - 1
    far = {(0, last // 2), (last // 4, 3 * last // 4), (last // 2, last)} - set(looks)
    if kind is CameraKind.MOVES or last < 4:
        return kind
    found = {}
    for first, second in sorted(far):
        pair = flow_pair(flow, rgb[first], rgb[second])
        mean, weight = on_cells(pair.forward, pair.valid0)
        if float(weight.mean()) > _FAR_SHARE:
            found[first, second] = mean, weight
    return camera_kind({**looks, **found}, intrinsics, ignored, side)


def covered(dynamic: np.ndarray) -> np.ndarray:
    """(N,) bool: frames that move nearly everywhere, (N, H, W). They are judged by all of it: there is nothing else."""
    return dynamic.mean((1, 2)) > MOST_MOVING


def check_motion(options: AlignmentOptions) -> None:
    """Make sure that what is asked for by name is there, before any work.

    Raises:
        UsageError: it is not.
        PluginError: an entry point names something else.
        CheckpointError: weights of a flow cannot be used.
    """
    if options.motion == "off":
        return
    load_flow(options.flow)
    if options.mask_by != "auto":
        load_mask_maker(options.mask_by)
    check_terms(options.terms or ())


def follows(clip: Clip, flow: Flow) -> bool:
    """Whether frames follow one another as in a video: flow between a few neighbours holds for most pixels."""
    if all(int(frame.max()) - int(frame.min()) < 2 for frame in clip.rgb[:2]):
        return False  # stored pairs without images
    chosen = np.unique(np.linspace(0, len(clip) - 2, min(_LOOKED_AT, len(clip) - 1)).astype(int))
    cache = FlowCache(flow, clip.rgb)
    shares = []
    for frame in chosen.tolist():
        pair = cache.between(frame, frame + 1)
        cache.keep_only([])
        shares.append(float((pair.valid0.mean() + pair.valid1.mean()) / 2))
    return float(np.median(shares)) > _LIKE_VIDEO


class _Watched(FlowCache):
    """A cache that keeps of every flow what cells need."""

    def __init__(self, flow: Flow, rgb: np.ndarray) -> None:
        super().__init__(flow, rgb)
        self.told: Callable[[int], None] = lambda count: None
        self.cells: CellFlow = {}
        """For every pair of frames, lower first: flow both ways (2, h, w, 2) float16, and weights (2, h, w)."""

    @property
    def looks(self) -> CellFlow:
        """Of every pair of frames, flow from the lower one on cells (h, w, 2), and its weight (h, w)."""
        return {
            pair: (flow[0].astype(np.float32), weight[0].astype(np.float32))
            for pair, (flow, weight) in self.cells.items()
        }

    def between(self, first: int, second: int) -> FlowPair:
        """See ``FlowCache.between``."""
        found, key = super().between(first, second), (min(first, second), max(first, second))
        if key not in self.cells:
            pair = found if first < second else found.swapped()
            ways = on_cells(pair.forward, pair.valid0), on_cells(pair.backward, pair.valid1)
            flow, weight = (np.stack(parts).astype(np.float16) for parts in zip(*ways, strict=True))
            self.cells[key] = flow, weight
            self.told(len(self.cells))
        return found


def on_cells(flow: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow (H, W, 2) put together in the finest cells of the solver: means (h, w, 2), and weights (h, w) 0 ... 1.

    A cell whose pixels go apart shows two surfaces, and counts less."""
    side = cell_side((valid.shape[0], valid.shape[1]), _FINEST_CELLS)
    rows, columns = valid.shape[0] // side, valid.shape[1] // side
    told = torch.from_numpy(flow[: rows * side, : columns * side]).float()
    counts = torch.from_numpy(valid[: rows * side, : columns * side])[..., None].float()
    number = cell_sum(counts, side)
    mean = cell_sum(counts * told, side) / number.clamp(min=1)
    square = cell_sum(counts * told.square(), side) / number.clamp(min=1)
    spread = (square - mean.square()).clamp(min=0).sum(-1)
    weight = number[..., 0] / side**2 / (1 + spread / _EVEN**2)
    return mean.numpy(), weight.numpy()


def _between_still(cells: CellFlow, ignored: np.ndarray) -> FlowCells | None:
    """The flow of all pairs, both ways, without cells that move."""
    if not cells:
        return None
    side = cell_side((ignored.shape[1], ignored.shape[2]), _FINEST_CELLS)
    grid = (ignored.shape[1] // side, ignored.shape[2] // side)
    cut = torch.from_numpy(~ignored[:, : grid[0] * side, : grid[1] * side])
    still = (cell_sum(cut[..., None].float(), side)[..., 0] / side**2).numpy() > _STILL_SHARE
    entries = sorted((pair if way == 0 else pair[::-1], pair, way) for pair in cells for way in (0, 1))
    flow = torch.from_numpy(np.stack([cells[pair][0][way] for _, pair, way in entries])).flatten(1, 2)
    weight = np.stack([cells[pair][1][way] * still[ends[0]] for ends, pair, way in entries])
    return FlowCells(torch.tensor([ends for ends, _, _ in entries]), flow, torch.from_numpy(weight).flatten(1), grid)


def _joined(given: Masks | None, moving: torch.Tensor) -> Masks | None:
    """The user's masks and those of what moves, as one."""
    frames = moving.flatten(1).any(1).nonzero()[:, 0]
    if given is None:
        return Masks(frames, moving[frames]) if len(frames) else None
    ignored = moving.clone()
    ignored[given.frames.cpu()] |= given.ignored.cpu()
    frames = torch.unique(torch.cat([frames, given.frames.cpu()]))
    return Masks(frames, ignored[frames], given.keeps)
