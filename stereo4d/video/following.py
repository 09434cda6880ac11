"""A run in another process, looked at while it works: its windows, as they are finished, and then its scene.

Nothing is asked of the run: all that is shown lies in its folder anyway, so that a killed run can be waited for, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from stereo4d.alignment.windows import Window, find_seam
from stereo4d.errors import SceneError
from stereo4d.geometry.rigid import transform_points
from stereo4d.scene_files import MANIFEST_FILE, shots_in
from stereo4d.storage import read_metadata
from stereo4d.types import Scene
from stereo4d.video.clip import Clip
from stereo4d.video.motion_windows import MOTION_FOLDER, load_motion
from stereo4d.video.prediction_files import FRAMES_FILE
from stereo4d.video.windows import WINDOWS_FOLDER
from stereo4d.video.windows_files import SolvedWindow, load_window
from stereo4d.video.workspace import PAIRS_FOLDER, SHOTS_FOLDER, UNFINISHED
from stereo4d.viewing import Sighting

_PAUSE = 0.5


def follow_run(folder: Path, *, pause: float = _PAUSE) -> Iterator[Sighting | None]:
    """What a run has made so far, then what it makes next, as it comes.

    Windows are laid onto one another by the frames they share, in the world of the first; the last pass over all
    windows, which takes drift out of them, comes with the finished scene.

    Args:
        folder: where the scene is to be; it need not be there yet.
        pause: seconds between two looks.

    Yields:
        Of every window the frames that no window before it held; at last the finished scene. Of a clip that is cut,
        each shot's windows and its scene, before the next shot's. None whenever there was nothing new to see.
    """
    chains: dict[Path, list[Placed]] = {}
    shown: set[str] = set()
    while True:
        unfinished = (folder / UNFINISHED).is_dir()
        if not unfinished and (folder / MANIFEST_FILE).is_file():
            yield from (seen for seen in _finished(folder) if seen.name not in shown)
            return
        fresh = _fresh(folder, chains, shown) if unfinished else None
        yield fresh
        if fresh is None:
            time.sleep(pause)


def _fresh(folder: Path, chains: dict[Path, list[Placed]], shown: set[str]) -> Sighting | None:
    """What is new in the folder of a run: a window of the clip, or of a shot, or a shot's scene."""
    for place in [folder, *sorted((folder / UNFINISHED / SHOTS_FOLDER).glob("shot-*"))]:
        if not (place / UNFINISHED).is_dir():
            if place.name not in shown and (scene := _whole(place)) is not None:
                shown.add(place.name)
                return Sighting(place.name, scene, finished=True, shot=place.name)
            continue
        chain = chains.setdefault(place, [])
        if (found := _next_window(place / UNFINISHED, chain)) is not None:
            chain.append(found)
            return replace(found.sighting, shot="" if place == folder else place.name)
    return None


@dataclass(frozen=True)
class Placed:
    """A window that was shown."""

    solved: SolvedWindow
    to_first: torch.Tensor
    """(4, 4) similarity from its world to that of the first window."""
    sighting: Sighting


def _whole(folder: Path) -> Scene | None:
    """The scene of a folder, if it is there."""
    try:
        return Scene.load(folder)
    except SceneError:
        return None


def _finished(folder: Path) -> Iterator[Sighting]:
    """The scene of a folder, or those of its shots."""
    for name in shots_in(folder):
        yield Sighting(name, Scene.load(folder / name), finished=True, shot=name)
    if not shots_in(folder):
        yield Sighting(folder.name, Scene.load(folder), finished=True)


def _next_window(unfinished: Path, chain: list[Placed]) -> Placed | None:
    """The next window, if it is finished."""
    before = chain[-1].solved if chain else None
    stamp = None if before is None else read_stamp(before.path)
    for path in sorted((unfinished / WINDOWS_FOLDER).glob("window-*.safetensors")):
        start, stop = (int(number) for number in path.stem.split("-")[1:])
        follows = start == 0 if before is None else before.window.start < start < before.window.stop
        if not follows or (stamp is not None and read_stamp(path) != stamp):
            continue
        try:
            solved = load_window(path, Window(start, stop), read_stamp(path) or "")
            return None if solved is None else _placed(unfinished, solved, chain)
        except (SceneError, OSError):
            return None  # the run has finished just now, and cleans up
    return None


def read_stamp(path: Path) -> str | None:
    """What decided how a window was solved; None where there is no such file."""
    try:
        return read_metadata(path).get("stamp")
    except SceneError:
        return None


def _placed(unfinished: Path, solved: SolvedWindow, chain: list[Placed]) -> Placed:
    to_first, shown_to = torch.eye(4, dtype=torch.float64), solved.window.start
    if chain:
        shared = chain[-1].solved.window.shared_with(solved.window)
        to_first = chain[-1].to_first @ find_seam(chain[-1].solved.see(shared), solved.see(shared)).transform
        shown_to = chain[-1].solved.window.stop
    scene = _scene(unfinished, solved, to_first, range(shown_to, solved.window.stop))
    return Placed(solved, to_first, Sighting(f"window-{len(chain):03d}", scene))


def _scene(unfinished: Path, solved: SolvedWindow, to_first: torch.Tensor, frames: range) -> Scene:
    """Some frames of a window as a scene in the world of the first window."""
    part = slice(frames.start - solved.window.start, frames.stop - solved.window.start)
    depth, confidence = solved.dense(frames)
    scale = to_first[0, :3].norm()
    poses = solved.cam2world[part].clone()
    poses[:, :3, :3] = to_first[:3, :3] / scale @ poses[:, :3, :3]
    poses[:, :3, 3] = transform_points(to_first[None], solved.cam2world[part, :3, 3][None])[0]
    clip = Clip.load(unfinished / PAIRS_FOLDER / FRAMES_FILE).at(slice(frames.start, frames.stop))
    lenses = solved.intrinsics[part].numpy()
    motion = load_motion(unfinished / MOTION_FOLDER / f"motion-{solved.path.stem.removeprefix('window-')}.safetensors")
    dynamic = np.zeros(depth.shape, np.uint8) if motion is None else motion.dynamic[part].astype(np.uint8)
    return Scene(
        cam2world=poses.float().numpy(),
        intrinsics=lenses.astype(np.float32),
        depth=(scale * depth).clamp(max=float(np.finfo(np.float16).max)).half().numpy(),
        confidence=confidence.half().numpy(),
        dynamic=dynamic,
        rgb=np.asarray(clip.rgb),
        times=np.array(clip.times),
        frame_indices=np.array(clip.frame_indices),
        intrinsics_original=np.stack([clip.pixel_map(n).to_original(lenses[n]) for n in range(len(clip))]),
        original_sizes=np.array(clip.original_sizes),
    )
