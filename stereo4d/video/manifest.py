"""What ``manifest.json`` says about a scene: where it came from, what was done, what it cost, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stereo4d import __version__
from stereo4d.types import Scene
from stereo4d.video.aligning import Aligned
from stereo4d.video.alignment_report import alignment_section, known_section
from stereo4d.video.clip import Clip
from stereo4d.video.job import Job
from stereo4d.video.known_files import KnownFiles
from stereo4d.video.workspace import Workspace


@dataclass(frozen=True)
class Provenance:
    """What a scene is made from, and how; known before the work begins."""

    sections: Mapping[str, Any]
    """Of the manifest: ``input``, ``weights`` and ``settings``, the latter with ``known``."""
    graph: str | None
    """The name of the pair graph; None where the pairs are simply those given."""
    known: KnownFiles
    """Files of what is known beforehand."""


def build_manifest(
    clip: Clip,
    aligned: Aligned,
    provenance: Provenance,
    workspace: Workspace,
    scene: Scene,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The manifest as plain values.

    Args:
        clip: the frames that were used.
        aligned: how the alignment went.
        provenance: what all of it was made from, and how.
        workspace: knows what each stage cost.
        scene: what came out, with a manifest that says which heads spoke and which maps it keeps.
        warnings: what was said to the user on the way.
    """
    known_settings = provenance.sections["settings"]["known"]
    return {
        "made_by": f"stereo4d {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance.sections,
        "frames": [_frame(clip, position) for position in range(len(clip))],
        "failed_frames": [asdict(frame) for frame in clip.failed],
        "warnings": list(warnings),
        "settings_hash": workspace.settings_hash,
        "network_size": list(clip.rgb.shape[1:3]),
        "intrinsics_original": scene.intrinsics_original.tolist(),
        "scale": scene.scale,
        "heads": scene.manifest["heads"],
        "maps": scene.manifest["maps"],
        "pairs": {"graph": provenance.graph, "count": len(aligned.edges)},
        "alignment": alignment_section(aligned, clip),
        "known": known_section(aligned.result, provenance.known, known_settings, clip),
        "stages": {name: asdict(record) for name, record in workspace.stages.items()},
    }


def provenance_of(job: Job) -> Provenance:
    """What a reconstruction is made from, and how."""
    identity = job.identity
    sections = {
        "input": {
            "path": job.source.label,
            "files": [str(Path(path).name) for path in job.source.paths],
            "sha256": job.input_sha256,
            "declared_frames": len(job.listing.times),
            **({"shot": list(job.shot)} if job.shot else {}),
        },
        "weights": {
            "source": job.choice.weights,
            **asdict(identity),
            "chosen_because": job.choice.because,
        },
        "settings": {**job.settings(), **job.alignment_settings(), "device": str(job.device)},
    }
    return Provenance(sections, job.graph, job.options.known)


def _frame(clip: Clip, position: int) -> dict[str, Any]:
    """One frame: where it stands in the input, and how its pixels came about."""
    return {
        "index": int(clip.frame_indices[position]),
        "time": float(clip.times[position]),
        "original_size": [int(side) for side in clip.original_sizes[position]],
        "network_to_original": asdict(clip.pixel_map(position)),
    }
