"""What moves in a clip, found window by window: memory is set by a window, and what was found waits on disk.

The windows are those that the alignment solves, so that each brings all that its own alignment asks for. A run that is
taken up again goes on after the last window that was looked at.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stereo4d.alignment.known import Known
from stereo4d.alignment.terms import FlowCells
from stereo4d.alignment.windows import Window, homes
from stereo4d.errors import SceneError
from stereo4d.progress import SILENT, Progress
from stereo4d.storage import map_arrays, read_metadata, save_arrays
from stereo4d.video.camera_kind import CameraKind
from stereo4d.video.clip import Clip
from stereo4d.video.flow import load_flow
from stereo4d.video.motion import MOST_MOVING, Motion, Search, covered, find_motion, follows
from stereo4d.video.windows_plan import known_in, part_of

if TYPE_CHECKING:
    from stereo4d.video.options import AlignmentOptions
    from stereo4d.video.predictor import Predictor

MOTION_FOLDER = "motion"
"""In the hidden folder of an unfinished run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipMotion:
    """What is known of motion in a clip of N frames; dense maps stay on disk until they are asked for."""

    windows: tuple[Window, ...]
    paths: tuple[Path, ...]
    """What was left of each."""
    camera: CameraKind
    mask_by: str
    moving_share: tuple[float, ...]
    """Of every frame, the share of its pixels that moves."""

    def of(self, window: Window) -> Motion:
        """What is known of the frames of one of the windows."""
        found = load_motion(self.paths[self.windows.index(window)])
        assert found is not None
        return found

    def masks(self) -> Iterator[np.ndarray]:
        """(H, W) bool of every frame, by the window in whose middle it lies."""
        for frame, home in enumerate(homes(self.windows)):
            arrays = map_arrays(self.paths[home])
            yield np.array(arrays["dynamic"][frame - self.windows[home].start])

    def ignored(self, frames: range) -> torch.Tensor:
        """(m, H, W) bool: what of some frames the cameras are not judged by."""
        home, found = homes(self.windows), []
        for frame in frames:
            window = self.windows[home[frame]]
            found.append(np.array(map_arrays(self.paths[home[frame]])["dynamic"][frame - window.start]))
        dynamic = np.stack(found)
        return torch.from_numpy(dynamic & ~covered(dynamic)[:, None, None])

    def section(self) -> dict[str, Any]:
        """What the manifest says of it."""
        shares = [round(share, 4) for share in self.moving_share]
        return {"mask_by": self.mask_by, "moving_share": shares, "camera": self.camera.value}


def find_clip_motion(
    paths: Sequence[Path],
    clip: Clip,
    known: Known,
    options: AlignmentOptions,
    windows: Sequence[Window],
    folder: Path,
    stamp: str,
    *,
    predictor: Predictor | None = None,
    progress: Progress = SILENT,
) -> ClipMotion | None:
    """Find what moves, if the options and the clip ask for it.

    Args:
        paths: files of the clip's pairs.
        clip: N frames.
        known: what is known of them; intrinsics are used.
        options: how; ``motion`` is ``auto``, ``on`` or ``off``.
        windows: which frames are looked at together.
        folder: where what is found waits.
        stamp: fingerprint of all that decides how; windows with another one are looked at again.
        predictor: what predicted the pairs, where it is at hand.
        progress: told about every pair of frames.

    Returns:
        None where motion is off, or left alone because frames do not follow one another as in a video.

    Raises:
        UsageError: a flow or a way to make masks does not exist, or cannot work here.
    """
    if options.motion == "off" or len(clip) < 2:
        return None
    search = Search(load_flow(options.flow), options, predictor)
    if options.motion == "auto" and not follows(clip, search.flow):
        return None
    files = [folder / f"motion-{window.start:06d}-{window.stop:06d}.safetensors" for window in windows]
    alone = len(windows) == 1
    with progress.stage("motion", None if alone else len(windows), "pair" if alone else "window") as stage:

        def told(count: int, most: int) -> None:
            if alone:
                stage.expect(most)
                stage.advance(count - stage.done)

        for window, path in zip(windows, files, strict=True):
            if not _finished(path, stamp):
                part, inside = part_of(clip, window), known_in(known, window)
                save_motion(path, find_motion(paths, part, inside, search, start=window.start, told=told), stamp)
            if not alone:
                stage.advance()
    return _joined(windows, files)


def _joined(windows: Sequence[Window], files: Sequence[Path]) -> ClipMotion:
    """All windows as one, and a word where what was found limits what can be known."""
    said = [read_metadata(path) for path in files]
    camera = _one_camera([CameraKind(entry["camera"]) for entry in said])
    ways = Counter(entry["mask_by"] for entry in said)
    motion = ClipMotion(tuple(windows), tuple(files), camera, ways.most_common(1)[0][0], ())
    shares = tuple(float(mask.mean()) for mask in motion.masks())
    full = sum(share > MOST_MOVING for share in shares)
    if full:
        log.warning(
            "in %d of %d frames more than %.0f %% of the pixels seem to move: their cameras are judged by all pixels",
            *(full, len(shares), 100 * MOST_MOVING),
        )
    if camera is not CameraKind.MOVES:
        log.warning("%s", camera.words())
    return ClipMotion(motion.windows, motion.paths, camera, motion.mask_by, shares)


def _one_camera(kinds: Sequence[CameraKind]) -> CameraKind:
    """What the camera does over all windows."""
    if CameraKind.MOVES in kinds:
        return CameraKind.MOVES
    return CameraKind.TURNS if CameraKind.TURNS in kinds else CameraKind.STILL


def save_motion(path: Path, motion: Motion, stamp: str = "") -> None:
    """Write what was found in one window, whole or not at all."""
    arrays: dict[str, Any] = {"dynamic": motion.dynamic}
    told = {"stamp": stamp, "camera": motion.camera.value, "mask_by": motion.mask_by}
    if motion.flow is not None:
        arrays |= {name: getattr(motion.flow, name) for name in ("pairs", "flow", "weight")}
        told["grid"] = "x".join(str(side) for side in motion.flow.grid)
    save_arrays(path, arrays, told)


def load_motion(path: Path) -> Motion | None:
    """What ``save_motion`` wrote; None where there is nothing, or nothing whole."""
    try:
        told, arrays = read_metadata(path), map_arrays(path)
    except SceneError:
        return None
    flow = None
    if "grid" in told:
        rows, columns = told["grid"].split("x")
        parts = [torch.from_numpy(np.array(arrays[name])) for name in ("pairs", "flow", "weight")]
        flow = FlowCells(parts[0], parts[1], parts[2], (int(rows), int(columns)))
    return Motion(np.array(arrays["dynamic"]), flow, CameraKind(told["camera"]), told["mask_by"])


def _finished(path: Path, stamp: str) -> bool:
    """Whether an earlier run has looked at a window, with the same settings."""
    try:
        return read_metadata(path).get("stamp") == stamp
    except SceneError:
        return False
