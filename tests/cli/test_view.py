"""``stereo4d view`` finds or makes the recording, and says what it cannot show."""

import numpy as np
import pytest
from PIL import Image
from stereo4d_plugins.viewers.alignment_look import FIRST_COLOR

from stereo4d.cli.main import main
from stereo4d.viewing import load_viewer
from tests.alignment_steps import settling
from tests.scenes import wall_and_ball


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def _no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_a_path_that_is_not_there_is_named(capsys, tmp_path):
    assert main(["view", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: no such scene folder or recording" in last_line(capsys)


def test_a_folder_that_is_no_scene_is_named(capsys, tmp_path):
    assert main(["view", str(tmp_path)]) == 1
    assert f"{tmp_path} is not a whole scene" in last_line(capsys)


@pytest.mark.parametrize(("name", "reason"), [("a.mp4", "give a scene folder"), ("a.rrd", "is not a Rerun recording")])
def test_a_file_that_is_no_recording_is_named(capsys, tmp_path, name, reason):
    (tmp_path / name).write_text("hello, I am text")
    assert main(["view", str(tmp_path / name)]) == 1
    assert name in (line := last_line(capsys))
    assert reason in line


@pytest.mark.usefixtures("_no_display")
def test_without_a_display_a_scene_gets_its_recording_and_the_hint_how_to_see_it(capsys, tmp_path):
    wall_and_ball().save(tmp_path)
    assert main(["view", str(tmp_path)]) == 2
    assert "--screenshot" in last_line(capsys)
    assert (tmp_path / "scene.rrd").stat().st_size > 10_000


@pytest.mark.parametrize("options", [["--web", "--screenshot", "a.png"], ["--frame", "3"]])
def test_options_that_do_not_go_together_are_wrong_usage(capsys, tmp_path, options):
    assert main(["view", str(tmp_path), *options]) == 2
    assert options[0] in last_line(capsys)


def test_a_screenshot_shows_the_frame_asked_for(capsys, tmp_path):
    wall_and_ball(height=60, width=80).save(tmp_path)
    pictures = {}
    for frame in (0, 6):
        picture = tmp_path / f"{frame}.png"
        code = main(["view", str(tmp_path), "--screenshot", str(picture), "--frame", str(frame)])
        error = capsys.readouterr().err
        if code == 1 and "Vulkan" in error:
            pytest.skip("no Vulkan driver is here: a software one will do (Debian: apt install mesa-vulkan-drivers)")
        assert code == 0, error
        pictures[frame] = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pictures[0].shape == pictures[6].shape
    changed = np.abs(pictures[0] - pictures[6]).max(-1) > 60
    assert 0.005 < changed.mean() < 0.5  # the ball and the camera moved; the wall did not
    assert main(["view", str(tmp_path), "--screenshot", str(tmp_path / "a.png"), "--frame", "99"]) == 2
    assert "frame 99 is not in" in last_line(capsys)
    assert not (tmp_path / "a.png").exists()


def test_a_scene_without_a_recorded_alignment_is_named(capsys, tmp_path):
    wall_and_ball().save(tmp_path)
    assert main(["view", str(tmp_path), "--alignment"]) == 1
    assert f"{tmp_path} holds no alignment.rrd; stereo4d align" in last_line(capsys)
    assert not (tmp_path / "scene.rrd").exists()


def test_a_screenshot_of_an_alignment_needs_its_recording_only(capsys, tmp_path):
    load_viewer().write_alignment(settling(), tmp_path / "alignment.rrd")
    picture = tmp_path / "a.png"
    code = main(["view", str(tmp_path), "--alignment", "--screenshot", str(picture), "--frame", "2"])
    error = capsys.readouterr().err
    if code == 1 and "Vulkan" in error:
        pytest.skip("no Vulkan driver is here: a software one will do (Debian: apt install mesa-vulkan-drivers)")
    assert code == 0, error
    colors = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(colors - FIRST_COLOR).max(-1) < 30).sum() > 50  # the first camera
