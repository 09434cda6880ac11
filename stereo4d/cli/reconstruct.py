"""``stereo4d reconstruct``: a video, or images, into a 4D scene."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stereo4d.video.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stereo4d.evaluation.scene_errors import SceneErrors
    from stereo4d.progress import Progress
    from stereo4d.types import Scene
    from stereo4d.video.sources import Source

log = logging.getLogger(__name__)


def reconstruct(
    inputs: list[str],
    *,
    out: str,
    options: Options,
    layout: str | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Reconstruct videos, or folders, globs or lists of images, in space and time.

    Args:
        inputs: videos, folders or patterns, one scene each; several image files together are one clip.
        out: scene folder; with several inputs, or a video that was cut into shots, the folder that gets one scene
            folder for each.
        options: what to work with, and how.
        layout: also write the scene as other programs lay it out, into a folder of that name in the scene folder:
            monst3r, or another format of stereo4d export.
        dry_run: say what it would take, and do nothing.
        overwrite: replace a finished scene.
        quiet: show no progress and print nothing.
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import DONE, FAILED, PARTIAL, failure, print_error, print_json
    from stereo4d.cli.layout import check_layout
    from stereo4d.progress import Progress
    from stereo4d.video.sources import group_inputs

    groups = group_inputs(inputs)
    folders = _folders(groups, Path(out))
    for folder in folders:
        check_layout(layout, folder, overwrite=overwrite)
    progress = Progress(quiet=quiet or json)
    one = _plan if dry_run else partial(_scene, layout=layout, overwrite=overwrite, progress=progress)
    reports: list[dict[str, Any]] = []
    failures: list[str] = []
    for entries, folder in zip(groups, folders, strict=True):
        try:
            found, failed = one(entries, folder, options)
        except Exception as error:
            if len(groups) == 1:
                raise
            found, failed = [], [failure(error)[0]]
            print_error(failed[-1])
        failures += failed
        reports += [report for report, _ in found]
        if not json and not quiet:
            print("\n\n".join("\n".join(lines) for _, lines in found), flush=True)
    if json:
        print_json({"scenes": reports, "failed": failures})
    if not failures:
        return DONE
    asked = len(reports) + len(failures)
    what = "inputs" if asked == len(groups) else "scenes"
    print_error(f"{len(failures)} of {asked} {what} failed; the last: {failures[-1]}")
    return PARTIAL if reports else FAILED


def _folders(groups: Sequence[Sequence[str]], out: Path) -> list[Path]:
    """Where each clip's scene goes: ``out`` itself for one clip, else a folder in it, named after the clip."""
    if len(groups) == 1:
        return [out]
    folders: list[Path] = []
    for entries in groups:
        name = Path(entries[0]).stem or "scene"
        taken = [folder.name for folder in folders]
        fresh = next(unique for unique in (name, *(f"{name}-{n}" for n in range(2, 10**6))) if unique not in taken)
        folders.append(out / fresh)
    return folders


Report = tuple[dict[str, Any], list[str]]
"""What came out of one scene: plain values, and the same in words."""
Reports = tuple[list[Report], list[str]]
"""Those of one clip, and a line for each of its shots of which no scene could be made."""


def _plan(entries: Sequence[str], folder: Path, options: Options) -> Reports:
    """What one clip would take."""
    from stereo4d.video.frames import look_at

    source, listing = look_at(entries)

    from stereo4d.video.job import open_job

    job = open_job(source, listing, options)
    plan = job.plan()
    report = {"input": job.source.label, **plan.as_dict()}, [f"input    {job.source.label}", *plan.lines()]
    return [report], []


def _scene(
    entries: Sequence[str],
    folder: Path,
    options: Options,
    *,
    layout: str | None,
    overwrite: bool,
    progress: Progress,
) -> Reports:
    """Reconstruct one clip."""
    from stereo4d.video.frames import look_at

    source, listing = look_at(entries)  # before torch is imported: what is wrong with the input is told at once

    from stereo4d.video.job import open_job
    from stereo4d.video.pipeline import run

    job = open_job(source, listing, options)
    if job.choice.because is not None and not progress.quiet:
        # What was chosen for the user is said before the work, not after it.
        print(f"weights    {job.choice.words()}", flush=True)
    try:
        made = run(job, folder, overwrite=overwrite, progress=progress)
    except KeyboardInterrupt as stop:
        going_on = f"{source.label}: interrupted; {folder} is unfinished, and the same command goes on from there"
        raise KeyboardInterrupt(going_on) from stop
    reports = [_report(scene, place, source, layout, overwrite=overwrite) for place, scene in made.scenes]
    return reports, [f"{source.label}: {reason}" for reason in made.failures]


def _report(scene: Scene, folder: Path, source: Source, layout: str | None, *, overwrite: bool) -> Report:
    """What is told of one scene, after it was laid out for other programs."""
    from stereo4d.cli.layout import write_layout
    from stereo4d.cli.scene_report import scene_lines, scene_report

    laid_out = write_layout(scene, layout, folder, overwrite=overwrite)
    errors = _errors(scene, source)
    report = {**scene_report(scene, folder, laid_out), "errors": None if errors is None else errors.as_dict()}
    more = [] if errors is None else [f"against the exact truth: {line}" for line in errors.lines()]
    return report, scene_lines(scene, folder, laid_out, more=more)


def _errors(scene: Scene, source: Source) -> SceneErrors | None:
    """Errors against the truth that lies beside a synthetic clip; None for any other clip."""
    from stereo4d.data.synthetic.clip import find_truth, load_truth
    from stereo4d.errors import ShapeError
    from stereo4d.evaluation.scene_errors import scene_errors

    beside = source.paths[0].parent if source.is_images else source.paths[0]
    if find_truth(beside) is None:
        return None
    try:
        return scene_errors(scene, load_truth(beside).clip)
    except ShapeError as error:
        log.warning("%s: not compared with the truth that lies beside it: %s", source.label, error)
        return None
