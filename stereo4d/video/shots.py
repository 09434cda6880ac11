"""A clip that was cut: one scene for each shot, in folders of their own.

Everything unfinished lies in the hidden folder of the clip's workspace, one workspace for each shot; when the last is
done, all move to their places, and a manifest says which is which. A run that is taken up again keeps finished shots.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stereo4d import __version__
from stereo4d.alignment.known import Known
from stereo4d.alignment.windows import Window
from stereo4d.errors import SceneError, Stereo4DError
from stereo4d.types import Scene
from stereo4d.video.clip import Clip
from stereo4d.video.job import Job
from stereo4d.video.making import collected_warnings
from stereo4d.video.manifest import provenance_of
from stereo4d.video.prediction_files import FRAMES_FILE
from stereo4d.video.shot_cuts import cuts_in_words, find_cuts, is_cut_everywhere, shots_between
from stereo4d.video.windows_plan import known_in
from stereo4d.video.workspace import Workspace, settings_hash

log = logging.getLogger(__name__)

Make = Callable[[Job, Workspace, Clip, Known, list[str]], Scene]
"""Makes the scene of one clip, whose frames are in the workspace; the list is what was said to the user so far."""


@dataclass(frozen=True)
class Made:
    """What came out of a job."""

    scenes: tuple[tuple[Path, Scene], ...]
    """One, or one for each shot of which a scene could be made, with its folder."""
    failures: tuple[str, ...] = ()
    """Why there is none of other shots, a line each."""

    @property
    def longest(self) -> Scene:
        """The scene of the most frames."""
        return max((scene for _, scene in self.scenes), key=len)


def find_shots(job: Job, clip: Clip) -> list[range]:
    """The frames of each shot; one shot where nothing looks cut, or where nobody asked. What was found is said."""
    whole, label = [range(len(clip))], job.source.label
    if job.source.is_images:
        return whole
    cuts = find_cuts(clip.rgb)
    if not cuts:
        if is_cut_everywhere(clip.rgb):
            log.warning(
                "%s: most frames have next to nothing in common with the one before: no telling shots apart, all are "
                "taken for one; take more frames (--stride 1, --max-frames), or a part (--start, --end)",
                label,
            )
        return whole
    said = cuts_in_words(cuts, clip.frame_indices, clip.times)
    if job.options.shots == "one":
        log.warning("%s: %s; it becomes one scene all the same, as --shots one asks for", label, said)
        return whole
    log.warning("%s: %s; every shot becomes a scene of its own (--shots one: a single scene)", label, said)
    return shots_between(cuts, len(clip))


def make_shots(
    job: Job, workspace: Workspace, clip: Clip, known: Known, shots: Sequence[range], make: Make, said: Sequence[str]
) -> Made:
    """Make a scene of every shot.

    A shot of one frame has no camera path and is left out; a shot of which no scene can be made does not stop the rest.

    Args:
        job: of the whole clip.
        workspace: likewise.
        clip: its N frames.
        known: what is known of them.
        shots: which frames belong together, two shots or more.
        make: makes one scene.
        said: warnings about the whole clip.

    Raises:
        Stereo4DError: no scene could be made of any shot; what was wrong with the first.
    """
    entries: list[dict[str, Any]] = []
    errors: list[Stereo4DError] = []
    failures: list[str] = []
    for number, shot in enumerate(shots):
        part, name = clip.at(slice(shot.start, shot.stop)), f"shot-{number:03d}"
        entries.append({"folder": name, **_told(part), "left_out": None})
        if len(shot) < 2:
            entries[-1]["left_out"] = "a single frame"
            log.warning("%s: frame %d is a shot of its own and left out", job.source.label, part.frame_indices[0])
            continue
        failed = tuple(one for one in clip.failed if part.frame_indices[0] < one.index < part.frame_indices[-1])
        try:
            inside = known_in(known, Window(shot.start, shot.stop))
            _make_one(job, workspace.shots / name, replace(part, failed=failed), inside, make)
        except Stereo4DError as error:
            entries[-1]["left_out"] = str(error)
            errors.append(error)
            failures.append(f"{name}: {error}")
            log.warning("%s: no scene of %s: %s", job.source.label, name, error)
    kept = [entry["folder"] for entry in entries if entry["left_out"] is None]
    if not kept:
        raise (
            errors[0]
            if errors
            else SceneError(
                f"{job.source.label}: every shot is a single frame, and no scene is made of one; say --shots one"
            )
        )
    workspace.finish_shots(kept, _manifest(job, workspace, entries, said))
    scenes = tuple((workspace.folder / name, Scene.load(workspace.folder / name)) for name in kept)
    return Made(scenes, tuple(failures))


def _make_one(job: Job, folder: Path, clip: Clip, known: Known, make: Make) -> None:
    """The scene of one shot, unless an earlier run has finished it with the same settings."""
    part = replace(
        job,
        indices=tuple(clip.frame_indices.tolist()),
        shot=(int(clip.frame_indices[0]), int(clip.frame_indices[-1])),
    )
    if _settings_of(folder) == json.loads(json.dumps(provenance_of(part).sections["settings"], default=str)):
        return
    with collected_warnings() as said:
        workspace = Workspace(folder, part.settings(), overwrite=True)
        if not workspace.done("frames"):
            with workspace.stage("frames"):
                clip.save(workspace.pairs / FRAMES_FILE)
        make(part, workspace, Clip.load(workspace.pairs / FRAMES_FILE), known, said)


def _settings_of(folder: Path) -> Any:
    """What a finished scene was made with; None where there is none."""
    try:
        return Scene.load(folder).manifest["settings"]
    except SceneError:
        return None


def _told(part: Clip) -> dict[str, Any]:
    """Which frames a shot is, as plain values."""
    first, last = (int(part.frame_indices[place]) for place in (0, -1))
    return {"frames": [first, last], "seconds": [float(part.times[0]), float(part.times[-1])], "count": len(part)}


def _manifest(job: Job, workspace: Workspace, entries: list[dict[str, Any]], said: Sequence[str]) -> dict[str, Any]:
    """What the folder of a clip says of its shots."""
    sections = provenance_of(job).sections
    return {
        "made_by": f"stereo4d {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": sections["input"],
        "weights": sections["weights"],
        "settings": sections["settings"],
        "settings_hash": settings_hash(sections["settings"]),
        "shots": entries,
        "warnings": list(said),
    }
