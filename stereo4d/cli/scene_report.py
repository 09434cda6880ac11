"""What a command that made a scene tells of it: plain values for ``--json``, lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stereo4d.types import Scene


def scene_report(scene: Scene, folder: Path, laid_out: Path | None = None) -> dict[str, Any]:
    """What came out, and what it took, as plain values.

    Args:
        scene: as stored.
        folder: where.
        laid_out: where it lies in the files of another program, too.
    """
    from stereo4d.video.workspace import ALIGNMENT_RECORDING, RECORDING

    said, alignment = scene.manifest, folder / ALIGNMENT_RECORDING
    return {
        "input": said["input"]["path"],
        "scene": str(folder),
        "recording": str(folder / RECORDING),
        "alignment_recording": str(alignment) if alignment.exists() else None,
        "layout": None if laid_out is None else str(laid_out),
        "frames": len(scene),
        "weights": said["weights"],
        "pairs": said["pairs"]["count"],
        "alignment": said["alignment"],
        "known": said["known"],
        "scale": scene.scale,
        "seconds": {name: record["seconds"] for name, record in said["stages"].items()},
        "warnings": said["warnings"],
    }


def scene_lines(scene: Scene, folder: Path, laid_out: Path | None = None, *, more: Sequence[str] = ()) -> list[str]:
    """The same in words.

    Args:
        scene: as stored.
        folder: where.
        laid_out: where it lies in the files of another program, too.
        more: lines to put before those that say where things lie.
    """
    from stereo4d.video.alignment_report import alignment_lines

    report = scene_report(scene, folder)
    seconds = report["seconds"]
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    shown = "; --alignment shows how it was aligned" if report["alignment_recording"] else ""
    graph = scene.manifest["pairs"]["graph"] or "as stored"
    weights = report["weights"] and weights_line(report["weights"])
    return [
        f"input      {report['input']}",
        *([f"weights    {weights}"] if weights else []),
        f"frames     {len(scene)}, {scene.times[0]:.2f} to {scene.times[-1]:.2f} s",
        f"pairs      {report['pairs']} ({graph})",
        *alignment_lines(scene.manifest),
        f"seconds    {sum(seconds.values()):.1f} ({stages})",
        *more,
        f"scene      {folder}",
        f"recording  {report['recording']} (stereo4d view {folder}{shown})",
        *([] if laid_out is None else [f"layout     {laid_out}"]),
    ]


def weights_line(weights: Mapping[str, Any]) -> str:
    """What predicted, from the ``weights`` of a manifest, in words."""
    # Pairs may come with the manifest of an earlier version.
    brought, because = weights.get("version") or weights.get("name"), weights.get("chosen_because")
    return f"{weights.get('source')} ({brought})" + (f", chosen because {because}" if because else "")
