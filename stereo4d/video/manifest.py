"""What ``manifest.json`` says about a scene: where it came from, what was done, what it cost, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stereo4d import __version__
from stereo4d.alignment import AlignmentResult
from stereo4d.types import Scene
from stereo4d.video.clip import Clip
from stereo4d.video.job import Job
from stereo4d.video.workspace import Workspace


def build_manifest(
    job: Job, workspace: Workspace, clip: Clip, scene: Scene, aligned: AlignmentResult, warnings: Sequence[str]
) -> dict[str, Any]:
    """The manifest as plain values.

    Args:
        job: what was asked for.
        workspace: knows what each stage cost.
        clip: the frames that were used.
        scene: what came out.
        aligned: how the alignment went.
        warnings: what was said to the user on the way.
    """
    checkpoint = job.checkpoint
    return {
        "made_by": f"stereo4d {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "path": job.source.label,
            "files": [str(Path(path).name) for path in job.source.paths],
            "sha256": job.input_sha256,
            "declared_frames": len(job.listing.times),
        },
        "frames": [_frame(clip, position) for position in range(len(clip))],
        "failed_frames": [asdict(frame) for frame in clip.failed],
        "warnings": list(warnings),
        "weights": {
            "source": job.options.weights,
            "name": checkpoint.name,
            "sha256": checkpoint.sha256,
            "licence": checkpoint.licence,
            "format": checkpoint.format,
        },
        "settings": {**job.settings(), "device": str(job.device)},
        "settings_hash": workspace.settings_hash,
        "network_size": list(clip.rgb.shape[1:3]),
        "intrinsics_original": scene.intrinsics_original.tolist(),
        "scale": scene.scale,
        "pairs": {"graph": job.options.graph, "count": len(job.edges(len(clip)))},
        "alignment": {
            "start_loss": aligned.start_loss,
            "final_loss": aligned.final_loss,
            "iterations": aligned.iterations,
            "stopped": aligned.reason,
        },
        "stages": {name: asdict(record) for name, record in workspace.stages.items()},
    }


def _frame(clip: Clip, position: int) -> dict[str, Any]:
    """One frame: where it stands in the input, and how its pixels came about."""
    return {
        "index": int(clip.frame_indices[position]),
        "time": float(clip.times[position]),
        "original_size": [int(side) for side in clip.original_sizes[position]],
        "network_to_original": asdict(clip.pixel_map(position)),
    }
