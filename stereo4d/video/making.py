"""From an alignment to a finished scene folder: what a reconstruction and an alignment of stored pairs share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stereo4d.progress import SILENT, Progress
from stereo4d.types import Scene
from stereo4d.video.aligning import Aligned
from stereo4d.video.alignment_report import scale_of
from stereo4d.video.clip import Clip
from stereo4d.video.dynamics import dynamic_masks, masks_on_disk
from stereo4d.video.known_files import KnownFiles
from stereo4d.video.manifest import Provenance, build_manifest
from stereo4d.video.motion_windows import ClipMotion
from stereo4d.video.scene_maps import with_maps
from stereo4d.video.workspace import ALIGNMENT_RECORDING, RECORDING, Workspace
from stereo4d.viewing import load_viewer

MASKS_FILE = "dynamic.u8"
"""In the hidden folder of an unfinished run."""


def make_scene(
    clip: Clip,
    pairs: Sequence[Path],
    aligned: Aligned,
    provenance: Provenance,
    workspace: Workspace,
    warnings: Sequence[str],
    progress: Progress = SILENT,
    *,
    motion: ClipMotion | None = None,
) -> Scene:
    """The scene of an alignment, with its recordings and manifest, as stored.

    Args:
        clip: N frames.
        pairs: files of their pairs.
        aligned: how their alignment went.
        provenance: what all of it was made from, and how.
        workspace: the folder to write to.
        warnings: what was said to the user on the way.
        progress: told about every file.
        motion: what moves, where that was looked for; else it is what the pairs say.
    """
    shape = clip.rgb.shape[:3]
    masks = dynamic_masks(pairs, shape) if motion is None else motion.masks()
    dynamic = masks_on_disk(masks, workspace.unfinished / MASKS_FILE, shape)
    scene = assemble(clip, dynamic, aligned, provenance.known)
    scene = with_maps(scene, pairs)
    record(scene, aligned, workspace, progress)
    manifest = build_manifest(clip, aligned, provenance, workspace, scene, warnings)
    manifest["motion"] = None if motion is None else motion.section()
    return finish(scene.with_manifest(manifest), workspace)


def assemble(clip: Clip, dynamic: np.ndarray, aligned: Aligned, known: KnownFiles) -> Scene:
    """The scene that an alignment of a clip's frames is; what moves in them is (N, H, W) uint8."""
    result = aligned.result
    intrinsics = result.intrinsics.numpy()
    original = [clip.pixel_map(i).to_original(intrinsics[i].astype(np.float64)) for i in range(len(clip))]
    return Scene(
        cam2world=result.cam2world.numpy(),
        intrinsics=intrinsics,
        depth=_half(result.depth),
        confidence=_half(result.confidence),
        dynamic=dynamic,
        rgb=np.asarray(clip.rgb),
        times=np.array(clip.times),
        frame_indices=np.array(clip.frame_indices),
        intrinsics_original=np.stack(original),
        original_sizes=np.array(clip.original_sizes),
        scale=scale_of(result, known),
    )


def record(scene: Scene, aligned: Aligned, workspace: Workspace, progress: Progress) -> None:
    """Write the recordings that the viewer shows: of the scene, and of how it was aligned, if the solver showed it."""
    viewer = load_viewer()
    with workspace.stage("recording"), progress.stage("recording", 2, "file") as stage:
        viewer.write(scene, workspace.unfinished / RECORDING)
        stage.advance()
        if aligned.steps:
            viewer.write_alignment(aligned.steps, workspace.unfinished / ALIGNMENT_RECORDING, rgb=scene.rgb)
        stage.advance()


def finish(scene: Scene, workspace: Workspace) -> Scene:
    """Put everything in its place, manifest last, and open what was written."""
    workspace.clear_old_scene()
    for recording in (workspace.unfinished / RECORDING, workspace.unfinished / ALIGNMENT_RECORDING):
        if recording.exists():
            recording.replace(workspace.folder / recording.name)
    scene.save(workspace.folder)
    workspace.finish()
    return Scene.load(workspace.folder)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The warnings that stereo4d logs inside the block, as they come."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    collector = Collector(logging.WARNING)
    logger = logging.getLogger("stereo4d")
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)


def _half(values: torch.Tensor) -> Any:
    """float16, with what lies beyond its end brought to its end."""
    if values.dtype == torch.float16:  # windows left it on disk
        return values.numpy()
    limit = torch.finfo(torch.float16).max
    return values.clamp(-limit, limit).half().numpy()
