"""What is seen of a run arrives in a Rerun viewer of its own process, window by window."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rerun.chunk import RrdReader
from stereo4d_plugins.viewers.rerun_process import START_SECONDS, free_port, viewer_process
from stereo4d_plugins.viewers.rerun_viewer import RerunViewer

from stereo4d.cli.main import main
from stereo4d.errors import UsageError
from stereo4d.types import Scene
from stereo4d.viewing import Sighting
from tests.scenes import wall_and_ball


@contextmanager
def listening(saves_to: Path) -> Iterator[str]:
    """The address of a Rerun process that writes to a file what it is sent."""
    port = free_port()
    arguments = ["--save", str(saves_to), "--bind", "127.0.0.1", "--port", str(port)]
    with viewer_process(*arguments) as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"rerun+http://127.0.0.1:{port}/proxy"


Received = list[dict[str, list[int]]]


def received(path: Path) -> Received:
    """Of every recording in a file, in the order of their sizes: frames by entity; nothing where it is timeless."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is still being written has no footer
        reader = RrdReader(path)
        found: Received = []
        for store in reader.recordings():
            entities: dict[str, list[int]] = {}
            for chunk in reader.stream(store=store):
                frames = entities.setdefault(chunk.entity_path, [])
                batch = chunk.to_record_batch()
                frames += batch.column("frame").to_pylist() if "frame" in batch.schema.names else []
            found.append(entities)
    return sorted(found, key=lambda entities: "/world/points/static" in entities)


def waited_for(path: Path, good) -> Received:
    """What a file holds as soon as it is what is waited for; it is written by another process."""
    deadline = time.monotonic() + 30
    while True:
        try:
            found = received(path) if path.exists() and path.stat().st_size else []
        except (RuntimeError, ValueError, OSError):  # the last message is half written
            found = []
        if found and good(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def part(scene: Scene, frames: slice) -> Scene:
    arrays = {
        name: getattr(scene, name)[frames] for name in vars(scene) if isinstance(getattr(scene, name), np.ndarray)
    }
    return Scene(**arrays)


def test_windows_appear_one_after_the_other_and_the_scene_is_a_recording_of_its_own(tmp_path):
    scene = wall_and_ball()
    frames = scene.frame_indices.tolist()
    seen: list[Received] = []
    with listening(tmp_path / "live.rrd") as address:

        def sightings():
            yield None
            yield Sighting("window-000", part(scene, slice(0, 2)))
            seen.append(waited_for(tmp_path / "live.rrd", lambda got: "/world/points/window-000" in got[0]))
            yield Sighting("window-001", part(scene, slice(2, 4)))
            yield Sighting("wall", scene, finished=True)

        assert RerunViewer().follow(sightings(), address=address) == 0
        whole = waited_for(tmp_path / "live.rrd", lambda got: len(got) == 2 and got[1].get("/world/camera") == frames)
    (first,) = seen[0]
    assert "/world/points/window-001" not in first
    assert first["/world/camera"] == frames[:2]  # there before the next window was looked for
    as_it_comes, finished = whole
    assert {"/world/points/window-000", "/world/points/window-001"} <= set(as_it_comes)
    assert sorted(set(as_it_comes["/world/camera/image/rgb"])) == frames
    assert as_it_comes["/world/points/window-000"] == []
    assert "/world/points/window-000" not in finished
    assert finished["/world/camera/image/depth"] == frames


def test_windows_of_two_shots_do_not_meet(tmp_path):
    scene = wall_and_ball()
    with listening(tmp_path / "live.rrd") as address:
        RerunViewer().follow(
            [Sighting("window-000", scene, shot=name) for name in ("shot-000", "shot-001")], address=address
        )
        found = waited_for(
            tmp_path / "live.rrd", lambda got: len(got) == 2 and all("/confidence" in one for one in got)
        )
    assert all("/world/points/window-000" in recording for recording in found)


def test_follow_takes_no_other_way_to_look_and_no_file(tmp_path, capsys):
    for other in (["--web"], ["--alignment"], ["--screenshot", "a.png"]):
        assert main(["view", str(tmp_path), "--follow", *other]) == 2
        assert "--follow shows a run as it comes" in capsys.readouterr().err
    (tmp_path / "scene.rrd").touch()
    assert main(["view", str(tmp_path / "scene.rrd"), "--follow"]) == 1
    assert "is a file; --follow takes the folder" in capsys.readouterr().err
    assert main(["view", str(tmp_path), "--viewer", "rerun+http://127.0.0.1:1/proxy"]) == 2
    assert "goes with --follow" in capsys.readouterr().err


def test_without_a_display_it_says_so_before_it_waits(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def never():
        raise AssertionError("looked before there was a window")
        yield

    with pytest.raises(UsageError, match="no display"):
        RerunViewer().follow(never())
