"""Reconstructing clips with ours and with peers, one clip at a time; what is measured is kept and not measured again.

A folder of measurements holds ``clips/`` (rendered, with their truth), ``peers/`` (what peers said about them) and one
JSON file for every clip and every way of ours to reconstruct it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.data.synthetic.clip import TRUTH, SyntheticTruth, load_truth, synthesize_clip
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.errors import AlignmentError
from stereo4d.evaluation.clip_errors import ClipErrors, clip_errors, scene_answer, trajectory_error
from stereo4d.evaluation.peer import ClipAnswer, SparseDepth, load_peer
from stereo4d.progress import SILENT, Progress
from stereo4d.storage import write_json
from stereo4d.types import Scene

FIRST_SEED = 1_000_000
"""Of the clips that are only measured on: nothing is tried out on them."""
KINDS = {
    "static": WorldConfig(moving_share=0.0),
    "dynamic": WorldConfig(),
    # What makes feature matchers fail: a camera that hardly moves, and grain in the images.
    "slow": WorldConfig(moving_share=0.0, camera_travel=(0.05, 0.2), target_travel=0.4),
    "grainy": WorldConfig(moving_share=0.0, noise=0.15),
}
"""Worlds to film: nothing moves; about half of the objects move; nothing moves, and it is hard for another reason."""
_WORK_STAGES = ("predictions", "alignment")


@dataclass(frozen=True)
class SyntheticClip:
    """A clip of the synthetic world, by its number."""

    kind: str
    """Of ``KINDS``. A number shows the same world, still or moving."""
    number: int
    frames: int = 24
    width: int = 512
    height: int = 288

    @property
    def name(self) -> str:
        """Unlike that of any other clip."""
        return f"{self.kind}-{self.number}-{self.frames}x{self.width}x{self.height}"

    def make(self, folder: Path, progress: Progress = SILENT) -> Path:
        """Render it into a folder of its own, unless it is there; the folder of its frames."""
        place = folder / self.name
        if not (place / TRUTH).exists():
            with progress.stage("render", self.frames, "frame") as stage:
                synthesize_clip(
                    *(place,),
                    seed=FIRST_SEED + self.number,
                    frames=self.frames,
                    height=self.height,
                    width=self.width,
                    config=KINDS[self.kind],
                    advance=stage.advance,
                )
        return place / "frames"


Look = Callable[[Scene, SyntheticTruth, Path], dict[str, float]]
"""What else to find out about a scene, given the truth and the scene's folder."""


@dataclass(frozen=True)
class Ours:
    """Our way to reconstruct a clip: what ``reconstruct`` is told."""

    weights: str
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the weights, short."""
        return Path(self.weights).stem if Path(self.weights).exists() else self.weights

    @property
    def fingerprint(self) -> str:
        """Unlike that of other settings, and of weights elsewhere."""
        weights = str(Path(self.weights).resolve()) if Path(self.weights).exists() else self.weights
        settings = {**asdict(self), "weights": weights}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def scene(self, source: Path | list[str], folder: Path, progress: Progress, **more: Any) -> Scene:
        """Reconstruct a clip into a folder, replacing what is there."""
        from stereo4d.video.pipeline import reconstruct

        return reconstruct(source, folder, **asdict(self), **more, overwrite=True, progress=progress)


@dataclass(frozen=True)
class Record:
    """How a clip came out."""

    clip: SyntheticClip
    errors: dict[str, ClipErrors]
    """By the name of weights or peer; ours first."""
    common: dict[str, float | None]
    """By peer: the trajectory error of ours over those frames that the peer placed."""
    stages: dict[str, float]
    """Seconds of every stage of ours."""
    pairs: int
    """Directed pairs that ours predicted."""
    warnings: list[str] = field(default_factory=list)
    """What ours said to the user."""
    more: dict[str, float] = field(default_factory=dict)
    """What else was looked at."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "errors": {name: errors.as_dict() for name, errors in self.errors.items()}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Record:
        """The inverse of ``as_dict``."""
        errors = {
            name: ClipErrors(**{key: value for key, value in entry.items() if key != "usable"})
            for name, entry in stored["errors"].items()
        }
        return cls(**{**stored, "clip": SyntheticClip(**stored["clip"]), "errors": errors})


def measure_clip(
    clip: SyntheticClip,
    ours: Ours,
    peers: tuple[str, ...],
    folder: Path,
    *,
    look: Look | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Reconstruct a clip with ours and with peers and compare with its truth, unless that was done before.

    Args:
        clip: which.
        ours: how we reconstruct it.
        peers: names of peers.
        folder: of measurements.
        look: told about our scene before it goes; what it says is kept.
        progress: told about rendering and reconstructing.
    """
    kept = folder / f"{'-'.join([clip.name, ours.name, *peers])}-{ours.fingerprint}.json"
    if kept.exists():
        return Record.from_dict(json.loads(kept.read_text(encoding="utf-8")))
    frames = clip.make(folder / "clips", progress)
    truth = load_truth(frames)
    answers = {name: peer_answer(name, frames, folder / "peers" / f"{clip.name}-{name}.safetensors") for name in peers}
    places = next((answer.points for answer in answers.values() if len(answer.points)), SparseDepth.none())
    with tempfile.TemporaryDirectory(dir=folder, prefix="scene-") as scratch:
        mine, told = _reconstructed(ours, frames, truth, places, Path(scratch) / "scene", look, progress)
    record = Record(
        clip=clip,
        errors={name: clip_errors(answer, truth.clip) for name, answer in {ours.name: mine, **answers}.items()},
        common={
            name: trajectory_error(mine.cam2world, truth.clip.cam2world, answer.placed & mine.placed)
            for name, answer in answers.items()
        },
        **told,
    )
    write_json(kept, record.as_dict())
    return record


def _reconstructed(
    ours: Ours,
    frames: Path,
    truth: SyntheticTruth,
    places: SparseDepth,
    folder: Path,
    look: Look | None,
    progress: Progress,
) -> tuple[ClipAnswer, dict[str, Any]]:
    """Our answer about a clip, and what else a record says of it."""
    started = time.monotonic()
    try:
        scene = ours.scene(frames, folder, progress, stride=1)
    except AlignmentError as error:  # no answer is an answer, as it is for peers
        count = len(truth.clip.cam2world)
        return ClipAnswer.nothing(count, time.monotonic() - started, str(error)), {"stages": {}, "pairs": 0}
    told = {
        "stages": {name: stage["seconds"] for name, stage in scene.manifest["stages"].items()},
        "pairs": scene.manifest["pairs"]["count"],
        "warnings": list(scene.manifest["warnings"]),
        "more": look(scene, truth, folder) if look is not None else {},
    }
    return scene_answer(scene, places, work_seconds(scene)), told


def work_seconds(scene: Scene) -> float:
    """Seconds from frames in memory to cameras and depth; reading, recording and writing left out, as for peers."""
    return sum(scene.manifest["stages"][name]["seconds"] for name in _WORK_STAGES)


def peer_answer(name: str, frames: Path, kept: Path) -> ClipAnswer:
    """What a peer says about a folder of images, asked once: the answer is kept in a file."""
    if kept.exists():
        return ClipAnswer.load(kept)
    answer = load_peer(name).reconstruct(read_images(frames))
    kept.parent.mkdir(parents=True, exist_ok=True)
    answer.save(kept)
    return answer


def read_images(folder: Path) -> np.ndarray:
    """(N, H, W, 3) uint8 of a folder of PNG images, in the order of their names."""
    from PIL import Image

    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])
