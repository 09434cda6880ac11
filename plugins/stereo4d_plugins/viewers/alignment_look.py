"""How an alignment looks in Rerun: the size of cameras, the names and colours of curves, the layout, the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rerun.blueprint as rrb

from stereo4d_plugins.viewers.contact_sheet import ContactSheet
from stereo4d_plugins.viewers.rerun_look import BACKGROUND, PATH_COLOR, distance_to_see

if TYPE_CHECKING:
    from stereo4d.alignment.watching import AlignmentStep

CAMERAS = "Cameras, first yellow to last red; grey: where they started"
LOSS = "Loss by grid"
FIRST_COLOR, LAST_COLOR = (255, 236, 140), (240, 70, 50)
START_COLOR = (120, 125, 140)
LEVEL_COLORS = ((95, 170, 255), PATH_COLOR, (120, 220, 140), (230, 120, 200))
HALF_VIEW = (0.42, 0.47)  # as rerun_look.HALF_VIEW, for a view that is higher than wide
STEPS_PER_SECOND = 4.0


@dataclass(frozen=True)
class AlignmentLook:
    """What is measured once for all steps of an alignment."""

    image_size: tuple[int, int]
    """(H, W) of what ``intrinsics`` speak of."""
    camera_size: float
    """Length of the drawn cameras along their axis, in the world's unit."""
    residual_top: float
    """Where the colours of residuals end, as a share of the scene's size."""
    grids: dict[int, tuple[int, int]]
    """(h, w) of every level's grid of pixels."""
    shared_focal: bool
    """Whether all frames have one focal, at every step."""
    sheet: ContactSheet

    @classmethod
    def of(cls, steps: Sequence[AlignmentStep], rgb: np.ndarray | None) -> AlignmentLook:
        """Measure the steps; ``rgb`` (N, H, W, 3) tells the size of the images, else the last step's camera does."""
        last = steps[-1]
        if rgb is not None:
            image_size = (int(rgb.shape[1]), int(rgb.shape[2]))
        else:
            middle = last.intrinsics[0, :2, 2].numpy(force=True)  # of pixels 0 ... W - 1, 0 ... H - 1
            image_size = (max(round(2 * float(middle[1])) + 1, 1), max(round(2 * float(middle[0])) + 1, 1))
        return cls(
            image_size=image_size,
            camera_size=_camera_size(last.cam2world.numpy(force=True)[:, :3, 3]),
            residual_top=_residual_top(steps),
            grids={step.level: (int(step.residual.shape[1]), int(step.residual.shape[2])) for step in steps},
            shared_focal=all(bool((step.intrinsics[:, 0, 0] == step.intrinsics[0, 0, 0]).all()) for step in steps),
            sheet=ContactSheet.of(len(last.cam2world), image_size),
        )

    def level_name(self, level: int) -> str:
        """What a level's curve is called."""
        height, width = self.grids[level]
        if len(self.grids) == 1:
            return f"grid of {width} × {height}"
        rank = "coarse" if level == min(self.grids) else "fine" if level == max(self.grids) else "medium"
        return f"{rank} grid, {width} × {height}"

    def level_color(self, level: int) -> tuple[int, int, int]:
        """The colour of a level's curve."""
        return LEVEL_COLORS[sorted(self.grids).index(level) % len(LEVEL_COLORS)]


def frustums(cam2world: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int], length: float) -> np.ndarray:
    """Cameras as lines: a pyramid each, with a gable on the upper edge of its image.

    Args:
        cam2world: (N, 4, 4).
        intrinsics: (N, 3, 3) pixels.
        image_size: (H, W).
        length: from the centre of projection to the image, in the world's unit.

    Returns:
        (N, 12, 3) vertices of one line for each camera, in the world.
    """
    height, width = image_size
    left, top, right, bottom = -0.5, -0.5, width - 0.5, height - 0.5
    gable = ((left + right) / 2, top - 0.25 * height)
    pixels = np.array([(left, top), (right, top), (right, bottom), (left, bottom), gable])
    homogeneous = np.concatenate([pixels, np.ones((5, 1))], axis=1)
    points = np.concatenate(
        [length * homogeneous @ np.linalg.inv(intrinsics).transpose(0, 2, 1), np.zeros((len(intrinsics), 1, 3))], axis=1
    )
    world = points @ cam2world[:, :3, :3].transpose(0, 2, 1) + cam2world[:, None, :3, 3]
    return world[:, _ORDER]


_ORDER = (1, 4, 0, 1, 2, 3, 0, 5, 1, 2, 5, 3)  # every edge of the pyramid in one stroke; 5 is the centre, 4 the gable


def frame_colors(num_frames: int) -> np.ndarray:
    """(N, 3) uint8: cameras from the first, yellow, to the last, red."""
    ramp = np.linspace(0, 1, num_frames)[:, None]
    return np.round((1 - ramp) * FIRST_COLOR + ramp * LAST_COLOR).astype(np.uint8)


def blueprint(steps: Sequence[AlignmentStep], look: AlignmentLook, *, with_rgb: bool) -> rrb.Blueprint:
    """The window: cameras on the left; loss, focal, residual images and frames on the right."""
    cameras = rrb.Spatial3DView(
        origin="/world",
        name=CAMERAS,
        background=list(BACKGROUND),
        line_grid=False,
        eye_controls=_eye(steps, look),
    )
    losses = np.array([step.loss for step in steps])
    logarithms = np.log10(losses[losses > 0])
    curves = rrb.Horizontal(
        rrb.Tabs(
            _plot("/loss", LOSS, _range_below_legend(losses)),
            _plot("/log10_loss", "log₁₀ loss", _range_below_legend(logarithms)),
            active_tab=int(len(logarithms) > 0 and float(np.ptp(logarithms)) > 2),
        ),
        _plot("/focal", "Focal (pixels)"),
    )
    sheets = [rrb.Spatial2DView(origin="/residual", name="Residual: how far points are from what the pairs say")]
    if with_rgb:
        sheets.append(rrb.Spatial2DView(origin="/frames", name="The same frames"))
    panel = rrb.TimePanel(state="collapsed", timeline="iteration", fps=STEPS_PER_SECOND, play_state="paused")
    return rrb.Blueprint(rrb.Horizontal(cameras, rrb.Vertical(curves, *sheets)), panel, collapse_panels=True)


def _plot(origin: str, name: str, legend_above: tuple[float, float] | None = None) -> rrb.TimeSeriesView:
    axis = None if legend_above is None else rrb.ScalarAxis(range=legend_above)
    legend = rrb.PlotLegend(rrb.Corner2D.RightTop, visible=legend_above is not None)
    return rrb.TimeSeriesView(origin=origin, name=name, plot_legend=legend, axis_y=axis)


def _range_below_legend(values: np.ndarray) -> tuple[float, float]:
    """A range of the vertical axis that keeps the upper part of the plot free."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    span = max(high - low, 1e-3 * abs(high), 1e-12)
    return low - 0.06 * span, high + 0.55 * span


def _camera_size(centres: np.ndarray) -> float:
    """Large enough to be seen beside the path of (N, 3) centres, small enough not to fill it."""
    extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    strides = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    stride = float(np.median(strides)) if len(strides) else 0.0
    return float(np.clip(1.5 * stride, 0.035 * extent, 0.12 * extent)) or 1.0


def _residual_top(steps: Sequence[AlignmentStep]) -> float:
    """High enough for the start to look worse than the end, low enough for the end not to look black."""
    first, last = (_high(step.residual.numpy(force=True)) for step in (steps[0], steps[-1]))
    return float(f"{max(min(first, 4 * last), last, 1e-6):.2g}")


def _high(residual: np.ndarray) -> float:
    known = residual[np.isfinite(residual)]
    return float(np.quantile(known, 0.99)) if len(known) else 0.0


def _eye(steps: Sequence[AlignmentStep], look: AlignmentLook) -> rrb.EyeControls3D:
    """Behind, above and beside the first camera, with all cameras of the start and of the end in view."""
    ends = [(step.cam2world.numpy(force=True), step.intrinsics.numpy(force=True)) for step in (steps[0], steps[-1])]
    seen = np.concatenate([frustums(*end, look.image_size, look.camera_size).reshape(-1, 3) for end in ends])
    right, down, forward = ends[1][0][0, :3, :3].T
    gaze = forward + 0.7 * down - 0.5 * right
    gaze /= np.linalg.norm(gaze)
    side = np.cross(gaze, -down)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, gaze), gaze])  # across, up and along the view
    seen = seen @ axes.T
    target = (seen.min(0) + seen.max(0)) / 2
    position = target - (0, 0, distance_to_see(seen - target, share=1.0, half_view=HALF_VIEW))
    return rrb.EyeControls3D(position=position @ axes, look_target=target @ axes, eye_up=-down)
