"""Pairs with their truth as Rerun recordings (``.rrd``): both views' points in one frame, motion, images, depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from torch import Tensor

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.transforms import to_uint8
from stereo4d.errors import UsageError
from stereo4d.geometry.rigid import invert, transform_points
from stereo4d_plugins.viewers.rerun_file import recording_file
from stereo4d_plugins.viewers.rerun_look import BACKGROUND, PATH_COLOR
from stereo4d_plugins.viewers.rerun_motion import ARROW_COLOR

POINTS = 60_000  # of a view
ARROWS = 200
MATCHES = 40
SECOND_COLOR = (90, 170, 255)
_STILL = 0.01  # motion below this share of the typical distance is not drawn


def write_pairs(pairs: Sequence[PairBatch], path: Path) -> Path:
    """Write the recording; see ``Viewer.write_pairs``.

    Entities: ``world/view0/points`` and ``world/view1/points``, ``world/motion`` (from view 0's points to the last
    query time), ``world/camera0`` and ``world/camera1``, ``view0/rgb`` ``view0/depth`` ``view0/matches`` and those of
    view 1, ``name``. Timeline: ``frame`` counts the pairs. Lengths are in units of the pair's median depth, so that
    pairs of all data sets are of one size.
    """
    if not pairs:
        raise UsageError("there is no pair to show; give at least one")
    with recording_file(path, _layout(), application="stereo4d pairs") as recording:
        recording.log("world", rr.ViewCoordinates.RDF, static=True)
        single = [(batch, row) for batch in pairs for row in range(len(batch.names))]
        for number, (batch, row) in enumerate(single):
            recording.set_time("frame", sequence=number)
            _log_pair(recording, batch, row)
    return path


def _layout() -> rrb.Blueprint:
    space = rrb.Spatial3DView(
        origin="/world",
        name="Both views in view 0's frame",
        background=list(BACKGROUND),
        line_grid=False,
        eye_controls=rrb.EyeControls3D(position=[0.35, -0.5, -0.7], look_target=[0, 0.05, 0.9], eye_up=[0, -1, 0]),
    )
    views = [
        rrb.Vertical(
            rrb.Spatial2DView(origin=f"/view{n}", name=f"View {n}", contents=["+ $origin/rgb", "+ $origin/matches"]),
            rrb.Spatial2DView(origin=f"/view{n}", name=f"Depth {n}", contents=["+ $origin/depth"]),
        )
        for n in (0, 1)
    ]
    right = rrb.Vertical(rrb.Horizontal(*views), rrb.TextDocumentView(origin="/name", name="Pair"), row_shares=[6, 1])
    panel = rrb.TimePanel(state="collapsed", timeline="frame", fps=1.0, play_state="paused")
    return rrb.Blueprint(rrb.Horizontal(space, right, column_shares=[5, 4]), panel, collapse_panels=True)


def _log_pair(recording: rr.RecordingStream, batch: PairBatch, row: int) -> None:
    relative = batch.relative[row : row + 1].double().cpu()
    own = [batch.pointmap0[row].double().cpu(), batch.pointmap1[row].double().cpu()]
    valid = [_array(batch.valid0[row]), _array(batch.valid1[row])]
    in_camera1 = transform_points(invert(relative), own[1][None])[0]
    depths = [_array(own[0][..., 2]), _array(in_camera1[..., 2])]
    unit = float(np.median(depths[0][valid[0]])) if valid[0].any() else 1.0
    poses = [np.eye(4), _array(relative[0])]
    recording.log("name", rr.TextDocument(batch.names[row]))
    kept = _matched(batch, row)
    for view, (image, intrinsics, portrait) in enumerate(
        [(batch.image0, batch.intrinsics0, batch.portrait0), (batch.image1, batch.intrinsics1, batch.portrait1)]
    ):
        upright, lies = to_uint8(image[row]), bool(portrait[row])
        rows = _thinned(valid[view], POINTS)
        points, colors = _array(own[view]).reshape(-1, 3)[rows] / unit, upright.reshape(-1, 3)[rows]
        recording.log(
            f"world/view{view}/points", rr.Points3D(points, colors=colors, radii=0.65 / float(intrinsics[row].max()))
        )
        if lies:  # stored lying, looked at as it stands
            upright, depths[view] = upright.swapaxes(0, 1), depths[view].T
        lens = _array(intrinsics[row])[[1, 0, 2]] if lies else _array(intrinsics[row])
        _log_camera(recording, view, poses[view], lens, upright.shape, unit)
        recording.log(f"view{view}/rgb", rr.Image(np.ascontiguousarray(upright)))
        shown = np.where(valid[view].T if lies else valid[view], depths[view] / unit, 0).astype(np.float32)
        recording.log(f"view{view}/depth", rr.DepthImage(shown, meter=1.0, colormap="turbo"))
        places = kept[view][:, ::-1] if lies else kept[view]
        hues = np.linspace(0, 255, max(1, len(places))).astype(np.uint8)
        recording.log(f"view{view}/matches", rr.Points2D(places, class_ids=hues + 1, radii=rr.Radius.ui_points(2.5)))
    _log_motion(recording, batch, row, valid[0], unit)


def _log_camera(
    recording: rr.RecordingStream, view: int, pose: np.ndarray, lens: np.ndarray, shape: tuple[int, ...], unit: float
) -> None:
    entity = f"world/camera{view}"
    recording.log(entity, rr.Transform3D(translation=pose[:3, 3] / unit, mat3x3=pose[:3, :3]))
    pinhole = rr.Pinhole(
        image_from_camera=lens,
        resolution=[shape[1], shape[0]],
        camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=0.12,
        color=PATH_COLOR if view == 0 else SECOND_COLOR,
    )
    recording.log(entity, pinhole)


def _log_motion(recording: rr.RecordingStream, batch: PairBatch, row: int, valid: np.ndarray, unit: float) -> None:
    """Arrows from view 0's points to where they are at the last query time that is known."""
    origins, vectors = np.zeros((0, 3)), np.zeros((0, 3))
    for query in range(batch.times.shape[1]):
        moved = _array(batch.motion0[row, query]) / unit
        moves = valid & _array(batch.motion_valid0[row, query]) & (np.linalg.norm(moved, axis=-1) > _STILL)
        if moves.any():
            rows = _thinned(moves, ARROWS)
            origins, vectors = (_array(batch.pointmap0[row]) / unit).reshape(-1, 3)[rows], moved.reshape(-1, 3)[rows]
    arrows = rr.Arrows3D(origins=origins, vectors=vectors, colors=[ARROW_COLOR], radii=rr.Radius.ui_points(1.2))
    recording.log("world/motion", arrows)


def _matched(batch: PairBatch, row: int) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) pixels (u, v) of view 0, and where they are in view 1."""
    places = _array(batch.match0[row])
    rows = _thinned(np.isfinite(places).all(-1), MATCHES)
    width = places.shape[1]
    return np.stack([rows % width, rows // width], 1).astype(float), places.reshape(-1, 2)[rows]


def _thinned(mask: np.ndarray, limit: int) -> np.ndarray:
    """Positions in the flattened mask where it holds, evenly thinned to at most ``limit``."""
    rows = np.flatnonzero(mask)
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), limit)).astype(int))] if len(rows) else rows


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
