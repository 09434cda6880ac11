"""What is told of an alignment, in the manifest and on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stereo4d.alignment import AlignmentResult
from stereo4d.alignment.known import KnownResidual
from stereo4d.video.aligning import Aligned
from stereo4d.video.clip import Clip
from stereo4d.video.known_files import QUANTITIES, KnownFiles

_MEASURES = {
    "intrinsics": ("focal", "principal point"),
    "poses": ("rotation", "position"),
    "depths": ("depth",),
    "masks": (),
}
"""Known quantity -> how the alignment measures agreement with it (``KnownResidual.quantity``)."""


def alignment_section(aligned: Aligned, clip: Clip) -> dict[str, Any]:
    """How it went, as plain values. Pairs are named by frame indices of the input."""
    result, taken = aligned.result, set(aligned.result.pairs.tolist()) | aligned.beside
    set_aside = [edge for position, edge in enumerate(aligned.edges.tolist()) if position not in taken]
    return {
        "start_loss": result.start_loss,
        "solved_loss": result.solved_loss,
        "final_loss": result.final_loss,
        "iterations": result.iterations,
        "stopped": result.reason,
        "losses": [list(level) for level in result.losses],
        "pairs_set_aside": [[int(clip.frame_indices[frame]) for frame in edge] for edge in set_aside],
        **aligned.windows,
    }


def known_section(
    result: AlignmentResult, files: KnownFiles, settings: Mapping[str, Any], clip: Clip
) -> dict[str, Any]:
    """What was known beforehand, from where, how firmly, and how answer and pairs agree with it; plain values.

    Args:
        result: what came out.
        files: what was given.
        settings: what ``files.settings()`` said.
        clip: the frames.
    """
    said: dict[str, Any] = {}
    for name, firmness in settings.items():
        residuals = [residual for residual in result.known if residual.quantity in _MEASURES[name]]
        said[name] = {
            "path": str(getattr(files, name)),
            **firmness,
            "residuals": {residual.quantity: _residual(residual, clip) for residual in residuals},
        }
    return said


def scale_of(result: AlignmentResult, files: KnownFiles) -> str:
    """Whose unit the answer is in; see ``Scene.scale``."""
    source = files.poses or files.depths
    return f"given ({Path(source).name})" if result.scale_given and source is not None else "unknown"


def alignment_lines(manifest: Mapping[str, Any]) -> list[str]:
    """What a manifest says of the alignment, in words."""
    went, count = manifest["alignment"], manifest["pairs"]["count"]
    aside = went["pairs_set_aside"]
    named = ", ".join(f"{i}→{j}" for i, j in aside[:8]) + (" ..." if len(aside) > 8 else "")
    lines = [
        _solved_line(went),
        f"set aside  {len(aside)} of {count} pairs" + (f", which contradict the others: {named}" if aside else ""),
        *_window_lines(went),
    ]
    for name in QUANTITIES:
        if (known := manifest["known"].get(name)) is not None:
            lines += _known_lines(name, known)
    return [*lines, *_motion_lines(manifest.get("motion")), f"scale      {manifest['scale']}"]


def _solved_line(went: Mapping[str, Any]) -> str:
    """How cameras were found."""
    if "anchor" in went:
        lost = len(went["frames_without_pose"])
        failed = f", of which {lost} found no place" if lost else ""
        return f"alignment  loss {went['final_loss']:.5f}; {went['stopped']}, cameras by PnP{failed}"
    return (
        f"alignment  loss {went['start_loss']:.5f} to {went['solved_loss']:.5f} on a sample of the pixels, "
        f"{went['final_loss']:.5f} on all, in {went['iterations']} iterations; {went['stopped']}"
    )


def _motion_lines(motion: Mapping[str, Any] | None) -> list[str]:
    """What moves, where it was looked for."""
    if motion is None:
        return []
    share = 100 * float(np.mean(motion["moving_share"]))
    return [f"moving     {share:.0f} % of the pixels, by {motion['mask_by']}; the camera {motion['camera']}"]


def _window_lines(went: Mapping[str, Any]) -> list[str]:
    """How well windows fit, where there are several."""
    seams = [entry["seam_to_the_one_before"] for entry in went.get("windows", ())][1:]
    if not seams:
        return []
    errors = [seam["points"] for seam in seams]
    worst = int(np.argmax(errors))
    at_worst = f"{100 * errors[worst]:.2g} %, {seams[worst]['degrees']:.2g} degrees"
    where, loops = went["windows"][worst + 1]["frames"][0], went["loops"]
    return [
        f"windows    {len(seams) + 1}; neighbours differ by {100 * np.median(errors):.2g} % of the depth "
        f"(at worst {at_worst}, at frame {where}); {sum(loop['believed'] for loop in loops)} of {len(loops)} loops hold"
    ]


def _known_lines(name: str, known: Mapping[str, Any]) -> list[str]:
    if name == "masks":
        return [f"known      masks ({known['path']}): ignored pixels keep {known['keep']:g} of their weight"]
    hard = known["weight"] == "hard"
    lines = [f"known      {name} ({known['path']}), " + ("held" if hard else f"weight {known['weight']:g}")]
    for measure, residual in known["residuals"].items():
        answer, pairs = _off_by(residual["answer"]), _off_by(residual["pairs"])
        lines.append(f"           {measure}, {residual['unit']}: the answer {answer}, the pairs alone {pairs}")
    return lines


def _residual(residual: KnownResidual, clip: Clip) -> dict[str, Any]:
    return {
        "unit": residual.unit,
        "frames": len(residual.frames),
        "answer": _spread(residual.answer, residual, clip),
        "pairs": _spread(residual.pairs, residual, clip),
    }


def _spread(values: tuple[float, ...], residual: KnownResidual, clip: Clip) -> dict[str, Any] | None:
    """Median, and the worst frame; None where no frame has a value."""
    array = np.array(values, np.float64)
    if not np.isfinite(array).any():
        return None
    worst = int(np.nanargmax(array))
    frame = int(clip.frame_indices[residual.frames[worst]])
    return {"median": float(np.nanmedian(array)), "worst": float(array[worst]), "worst_frame": frame}


def _off_by(spread: Mapping[str, Any] | None) -> str:
    if spread is None:
        return "say nothing"
    return f"off by {spread['median']:.3g} (at worst {spread['worst']:.3g}, frame {spread['worst_frame']})"
