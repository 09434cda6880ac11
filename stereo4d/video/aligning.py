"""Alignment as the commands use it: from pairs, options and what is known to one world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from stereo4d import registry
from stereo4d.alignment import AlignmentProblem, AlignmentResult, align
from stereo4d.alignment.known import Known
from stereo4d.alignment.solver import ReweightedLeastSquares, Solver
from stereo4d.alignment.terms import Term
from stereo4d.alignment.watching import AlignmentStep
from stereo4d.errors import UsageError
from stereo4d.progress import SILENT, Progress
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.known_files import KnownFiles
from stereo4d.video.motion import Motion
from stereo4d.video.options import DEFAULT_SOLVER, AlignmentOptions

SOLVERS = "stereo4d.solvers"
Record = TypeVar("Record", bound=Any)


@dataclass(frozen=True)
class Aligned:
    """How an alignment went."""

    edges: Tensor
    """(E, 2) int64: the pairs it was given."""
    result: AlignmentResult
    """On the CPU."""
    steps: tuple[AlignmentStep, ...]
    """Every step on the way, for the viewer; none of windows."""
    windows: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of the windows and of the loops between them, or of the anchor; empty where all was
    solved at once.

    Depth and confidence of the result then are float16, mapped from disk."""
    beside: frozenset[int] = frozenset()
    """Pairs that nobody asked, such as those of frames that are together in no window."""


def load_solver(name: str) -> Solver:
    """The solver of that name.

    Raises:
        UsageError: there is none.
        PluginError: the entry point names something else.
    """
    if name == DEFAULT_SOLVER:
        return ReweightedLeastSquares()
    registry.check_installed("--solver", SOLVERS, name, besides=[DEFAULT_SOLVER])
    return registry.load_class(SOLVERS, name, Solver)()


def align_pairs(
    edges: Tensor,
    prediction: PairPrediction,
    clip: Clip,
    *,
    known: Known,
    options: AlignmentOptions,
    seed: int,
    device: torch.device,
    motion: Motion | None = None,
    progress: Progress = SILENT,
) -> Aligned:
    """Bring all pairs of a clip into one world.

    Args:
        edges: (E, 2) int64.
        prediction: E pairs.
        clip: the N frames.
        known: what is known of them.
        options: how.
        seed: same seed, same answer.
        device: where to work.
        motion: what is known of motion, of these frames and others; None where nobody looked for it.
        progress: told about every step.
    """
    problem = AlignmentProblem(
        edges.to(device),
        moved(prediction, device),
        len(clip),
        shared_focal=options.shares_focal(clip.original_sizes),
        free_principal_point=options.free_principal_point,
        known=moved(known, device),
        terms=_terms(options, motion, clip, device),
    )
    steps: list[AlignmentStep] = []
    with progress.stage("alignment") as stage:

        def told(done: int, most: int, loss: float) -> None:
            stage.expect(most)
            stage.advance(done - stage.done)
            stage.note(f"loss {loss:.4f}")

        def watch(step: AlignmentStep) -> None:
            steps.append(moved(step, torch.device("cpu")))

        result = align(problem, seed=seed, progress=told, solver=load_solver(options.solver), watch=watch)
        stage.expect(stage.done)  # it may end before its last step
    return Aligned(edges, moved(result, torch.device("cpu")), tuple(steps))


def _terms(options: AlignmentOptions, motion: Motion | None, clip: Clip, device: torch.device) -> tuple[Term, ...]:
    """What cameras are judged by beside the pairs.

    Raises:
        UsageError: terms are asked for by name of a solver that knows of none.
    """
    if options.solver != DEFAULT_SOLVER:
        if options.terms:
            raise UsageError(f"--terms {' '.join(options.terms)}: --solver {options.solver} takes none; leave them out")
        return ()
    return () if motion is None else motion.terms(clip, options.term_names(motion.mask_by), device)


def settings_of(options: AlignmentOptions, known: KnownFiles, seed: int) -> dict[str, Any]:
    """All that decides how an alignment goes, as plain values."""
    return {"seed": seed, "alignment": asdict(options), "known": known.settings()}


def moved(record: Record, device: torch.device) -> Record:
    """A dataclass with all its tensors, and those of the dataclasses it holds, on a device."""
    there: dict[str, Any] = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, Tensor):
            there[entry.name] = value.to(device)
        elif is_dataclass(value) and not isinstance(value, type):
            there[entry.name] = moved(value, device)
    return replace(record, **there)
