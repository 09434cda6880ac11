"""Alignments as Rerun recordings (``.rrd``): loss, cameras, residuals and focal on a timeline of iterations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rerun as rr
from PIL import Image

from stereo4d.errors import ShapeError, UsageError
from stereo4d_plugins.viewers.alignment_look import START_COLOR, AlignmentLook, blueprint, frame_colors, frustums
from stereo4d_plugins.viewers.rerun_file import recording_file
from stereo4d_plugins.viewers.rerun_look import PATH_COLOR

if TYPE_CHECKING:
    from stereo4d.alignment.watching import AlignmentStep

MOST_STATES = 60  # with cameras and images; bounds the file of a solver that takes thousands of small steps


def write_alignment(steps: Sequence[AlignmentStep], path: Path, *, rgb: np.ndarray | None = None) -> Path:
    """Write the recording; see ``Viewer.write_alignment``.

    Entities: ``world/cameras`` (one line each) and ``world/path``, ``world/start`` (where they stood first) and
    ``world/moved`` (from there to here), ``loss/level_0`` ... and ``log10_loss/level_0`` ..., ``focal``, ``residual``,
    and ``frames`` where ``rgb`` is given. Timeline: ``iteration``, the number of steps made.
    """
    _check(steps, rgb)
    look = AlignmentLook.of(steps, rgb)
    shown = set(np.linspace(0, len(steps) - 1, min(len(steps), MOST_STATES)).round().astype(int).tolist())
    layout = blueprint(steps, look, with_rgb=rgb is not None)
    # A name of its own, lest the viewer lay out scenes like alignments once it has shown one.
    with recording_file(path, layout, application="stereo4d alignment") as recording:
        _log_static(recording, steps, look, rgb)
        for i, (iteration, step) in enumerate(zip(iterations(steps), steps, strict=True)):
            recording.set_time("iteration", sequence=iteration)
            _log_numbers(recording, step, look)
            if i in shown:
                _log_cameras(recording, step, steps[0], look)
                sheet = look.sheet.shares(step.residual.numpy(force=True), look.residual_top)
                recording.log("residual", _png(sheet))
    return path


def iterations(steps: Sequence[AlignmentStep]) -> list[int]:
    """How many steps were made before each state: a level begins with the cameras that the one before ended with."""
    counts = [0]
    for before, here in pairwise(steps):
        same = before.level != here.level and bool((before.cam2world == here.cam2world).all())
        counts.append(counts[-1] + (not same))
    return counts


def _check(steps: Sequence[AlignmentStep], rgb: np.ndarray | None) -> None:
    if not steps:
        raise UsageError("an alignment without steps cannot be shown; collect them by align(..., watch=steps.append)")
    num_frames = len(steps[0].cam2world)
    if rgb is not None and (rgb.ndim != 4 or rgb.shape[0] != num_frames or rgb.shape[3] != 3 or rgb.dtype != np.uint8):
        raise ShapeError(f"rgb is {rgb.shape} {rgb.dtype}, but must be ({num_frames}, H, W, 3) uint8, one per camera")


def _log_static(
    recording: rr.RecordingStream, steps: Sequence[AlignmentStep], look: AlignmentLook, rgb: np.ndarray | None
) -> None:
    start = steps[0]
    recording.log("world", rr.ViewCoordinates.RDF, static=True)
    recording.log("world/start", _path(start.cam2world[:, :3, 3].numpy(force=True), START_COLOR, 1.2), static=True)
    for level in look.grids:
        for kind in ("loss", "log10_loss"):
            name, color = look.level_name(level), look.level_color(level)
            style: list[rr.AsComponents] = [rr.SeriesLines(names=name, colors=[color], widths=2.0)]
            if len(steps) <= MOST_STATES:  # more dots than that would run together
                style.append(rr.SeriesPoints(names=name, colors=[color], marker_sizes=3.0, markers="circle"))
            recording.log(f"{kind}/level_{level}", *style, static=True)
    if look.shared_focal:
        focals = rr.SeriesLines(names="focal", colors=[PATH_COLOR], widths=2.0)
    else:
        count = len(start.cam2world)
        names = [f"frame {i}" for i in range(count)]
        focals = rr.SeriesLines(names=names, colors=frame_colors(count), widths=[1.0] * count)
    recording.log("focal", focals, static=True)
    if rgb is not None:
        recording.log("frames", rr.Image(look.sheet.pictures(rgb)).compress(jpeg_quality=90), static=True)
    recording.send_property("alignment", rr.AnyValues(frames=len(start.cam2world), levels=len(look.grids)))


def _log_numbers(recording: rr.RecordingStream, step: AlignmentStep, look: AlignmentLook) -> None:
    recording.log(f"loss/level_{step.level}", rr.Scalars(step.loss))
    if step.loss > 0:
        recording.log(f"log10_loss/level_{step.level}", rr.Scalars(np.log10(step.loss)))
    focals = step.intrinsics[:, 0, 0].numpy(force=True)
    recording.log("focal", rr.Scalars(focals[:1] if look.shared_focal else focals))


def _log_cameras(recording: rr.RecordingStream, step: AlignmentStep, start: AlignmentStep, look: AlignmentLook) -> None:
    cam2world, intrinsics = step.cam2world.numpy(force=True), step.intrinsics.numpy(force=True)
    lines = frustums(cam2world, intrinsics, look.image_size, look.camera_size)
    colors = frame_colors(len(cam2world))
    recording.log("world/cameras", rr.LineStrips3D(lines, colors=colors, radii=rr.Radius.ui_points(0.8)))
    centres = cam2world[:, :3, 3]
    recording.log("world/path", _path(centres, PATH_COLOR, 1.8))
    moved = np.stack([start.cam2world[:, :3, 3].numpy(force=True), centres], axis=1)
    recording.log("world/moved", rr.LineStrips3D(moved, colors=[START_COLOR], radii=rr.Radius.ui_points(0.6)))
    ends = sorted({0, len(centres) - 1})
    names = [f"frame {i}" for i in ends]
    dots = rr.Points3D(centres[ends], colors=colors[ends], labels=names, radii=rr.Radius.ui_points(2.5))
    recording.log("world/ends", dots)


def _path(centres: np.ndarray, color: tuple[int, int, int], radius: float) -> rr.LineStrips3D:
    return rr.LineStrips3D([centres], colors=[color], radii=rr.Radius.ui_points(radius))


def _png(image: np.ndarray) -> rr.EncodedImage:
    """A palette loses nothing that an eye could see, at half the size; JPEG would smear the squares of the grid."""
    content = io.BytesIO()
    Image.fromarray(image).quantize(256, dither=Image.Dither.NONE).save(content, "PNG")
    return rr.EncodedImage(contents=content.getvalue(), media_type="image/png")
