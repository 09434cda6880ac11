"""From a video to a scene, said in five lines: frames, pairs and predictions, alignment, scene, files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stereo4d.alignment.known import Known
from stereo4d.progress import SILENT, Progress
from stereo4d.storage import map_arrays, save_arrays, write_json
from stereo4d.types import Scene
from stereo4d.video.clip import Clip, camera_stands_still, read_clip
from stereo4d.video.frame_matching import FrameGeometry
from stereo4d.video.frames import Selection, look_at
from stereo4d.video.inference import predict_pairs
from stereo4d.video.job import Job, open_job
from stereo4d.video.known_files import KnownFiles, load_known
from stereo4d.video.loop_search import keyframes, loop_pairs, thumbnail_similarity
from stereo4d.video.making import collected_warnings, make_scene
from stereo4d.video.manifest import provenance_of
from stereo4d.video.options import AlignmentOptions, Options
from stereo4d.video.pair_graph import Edge, both_ways
from stereo4d.video.prediction_files import FRAMES_FILE, ShardWriter, shards, stored_edges
from stereo4d.video.shots import Made, find_shots, make_shots
from stereo4d.video.solving import Approach, Task
from stereo4d.video.sources import entries_of
from stereo4d.video.ways import way_of
from stereo4d.video.workspace import Workspace, settings_hash

SIMILARITY_FILE = "similarity.safetensors"
REMARKS_FILE = "remarks.json"
LOOPS_FILE = "loops.json"

log = logging.getLogger(__name__)


def reconstruct(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    graph: str | None = None,
    size: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    seed: int = 0,
    query_times: Sequence[float] | None = None,
    alignment: AlignmentOptions | None = None,
    known: KnownFiles | None = None,
    shots: str = "split",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Scene:
    """Reconstruct one clip and write its scene folder; ``video.options`` says more of what can be chosen.

    Args:
        source: a video, a folder or glob of images, or a list of images.
        out: the scene folder. An interrupted run in it is taken up again if all settings agree.
        weights: a predictor (``"classical"``), ``"embedded"``, a file or folder, published ones; None takes what suits.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``auto``, ``bf16`` or ``exact``.
        graph: which frames are paired, for example ``swin-3-noncyclic``; None takes what the predictor does best with.
        size: long side of the predictor's images in pixels; None takes the size the network was trained at.
        stride: take every how manyth frame.
        fps: take this many frames a second.
        max_frames: take at most this many.
        start: seconds after the first frame to begin at.
        end: seconds after the first frame to stop at.
        seed: same seed, same scene.
        query_times: when from a frame (0) to the next (1) to ask for motion; None takes 0.5 and 1, [] leaves it out.
        alignment: how the pairs are brought into one world: focals, windows, motion.
        known: files of intrinsics, poses, depths and masks that are known beforehand.
        shots: ``split`` a video that looks cut into scenes in folders of ``out``, or make ``one`` of it.
        overwrite: replace a finished scene.
        progress: shown to; silent by default.

    Returns:
        The scene as stored, dense arrays memory-mapped; of a clip that was split, that of its longest shot.

    Raises:
        Stereo4DError: the kind says what is wrong: input, weights, an option, the pair graph, or the output folder.
    """
    options = Options(
        *(None if weights is None else str(weights), device, precision, graph, size),
        *(Selection(stride, fps, max_frames, start, end), seed, None if query_times is None else list(query_times)),
        alignment=alignment or AlignmentOptions(),
        known=known or KnownFiles(),
        shots=shots,
    )
    job = open_job(*look_at(entries_of(source)), options)
    return run(job, Path(out), overwrite=overwrite, progress=progress).longest


def run(job: Job, out: Path, *, overwrite: bool = False, progress: Progress = SILENT) -> Made:
    """Do a job; see ``reconstruct``."""

    def make(part: Job, workspace: Workspace, clip: Clip, known: Known, said: list[str]) -> Scene:
        return make_one(part, workspace, clip, known, said, progress)

    with collected_warnings() as warnings:
        workspace = Workspace(out, job.settings(), overwrite=overwrite)
        clip = prepare_frames(job, workspace, progress)
        shots = find_shots(job, clip)
        known = load_known(job.options.known, FrameGeometry.of(clip))
        if len(shots) > 1:
            return make_shots(job, workspace, clip, known, shots, make, warnings)
        return Made(((out, make(job, workspace, clip, known, warnings)),))


def make_one(
    job: Job, workspace: Workspace, clip: Clip, known: Known, warnings: list[str], progress: Progress = SILENT
) -> Scene:
    """The scene of a clip whose frames are in the workspace: predictions, alignment, files.

    Args:
        job: what to do.
        workspace: where.
        clip: N frames.
        known: what is known of them.
        warnings: what is said to the user on the way, as it comes.
        progress: shown to.
    """
    provenance = provenance_of(job)
    predict(job, workspace, clip, known, progress)
    paths = shards(workspace.pairs)
    solve = way_of(job.options.alignment).solve
    aligned, motion = solve(Task(paths, clip, known, approach_of(job), workspace), progress=progress)
    return make_scene(clip, paths, aligned, provenance, workspace, warnings, progress, motion=motion)


def prepare_frames(job: Job, workspace: Workspace, progress: Progress) -> Clip:
    """Decode the chosen frames, or open those that an interrupted run has left."""
    stored = workspace.pairs / FRAMES_FILE
    if not workspace.done("frames"):
        with workspace.stage("frames"):
            read_clip(
                *(job.source, job.listing, job.indices),
                size=job.size,
                patch_size=job.predictor.traits.patch_size,
                progress=progress,
            ).save(stored)
    clip = Clip.load(stored)
    if len(clip) == 1:
        log.warning("%s: one frame only; it is paired with itself, and there is no camera path", job.source.label)
    elif camera_stands_still(clip):
        log.warning("%s: the camera stands still; there is no parallax that shows how far things are", job.source.label)
    return clip


def predict(job: Job, workspace: Workspace, clip: Clip, known: Known, progress: Progress) -> None:
    """Predict all pairs that are not stored yet, and store them as they come; then say what the predictor remarks."""
    remarks = workspace.unfinished / REMARKS_FILE
    if not workspace.done("predictions"):
        with workspace.stage("predictions"):
            similarity = similarity_of(job, workspace, clip, progress) if job.goes_by_similarity else None
            edges = job.edges(len(clip), similarity)
            loops = loops_of(job, workspace, clip, edges, progress)
            left = (both_ways([*edges, *loops]) if loops else edges)[len(stored_edges(workspace.pairs)) :]
            intrinsics = known_intrinsics(known, len(clip))
            at_work = job.predictor.open(
                *(clip, left),
                intrinsics=intrinsics,
                seed=job.options.seed,
                progress=progress,
                **job.asked_of_predictor(),
            )
            writer = ShardWriter(workspace.pairs, exact=job.exact)
            for batch in predict_pairs(at_work, left, progress=progress):
                writer.add(batch)
            writer.flush()
            write_json(remarks, list(at_work.remarks()))
    # A run that goes on after the predictions says them too.
    for remark in json.loads(remarks.read_text(encoding="utf-8")):
        log.warning("%s: %s", job.source.label, remark)


def similarity_of(job: Job, workspace: Workspace, clip: Clip, progress: Progress) -> np.ndarray:
    """How alike frames look, (N, N); what an interrupted run found is kept, so that its pairs stay the same."""
    stored = workspace.unfinished / SIMILARITY_FILE
    if not stored.exists():
        save_arrays(stored, {"similarity": job.predictor.similarity(clip, progress=progress)})
    return map_arrays(stored)["similarity"]


def loops_of(job: Job, workspace: Workspace, clip: Clip, edges: list[Edge], progress: Progress) -> list[Edge]:
    """Pairs far apart in time that may tie windows together; what an interrupted run found is kept, see above."""
    stored = workspace.unfinished / LOOPS_FILE
    if not stored.exists():
        way = way_of(job.options.alignment)
        windows = way.plan(job.options.alignment, len(clip), edges, clip.rgb.shape[1:3])
        found: list[Edge] = []
        if way.closes_loops and len(windows) > 1 and not job.goes_by_similarity:
            frames = keyframes(len(clip), len(windows[0]))
            if job.predictor.traits.finds_likeness:
                alike = job.predictor.similarity(clip.at(frames), progress=progress)
            else:
                alike = thumbnail_similarity(clip, frames)
            found = loop_pairs(alike, frames, len(windows[0]))
        write_json(stored, found)
    return [(int(first), int(second)) for first, second in json.loads(stored.read_text(encoding="utf-8"))]


def known_intrinsics(known: Known, num_frames: int) -> np.ndarray | None:
    """(N, 3, 3) float64 at network size, rows of NaN for frames without; None where none are known."""
    if known.intrinsics is None:
        return None
    rows = np.full((num_frames, 3, 3), np.nan)
    rows[known.intrinsics.frames.numpy()] = known.intrinsics.intrinsics.numpy()
    return rows


def approach_of(job: Job) -> Approach:
    """How a job's pairs are brought into one world."""
    stamp = settings_hash(job.alignment_settings())
    return Approach(job.options.alignment, job.options.seed, job.device, stamp, job.predictor)
