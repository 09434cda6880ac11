"""The folder a scene, or one scene for each shot, is made in: who may write there, what an interrupted run left.

Everything unfinished lies in the hidden folder ``.unfinished`` inside the output folder. A run that agrees with it in
all settings goes on from there; when the scene is done, the pair predictions move out and the hidden folder goes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stereo4d.errors import OutputError
from stereo4d.scene_files import FORMAT_VERSION, MANIFEST_FILE, SCENE_FILE, TRAJECTORY_FILE, shots_in
from stereo4d.storage import remove_partial, why, write_json
from stereo4d.video.memory import peak_memory, reset_peak_memory

UNFINISHED = ".unfinished"
PAIRS_FOLDER = "pairs"
SHOTS_FOLDER = "shots"
RECORDING = "scene.rrd"
ALIGNMENT_RECORDING = "alignment.rrd"
_STATE = "state.json"
_OURS = (SCENE_FILE, TRAJECTORY_FILE, RECORDING, ALIGNMENT_RECORDING)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRecord:
    """What one stage cost."""

    seconds: float
    peak_memory_bytes: int | None
    """The most memory the process held during the stage; None where the system does not say."""
    reused: bool = False
    """Whether an earlier, interrupted run had done it."""


class Workspace:
    """One output folder during one run."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Claim a folder.

        Args:
            folder: made if missing.
            settings: everything that decides what frames and predictions look like; plain JSON values.
            overwrite: replace a finished scene.

        Raises:
            OutputError: the folder holds a finished scene, or things that are not ours, or cannot be written.
        """
        self.folder = folder
        self.unfinished = folder / UNFINISHED
        self.settings_hash = settings_hash(settings)
        self.stages: dict[str, StageRecord] = {}
        _check_free(folder, overwrite=overwrite)
        try:
            self.pairs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made: {why(error)}") from error
        self._resume_or_clear()

    @property
    def pairs(self) -> Path:
        """Where frames and pair predictions wait until the scene is done."""
        return self.unfinished / PAIRS_FOLDER

    @property
    def shots(self) -> Path:
        """Where the scenes of shots wait until the last one is done, a folder each."""
        return self.unfinished / SHOTS_FOLDER

    def done(self, stage: str) -> bool:
        """Whether a stage is finished, now or by an earlier run with the same settings."""
        return stage in self.stages

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and remember it as finished if the block ends well."""
        reset_peak_memory()
        started = time.monotonic()
        yield
        self.stages[name] = StageRecord(round(time.monotonic() - started, 3), peak_memory())
        self._write_state()

    def finish(self) -> None:
        """Move what is kept to its place and remove the rest; call after the manifest is written."""
        if any(self.pairs.iterdir()):
            kept = self.folder / PAIRS_FOLDER
            shutil.rmtree(kept, ignore_errors=True)
            self.pairs.replace(kept)
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def finish_shots(self, names: Sequence[str], manifest: Mapping[str, Any]) -> None:
        """Move finished scenes of shots to their places, say which they are, and remove the rest.

        Args:
            names: of their folders.
            manifest: of the whole clip; it comes last, so that a folder with a manifest is whole.
        """
        self.clear_old_scene()
        try:
            for name in names:
                shutil.rmtree(self.folder / name, ignore_errors=True)
                (self.shots / name).replace(self.folder / name)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written: {why(error)}") from error
        write_json(self.folder / MANIFEST_FILE, {"format_version": FORMAT_VERSION, **manifest})
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def clear_old_scene(self) -> None:
        """Remove what is being replaced, manifest first, so that it never looks whole half-removed."""
        shots = shots_in(self.folder)
        (self.folder / MANIFEST_FILE).unlink(missing_ok=True)
        for name in shots:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (MANIFEST_FILE, *_OURS):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / PAIRS_FOLDER, ignore_errors=True)

    def _resume_or_clear(self) -> None:
        state = _read_state(self.unfinished / _STATE)
        if state.get("settings_hash") == self.settings_hash:
            stored = state["stages"].items()
            self.stages = {name: StageRecord(**{**record, "reused": True}) for name, record in stored}
            remove_partial(self.pairs)
            if self.stages:
                log.info("%s: going on after %s", self.folder, ", ".join(self.stages))
            return
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.pairs.mkdir(parents=True, exist_ok=True)
        self._write_state()

    def _write_state(self) -> None:
        stages = {name: asdict(record) for name, record in self.stages.items()}
        write_json(self.unfinished / _STATE, {"settings_hash": self.settings_hash, "stages": stages})


def settings_hash(settings: Mapping[str, Any]) -> str:
    """A short fingerprint of settings, the same for the same values in any order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not ours to write."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; --out must name a folder")
    content = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if (folder / MANIFEST_FILE).is_file() and ((folder / SCENE_FILE).is_file() or shots_in(folder)):
        if not overwrite:
            raise OutputError(f"{folder}: holds a finished scene; say --overwrite, or choose another --out")
        return
    if content and UNFINISHED not in content:
        shown = ", ".join(sorted(content)[:3])
        raise OutputError(f"{folder}: holds files that stereo4d did not make ({shown}); choose another --out")


def _read_state(path: Path) -> dict[str, Any]:
    """The state of an interrupted run; empty if there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
