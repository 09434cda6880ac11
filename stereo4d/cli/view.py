"""``stereo4d view``: look at a scene, or at how it was aligned, in Rerun."""

from __future__ import annotations

from pathlib import Path

from stereo4d.errors import InputError, UsageError
from stereo4d.types import Scene
from stereo4d.viewing import Viewer, load_viewer


def view(
    path: str,
    *,
    alignment: bool = False,
    web: bool = False,
    screenshot: str | None = None,
    frame: int | None = None,
) -> int:
    """Look at a scene, or at how it was aligned: in a window, in the browser, or as a picture.

    Args:
        path: a scene folder, or a recording (.rrd).
        alignment: show how the scene of the folder was aligned, iteration by iteration.
        web: show it in the browser, served on this machine only, until Ctrl-C.
        screenshot: write a picture (PNG) to this file instead; needs no display.
        frame: frame index of the input that the picture shows, by default the middle one; of an alignment, the
            iteration, by default the last.
    """
    if web and screenshot is not None:
        raise UsageError("--web and --screenshot exclude each other; give one of them")
    if frame is not None and screenshot is None:
        raise UsageError(f"--frame {frame} goes with --screenshot; in the viewer, move the time cursor")
    viewer = load_viewer("rerun")
    recording = find_alignment(Path(path), viewer) if alignment else find_recording(Path(path), viewer)
    if screenshot is None:
        return viewer.show(recording, web=web)
    print(viewer.screenshot(recording, Path(screenshot), frame=frame))
    return 0


def find_recording(path: Path, viewer: Viewer) -> Path:
    """The recording that a path means; a scene folder without one gets it written.

    Raises:
        InputError: there is no such file, or it is not a recording.
        SceneError: it is a folder, but not one of a scene.
    """
    if path.is_dir():
        recording = path / f"scene{viewer.suffix}"
        return recording if recording.is_file() else viewer.write(Scene.load(path), recording)
    if not path.is_file():
        raise InputError(f"{path}: no such scene folder or recording; stereo4d reconstruct makes one")
    if path.suffix != viewer.suffix:
        raise InputError(f"{path} is not a recording ({viewer.suffix}); give a scene folder or a {viewer.suffix} file")
    return path


def find_alignment(path: Path, viewer: Viewer) -> Path:
    """The recording that a path means when the alignment is to be shown.

    Raises:
        InputError: there is no such file, or it is not a recording.
    """
    if not path.is_dir():
        return find_recording(path, viewer)
    recording = path / f"alignment{viewer.suffix}"
    if not recording.is_file():
        raise InputError(f"{path} holds no {recording.name}; stereo4d align and stereo4d reconstruct write it")
    return recording
