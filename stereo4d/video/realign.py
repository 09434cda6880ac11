"""Alignment alone: from stored pair predictions to a scene folder, without video and without network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stereo4d import __version__
from stereo4d.errors import AlignmentError, GraphError, OutputError, ShapeError
from stereo4d.network.precision import resolve_device
from stereo4d.progress import SILENT, Progress
from stereo4d.types import Scene
from stereo4d.video.aligning import load_solver, settings_of
from stereo4d.video.frame_matching import FrameGeometry
from stereo4d.video.known_files import load_known
from stereo4d.video.making import collected_warnings, make_scene
from stereo4d.video.manifest import Provenance
from stereo4d.video.motion import check_motion
from stereo4d.video.options import StoredOptions
from stereo4d.video.solving import Approach, Task
from stereo4d.video.sources import Source, entries_of, sha256
from stereo4d.video.stored_pairs import StoredPairs, open_pairs
from stereo4d.video.ways import way_of
from stereo4d.video.workspace import Workspace


def align_stored(
    pairs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    options: StoredOptions | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Scene:
    """Align stored pair predictions and write a scene folder; the predictions stay where they are.

    Args:
        pairs: a scene folder, its ``pairs`` folder, or files; see ``stored_pairs``.
        out: the scene folder; none that the predictions lie in.
        options: how.
        overwrite: replace a finished scene.
        progress: shown to; silent by default.

    Returns:
        The scene as stored, dense arrays memory-mapped; its manifest says what was done and what it cost.

    Raises:
        Stereo4DError: the kind says what is wrong: the predictions, an option, or the output folder.
    """
    options = options or StoredOptions()
    options.known.check()
    way = way_of(options.alignment, options.known)
    load_solver(options.alignment.solver)
    check_motion(options.alignment)
    device = resolve_device(options.device)

    with collected_warnings() as warnings:
        stored = open_pairs(entries_of(pairs))
        check_apart(stored, Path(out))
        known = load_known(options.known, FrameGeometry.of(stored.clip))
        provenance = provenance_of(stored, options, device)
        workspace = Workspace(Path(out), provenance.sections["settings"], overwrite=overwrite)
        approach = Approach(options.alignment, options.seed, device, workspace.settings_hash)
        task = Task(stored.paths, stored.clip, known, approach, workspace, stored.chosen(options.graph))
        try:
            aligned, motion = way.solve(task, progress=progress)
        except (AlignmentError, GraphError, ShapeError) as error:
            raise type(error)(f"{stored.label}: {error}") from error
        return make_scene(
            *(stored.clip, stored.paths, aligned, provenance, workspace, warnings, progress), motion=motion
        )


def check_apart(stored: StoredPairs, out: Path) -> None:
    """Make sure that replacing a scene does not remove the predictions that it is made from.

    Raises:
        OutputError: they lie in the output folder.
    """
    for path in stored.paths:
        if path.resolve().is_relative_to(out.resolve()) or path.absolute().is_relative_to(out.absolute()):
            raise OutputError(f"{path}: lies in --out {out}, which is written anew; choose another --out")


def provenance_of(stored: StoredPairs, options: StoredOptions, device: torch.device) -> Provenance:
    """What an alignment of stored pairs is made from, and how; what is known of the network is passed on."""
    digest = sha256(Source(stored.label, stored.paths))
    origin = stored.origin or {}
    source: dict[str, Any] = {"path": stored.label, "files": [path.name for path in stored.paths], "sha256": digest}
    settings = {
        "stereo4d": __version__,
        "input_sha256": digest,
        "graph": options.graph,
        **settings_of(options.alignment, options.known, options.seed),
    }
    sections = {
        "input": {**source, "made_from": origin.get("input")},
        "weights": origin.get("weights"),
        "settings": {**settings, "device": str(device)},
    }
    return Provenance(sections, options.graph, options.known)
