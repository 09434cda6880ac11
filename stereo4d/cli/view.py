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
    follow: bool = False,
    viewer: str | None = None,
) -> int:
    """Look at a scene, or at how it was aligned: in a window, in the browser, or as a picture.

    Args:
        path: a scene folder, or a recording (.rrd).
        alignment: show how the scene of the folder was aligned, iteration by iteration.
        web: show it in the browser, served on this machine only, until Ctrl-C.
        screenshot: write a picture (PNG) to this file instead; needs no display.
        frame: frame index of the input that the picture shows, by default the middle one; of an alignment, the
            iteration, by default the last.
        follow: the folder is one that stereo4d reconstruct writes to now: show its windows as they are finished.
        viewer: with --follow, the address of a Rerun viewer that is open already, here or elsewhere, such as
            rerun+http://127.0.0.1:9876/proxy.
    """
    if follow:
        return follow_run(Path(path), viewer, other_ways=alignment or web or screenshot is not None)
    if viewer is not None:
        raise UsageError(f"--viewer {viewer} goes with --follow")
    if web and screenshot is not None:
        raise UsageError("--web and --screenshot exclude each other; give one of them")
    if frame is not None and screenshot is None:
        raise UsageError(f"--frame {frame} goes with --screenshot; in the viewer, move the time cursor")
    shows = load_viewer("rerun")
    recording = find_alignment(Path(path), shows) if alignment else find_recording(Path(path), shows)
    if screenshot is None:
        return shows.show(recording, web=web)
    print(shows.screenshot(recording, Path(screenshot), frame=frame))
    return 0


def follow_run(folder: Path, address: str | None, *, other_ways: bool) -> int:
    """Show a run while it works; returns an exit code.

    Args:
        folder: that it writes to.
        address: of a viewer that is open already; None opens a window.
        other_ways: whether the user asks for the browser, a picture or the alignment as well.

    Raises:
        UsageError: the user does, or there is no display.
        InputError: the path is no folder.
    """
    if other_ways:
        raise UsageError("--follow shows a run as it comes: it goes without --alignment, --web and --screenshot")
    if folder.is_file():
        raise InputError(f"{folder} is a file; --follow takes the folder that stereo4d reconstruct --out writes to")
    if not folder.is_dir():
        print(f"waiting for {folder}, until Ctrl-C", flush=True)
    from stereo4d.video.following import follow_run as sightings_of

    try:
        return load_viewer("rerun").follow(sightings_of(folder), address=address)
    except KeyboardInterrupt:
        return 0  # the way to end it from the terminal is not a failure


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
