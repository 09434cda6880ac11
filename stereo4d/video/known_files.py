"""What is known of a clip, from files: intrinsics, poses, depths, masks (formats: docs/known.md).

Files speak of frames of the input and of pixels of the original images; what comes out speaks of positions in the
alignment and of pixels at network resolution.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stereo4d.errors import InputError, UsageError
from stereo4d.video.frame_matching import FrameGeometry
from stereo4d.video.known_intrinsics import IntrinsicsFile, open_intrinsics
from stereo4d.video.known_maps import MapsFile, any_covered, nearest, open_depths, open_masks
from stereo4d.video.known_poses import PosesFile, open_poses
from stereo4d.video.outside_files import sha256

if TYPE_CHECKING:
    from stereo4d.alignment.known import Known, KnownDepths, KnownIntrinsics, KnownPoses, Masks

log = logging.getLogger(__name__)

QUANTITIES = ("intrinsics", "poses", "depths", "masks")


@dataclass(frozen=True)
class KnownFiles:
    """Files of what is known, and how firmly it holds; none by default."""

    intrinsics: str | None = None
    """Known focals and principal points, in pixels of the original images: .txt .json .npy .npz or a scene folder."""
    poses: str | None = None
    """Known cameras, camera to world: .txt (TUM, KITTI) .npy .npz or a scene folder; formats are in docs/known.md."""
    depths: str | None = None
    """Known depth: a folder with a .npy, .npz or 16-bit .png a frame, or all in one .npy or .npz."""
    masks: str | None = None
    """What cameras are not judged by (not zero is ignored): a folder with a .png a frame, one .png, .npy or .npz."""
    intrinsics_weight: float = math.inf
    """How firmly known intrinsics hold, a number above 0; by default they are not changed at all."""
    poses_weight: float = math.inf
    """How firmly known poses hold, a number above 0; by default they are not changed at all."""
    depths_weight: float = math.inf
    """What measured depth counts for beside a pair's ln(confidence); by default it is not changed at all."""
    masks_keep: float = 0.0
    """The share of their weight that ignored pixels keep, 0 to 1."""

    def any(self) -> bool:
        """Whether anything is given."""
        return any(getattr(self, name) is not None for name in QUANTITIES)

    def check(self) -> None:
        """Make sure that files are there and in a format that is read, and that weights can be; no frame is needed.

        Raises:
            UsageError: a weight is out of range, or given for what is not.
            InputError: a file cannot be used.
        """
        _check_weights(self)
        for name, open_files in _OPEN.items():
            if getattr(self, name) is not None:
                open_files(Path(getattr(self, name)))

    def settings(self) -> dict[str, Any]:
        """What of this decides the result, as plain values: checksums of the files' content, and weights.

        Raises:
            InputError: a file cannot be used.
        """
        said: dict[str, Any] = {}
        for name, open_files in _OPEN.items():
            entry = getattr(self, name)
            if entry is None:
                continue
            opened = open_files(Path(entry))
            said[name] = {"sha256": _digest(opened.files) if Path(entry).is_dir() else sha256(opened.files[0])}
            if name == "masks":
                said[name]["keep"] = self.masks_keep
            else:
                weight = getattr(self, f"{name}_weight")
                said[name]["weight"] = "hard" if weight == math.inf else weight
        return said


def load_known(files: KnownFiles, frames: FrameGeometry) -> Known:
    """Read what is known of the frames of an alignment.

    Args:
        files: where it lies.
        frames: what the alignment works on; rows and files for other frames are left aside.

    Returns:
        Known quantities by position in the alignment, at network resolution.

    Raises:
        UsageError: a weight is out of range.
        InputError: a file cannot be used, or has nothing for any of these frames.
    """
    from stereo4d.alignment.known import Known

    _check_weights(files)
    return Known(
        intrinsics=_intrinsics(files, frames),
        poses=_poses(files, frames),
        depths=_depths(files, frames),
        masks=_masks(files, frames),
    )


def _check_weights(files: KnownFiles) -> None:
    for name in ("intrinsics", "poses", "depths"):
        weight = getattr(files, f"{name}_weight")
        if not weight > 0:
            raise UsageError(f"--{name}-weight {weight}: give a number above 0; left out, {name} are held")
        if weight != math.inf and getattr(files, name) is None:
            raise UsageError(f"--{name}-weight {weight}: there are no --{name} to weigh; give them too")
    if not 0 <= files.masks_keep <= 1:
        raise UsageError(f"--masks-keep {files.masks_keep}: give a share from 0 to 1")
    if files.masks_keep and files.masks is None:
        raise UsageError(f"--masks-keep {files.masks_keep}: there are no --masks; give them too")


def _intrinsics(files: KnownFiles, frames: FrameGeometry) -> KnownIntrinsics | None:
    if files.intrinsics is None:
        return None
    import torch

    from stereo4d.alignment.known import KnownIntrinsics

    opened = open_intrinsics(Path(files.intrinsics))
    positions, rows = opened.rows.match(frames)
    at_network = []
    for position, row in zip(positions.tolist(), rows.tolist(), strict=True):
        height, width = frames.original_sizes[position].tolist()
        at_network.append(frames.pixel_maps[position].to_network(opened.in_pixels_of(row, (height, width))))
    return KnownIntrinsics(
        torch.from_numpy(positions), torch.from_numpy(np.stack(at_network)), weight=files.intrinsics_weight
    )


def _poses(files: KnownFiles, frames: FrameGeometry) -> KnownPoses | None:
    if files.poses is None:
        return None
    import torch

    from stereo4d.alignment.known import KnownPoses

    opened = open_poses(Path(files.poses))
    positions, rows = opened.rows.match(frames)
    return KnownPoses(torch.from_numpy(positions), torch.from_numpy(opened.values[rows]), weight=files.poses_weight)


def _depths(files: KnownFiles, frames: FrameGeometry) -> KnownDepths | None:
    if files.depths is None:
        return None
    import torch

    from stereo4d.alignment.known import KnownDepths

    opened = open_depths(Path(files.depths))
    found: list[tuple[int, np.ndarray]] = []
    for position, depth, to_grid in opened.maps(frames):
        at_network = nearest(depth, to_grid, frames.network_size)
        if at_network.any():
            found.append((position, at_network))
        else:
            log.info("%s: frame %d has no measurement in it", files.depths, frames.frame_indices[position])
    if not found:
        raise InputError(f"{files.depths}: nothing is measured in the clip's frames; depth is a finite number above 0")
    positions, depths = zip(*found, strict=True)
    return KnownDepths(torch.tensor(positions), torch.from_numpy(np.stack(depths)), weight=files.depths_weight)


def _masks(files: KnownFiles, frames: FrameGeometry) -> Masks | None:
    if files.masks is None:
        return None
    import torch

    from stereo4d.alignment.known import Masks

    opened = open_masks(Path(files.masks))
    positions, masks = [], []
    for position, mask, to_grid in opened.maps(frames):
        positions.append(position)
        masks.append(any_covered(mask, to_grid, frames.network_size))
    whole = [int(frames.frame_indices[p]) for p, mask in zip(positions, masks, strict=True) if mask.all()]
    if whole:
        shown = ", ".join(map(str, whole[:8])) + (" ..." if len(whole) > 8 else "")
        log.warning("%s: the whole of frames %s is ignored; what is not zero is ignored", files.masks, shown)
    return Masks(torch.tensor(positions), torch.from_numpy(np.stack(masks)), keeps=files.masks_keep)


def _digest(files: Sequence[Path]) -> str:
    """The SHA-256 of the list that ``sha256sum`` makes of these files: names tell frames."""
    listing = "".join(f"{sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()


_OPEN: dict[str, Callable[[Path], IntrinsicsFile | PosesFile | MapsFile]] = {
    "intrinsics": open_intrinsics,
    "poses": open_poses,
    "depths": open_depths,
    "masks": open_masks,
}
