"""From a video to a scene, said in five lines: frames, pairs and predictions, alignment, scene, files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stereo4d.alignment import AlignmentProblem, AlignmentResult, align
from stereo4d.network.weights import load_model
from stereo4d.progress import SILENT, Progress
from stereo4d.types import Scene
from stereo4d.video.clip import Clip, camera_stands_still, read_clip
from stereo4d.video.frames import Selection, describe
from stereo4d.video.inference import predict_pairs
from stereo4d.video.job import Job, open_job
from stereo4d.video.manifest import build_manifest
from stereo4d.video.options import DEFAULT_GRAPH, Options
from stereo4d.video.prediction_files import FRAMES_FILE, ShardWriter, read_predictions, stored_edges
from stereo4d.video.sources import find_source
from stereo4d.video.workspace import RECORDING, Workspace
from stereo4d.viewing import load_viewer

log = logging.getLogger(__name__)


def reconstruct(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    weights: str | Path = "embedded",
    device: str = "auto",
    precision: str = "auto",
    graph: str = DEFAULT_GRAPH,
    size: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Scene:
    """Reconstruct one clip and write its scene folder.

    Args:
        source: a video, a folder or glob of images, or a list of images.
        out: the scene folder. An interrupted run in it is taken up again if all settings agree.
        weights: ``"embedded"``, a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors``.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``auto``, ``bf16`` or ``exact``.
        graph: which frames are paired, for example ``swin-3-noncyclic`` or ``complete``.
        size: long side of the network's images in pixels; None takes the size the network was trained at.
        stride: take every how manyth frame.
        fps: take this many frames a second.
        max_frames: take at most this many.
        start: seconds after the first frame to begin at.
        end: seconds after the first frame to stop at.
        seed: same seed, same scene.
        overwrite: replace a finished scene.
        progress: shown to; silent by default.

    Returns:
        The scene as stored, dense arrays memory-mapped; its manifest says what was done and what it cost.

    Raises:
        Stereo4DError: the kind says what is wrong: input, weights, an option, the pair graph, or the output folder.
    """
    entries = [str(entry) for entry in ([source] if isinstance(source, str | Path) else source)]
    selection = Selection(stride, fps, max_frames, start, end)
    options = Options(str(weights), device, precision, graph, size, selection, seed)
    clip = find_source(entries)
    return run(open_job(clip, describe(clip), options), Path(out), overwrite=overwrite, progress=progress)


def run(job: Job, out: Path, *, overwrite: bool = False, progress: Progress = SILENT) -> Scene:
    """Do a job; see ``reconstruct``."""
    with collected_warnings() as warnings:
        workspace = Workspace(out, job.settings(), overwrite=overwrite)
        clip = prepare_frames(job, workspace, progress)
        predict(job, workspace, clip, progress)
        aligned = align_pairs(job, workspace, clip, progress)
        scene = assemble(clip, aligned)
        record(scene, workspace, progress)
        manifest = build_manifest(job, workspace, clip, scene, aligned, warnings)
        return finish(scene.with_manifest(manifest), workspace)


def prepare_frames(job: Job, workspace: Workspace, progress: Progress) -> Clip:
    """Decode the chosen frames, or open those that an interrupted run has left."""
    stored = workspace.pairs / FRAMES_FILE
    if not workspace.done("frames"):
        with workspace.stage("frames"):
            read_clip(
                *(job.source, job.listing, job.indices),
                size=job.size,
                patch_size=job.config.patch_size,
                progress=progress,
            ).save(stored)
    clip = Clip.load(stored)
    if len(clip) == 1:
        log.warning("%s: one frame only; it is paired with itself, and there is no camera path", job.source.label)
    elif camera_stands_still(clip):
        log.warning("%s: the camera stands still; depth rests on the network alone, no parallax", job.source.label)
    return clip


def predict(job: Job, workspace: Workspace, clip: Clip, progress: Progress) -> None:
    """Run the network on all pairs that are not stored yet, and store them as they come."""
    if workspace.done("predictions"):
        return
    edges = job.edges(len(clip))
    with workspace.stage("predictions"):
        left = edges[len(stored_edges(workspace.pairs)) :]
        network = load_model(job.options.weights, device=job.device, precision=job.options.precision)
        writer = ShardWriter(workspace.pairs, exact=job.exact)
        for batch in predict_pairs(network, clip, left, progress=progress):
            writer.add(batch)
        writer.flush()


def align_pairs(job: Job, workspace: Workspace, clip: Clip, progress: Progress) -> AlignmentResult:
    """Bring all pairs into one world."""
    with workspace.stage("alignment"), progress.stage("alignment") as stage:
        edges, prediction = read_predictions(workspace.pairs)
        one_camera = len(np.unique(clip.original_sizes, axis=0)) == 1
        problem = AlignmentProblem(edges, prediction, len(clip), shared_focal=one_camera)

        def told(done: int, most: int, loss: float) -> None:
            stage.expect(most)
            stage.advance(done - stage.done)
            stage.note(f"loss {loss:.4f}")

        aligned = align(problem, seed=job.options.seed, progress=told)
        stage.expect(stage.done)  # it may end before its last step
        return aligned


def assemble(clip: Clip, aligned: AlignmentResult) -> Scene:
    """The scene that an alignment of a clip's frames is."""
    intrinsics = aligned.intrinsics.numpy()
    original = [clip.pixel_map(i).to_original(intrinsics[i].astype(np.float64)) for i in range(len(clip))]
    return Scene(
        cam2world=aligned.cam2world.numpy(),
        intrinsics=intrinsics,
        depth=_half(aligned.depth),
        confidence=_half(aligned.confidence),
        dynamic=np.zeros(clip.rgb.shape[:3], np.uint8),
        rgb=np.asarray(clip.rgb),
        times=np.array(clip.times),
        frame_indices=np.array(clip.frame_indices),
        intrinsics_original=np.stack(original),
        original_sizes=np.array(clip.original_sizes),
    )


def record(scene: Scene, workspace: Workspace, progress: Progress) -> None:
    """Write the recording that the viewer shows."""
    with workspace.stage("recording"), progress.stage("recording", 1, "file") as stage:
        load_viewer().write(scene, workspace.unfinished / RECORDING)
        stage.advance()


def finish(scene: Scene, workspace: Workspace) -> Scene:
    """Put everything in its place, manifest last, and open what was written."""
    workspace.clear_old_scene()
    (workspace.unfinished / RECORDING).replace(workspace.folder / RECORDING)
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
    limit = torch.finfo(torch.float16).max
    return values.clamp(-limit, limit).half().numpy()
