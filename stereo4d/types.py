"""The data that flows through stereo4d. Shapes, units and frames are stated here and only here.

Conventions (docs/conventions.md): OpenCV cameras, x right, y down, z forward; ``cam2world`` is 4x4; ``intrinsics`` is
3x3 in pixels with pixel centres at integers; time is in seconds in a scene. Letters: N frames, E directed pairs
(edges), H W image, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from stereo4d.scene_motion import Moment, SceneMotion
    from stereo4d.scene_tracks import Tracks


@dataclass(frozen=True)
class PixelMap:
    """The axis-aligned affine map from network pixels to the pixels of the original image.

    ``u_original = scale_u * u + offset_u``, likewise for v; pixel centres at integers on both sides.
    """

    scale_u: float = 1.0
    scale_v: float = 1.0
    offset_u: float = 0.0
    offset_v: float = 0.0

    def to_original(self, intrinsics: np.ndarray) -> np.ndarray:
        """Intrinsics (..., 3, 3) at network resolution, expressed in pixels of the original image."""
        return self.matrix() @ intrinsics

    def to_network(self, intrinsics: np.ndarray) -> np.ndarray:
        """Intrinsics (..., 3, 3) in pixels of the original image, expressed at network resolution."""
        return np.linalg.inv(self.matrix()) @ intrinsics

    def then(self, outer: PixelMap) -> PixelMap:
        """The map that applies this one first and ``outer`` to its result."""
        return PixelMap(
            outer.scale_u * self.scale_u,
            outer.scale_v * self.scale_v,
            outer.scale_u * self.offset_u + outer.offset_u,
            outer.scale_v * self.offset_v + outer.offset_v,
        )

    def matrix(self) -> np.ndarray:
        """The map as a (3, 3) float64 matrix on homogeneous pixels."""
        return np.array(
            [[self.scale_u, 0.0, self.offset_u], [0.0, self.scale_v, self.offset_v], [0.0, 0.0, 1.0]], np.float64
        )


@dataclass(frozen=True)
class View:
    """One image, prepared for the network."""

    image: Tensor
    """(3, H, W) float32 RGB in [-1, 1]; H and W are multiples of the network's patch size."""
    original_size: tuple[int, int]
    """(height, width) of the image as it is meant to be seen (rotation applied), before crop and resize."""
    to_original: PixelMap = field(default_factory=PixelMap)
    """From this view's pixels to the original image's pixels."""
    index: int = 0
    """Frame index in the input (not in the selection)."""
    time: float = 0.0
    """Presentation time in seconds."""


DYNAMICS = "dynamics"
"""The name in ``PairPrediction.extras`` of what moves: ``moving0`` and ``moving1``, (E, H, W), 0 ... 1, how much speaks
against the pixel's standing still."""


@dataclass(frozen=True)
class PairPrediction:
    """What a predictor says about E directed pairs (view 0, view 1)."""

    pointmap0: Tensor
    """(E, H, W, 3): 3D points of the pixels of view 0, in view 0's camera, scale free."""
    confidence0: Tensor
    """(E, H, W), > 1."""
    pointmap1: Tensor
    """(E, H, W, 3): 3D points of the pixels of view 1, also in view 0's camera, same scale as ``pointmap0``."""
    confidence1: Tensor
    """(E, H, W), > 1."""
    extras: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """What further heads add: head name -> output name -> (E, H, W, ...), or (E, Q, H, W, ...) at Q query times."""

    def on_cpu(self) -> PairPrediction:
        """The same prediction as float32 tensors in main memory."""

        def plain(value: Tensor) -> Tensor:
            """As float32 in main memory."""
            return value.float().cpu()

        return PairPrediction(
            plain(self.pointmap0),
            plain(self.confidence0),
            plain(self.pointmap1),
            plain(self.confidence1),
            {head: {name: plain(value) for name, value in maps.items()} for head, maps in self.extras.items()},
        )


@dataclass(frozen=True)
class ClipTruth:
    """Exact truth of a clip: N frames at the clip's own resolution, in the unit of the world it was made in."""

    cam2world: np.ndarray
    """(N, 4, 4) float32, any world frame."""
    intrinsics: np.ndarray
    """(N, 3, 3) float32, pixels of the clip's frames."""
    depth: np.ndarray
    """(N, H, W) float32, distance along the optical axis; 0 where nothing is measured (sky)."""
    dynamic: np.ndarray
    """(N, H, W) uint8: 1 where the surface moves on its own."""
    times: np.ndarray
    """(N,) float64, seconds."""


@dataclass(frozen=True)
class MotionSamples:
    """How far the points of a scene's frames move towards other frames, sampled at a few times on the way.

    Arrays may be memory-mapped.
    """

    edges: np.ndarray
    """(M, 2) int64: positions in the scene of the frame whose pixels move, and of the frame towards whose time they do;
    in practice neighbours, both ways."""
    times: np.ndarray
    """(Q,) float64: fractions of the way in time, in (0, 1], ascending; the last one is 1."""
    displacement: np.ndarray
    """(M, Q, H, W, 3) float16: from the pixel's point to where it is then, world axes, scene's unit; NaN where not
    known."""
    confidence: np.ndarray
    """(M, Q, H, W) float16, >= 1."""


@dataclass(frozen=True)
class Scene:
    """A reconstructed clip: N frames, one world. The world is the first frame's camera unless poses were given.

    Arrays may be memory-mapped; nothing is read before it is asked for.
    """

    cam2world: np.ndarray
    """(N, 4, 4) float32."""
    intrinsics: np.ndarray
    """(N, 3, 3) float32, pixels at network resolution (the H x W of ``depth``)."""
    depth: np.ndarray
    """(N, H, W) float16: distance along the optical axis in the scene's unit; <= 0 marks no measurement."""
    confidence: np.ndarray
    """(N, H, W) float16, > 1."""
    dynamic: np.ndarray
    """(N, H, W) uint8: 1 where the pixel moves on its own, 0 where it is static or not known to move."""
    rgb: np.ndarray
    """(N, H, W, 3) uint8."""
    times: np.ndarray
    """(N,) float64, seconds, strictly increasing."""
    frame_indices: np.ndarray
    """(N,) int64: index of each frame in the input."""
    intrinsics_original: np.ndarray
    """(N, 3, 3) float64, pixels of the original input (crop and resize undone)."""
    original_sizes: np.ndarray
    """(N, 2) int64: (height, width) of each original frame."""
    scale: str = "unknown"
    """``"unknown"``, ``"metric (source)"``, or ``"given (file)"``: the unit of the poses or depths in that file,
    whatever it is. Lengths are in metres only when it says metric."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """What ``manifest.json`` says: input, weights, settings, timings (design: stereo4d/video/workspace.py)."""
    motion_samples: MotionSamples | None = None
    """What ``motion``, ``at`` and ``tracks`` answer from; None where nothing is known of motion."""
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What further heads say of every frame: ``"HEAD.OUTPUT"`` -> (N, H, W, ...) float16. ``manifest["maps"]`` says by
    the same names the ``frame``, the ``activation`` and how it is ``shown_as`` (``stereo4d.network.head.Output``)."""

    def __len__(self) -> int:
        return len(self.cam2world)

    def points(self, frame: int) -> np.ndarray:
        """(H, W, 3) float32 points of one frame in the world; NaN where there is no measurement."""
        depth = np.asarray(self.depth[frame], np.float32)
        height, width = depth.shape
        v, u = np.mgrid[:height, :width].astype(np.float32)
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(self.intrinsics[frame]).T.astype(np.float32)
        camera = np.where(depth > 0, depth, np.nan)[..., None] * rays
        return camera @ self.cam2world[frame, :3, :3].T + self.cam2world[frame, :3, 3]

    def motion(self, t0: float, t1: float) -> SceneMotion:
        """How far the pixels of the frame at ``t0`` move until ``t1``; camera motion is not among it.

        Args:
            t0: seconds, of a frame, to within half the time to its neighbours.
            t1: seconds, any time of the clip, between frames too.

        Raises:
            UsageError: the scene knows of no motion, no frame is at ``t0``, or ``t1`` is outside the clip.
        """
        from stereo4d.scene_motion import motion_between

        return motion_between(self, t0, t1)

    def at(self, t: float) -> Moment:
        """The scene at any time of the clip: at a frame's time its points, in between those of both neighbours, moved.

        Args:
            t: seconds.

        Raises:
            UsageError: ``t`` is outside the clip, or between frames of a scene that knows of no motion.
        """
        from stereo4d.scene_motion import moment_at

        return moment_at(self, t)

    def tracks(self, pixels: np.ndarray, *, frame: int = 0) -> Tracks:
        """Follow points through the clip, forwards and backwards, with confidence and occlusion.

        Args:
            pixels: (P, 2) u, v at network resolution, whole or not, within the image.
            frame: in which frame these pixels are, counted from 0.

        Raises:
            UsageError: the scene knows of no motion, there is no such frame, or a pixel is outside the image.
            ShapeError: pixels are not (P, 2).
        """
        from stereo4d.scene_tracks import follow

        return follow(self, pixels, frame=frame)

    def with_manifest(self, manifest: Mapping[str, Any]) -> Scene:
        """The same scene with another manifest."""
        return replace(self, manifest=manifest)

    def save(self, folder: str | Path) -> Path:
        """Write ``scene.safetensors``, ``trajectory.txt`` and ``manifest.json``, each whole or not at all.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        from stereo4d.scene_files import save_scene

        return save_scene(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Scene:
        """Open a scene folder; dense arrays are memory-mapped.

        Raises:
            SceneError: the folder is not a scene, or not whole.
        """
        from stereo4d.scene_files import load_scene

        return load_scene(Path(folder))

    def export(self, formats: Sequence[str], out: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Hand the scene on to other programs, as files in a folder of their own.

        Args:
            formats: names of installed exporters, for example ``["monst3r"]``.
            out: of one format, its folder; of several, the folder that gets one for each, named like it.
            overwrite: replace exports that are there.

        Returns:
            The folder of every format.

        Raises:
            UsageError: there is no such format.
            OutputError: something is in the place, or it cannot be written; then nothing is.
        """
        from stereo4d.exporting import export_scene

        return export_scene(self, formats, Path(out), overwrite=overwrite)

    def to_rerun(self, path: str | Path) -> Path:
        """Write a Rerun recording (``.rrd``) of the scene: cloud over time, cameras, RGB, depth, confidence.

        Raises:
            OutputError: the file cannot be written.
        """
        from stereo4d.viewing import load_viewer

        return load_viewer("rerun").write(self, Path(path))
