"""Data that are missing or damaged, in the processes that load them: one line that names them, and exit code 1."""

from pathlib import Path

import pytest

from stereo4d.cli.main import main
from tests.datasets.miniatures import film, write_folder
from tests.training.small_runs import PAIRS, SYNTHETIC, mixed, write_recipe


@pytest.fixture
def scenes(tmp_path) -> Path:
    write_folder(tmp_path / "scenes" / "scene", film(frames=3))
    return tmp_path / "scenes"


def told(recipe: Path, capfd: pytest.CaptureFixture) -> tuple[int, str]:
    """Exit code, and the last line of what was said; nothing that was said is a traceback."""
    code = main(["fit", "--config", str(recipe)])
    said = capfd.readouterr().err.strip()
    assert "Traceback" not in said
    assert said.count("stereo4d: error: ") == 1
    return code, said.splitlines()[-1]


def test_a_damaged_image_is_named_by_the_process_that_trains(scenes, tmp_path, capfd):
    for picture in (scenes / "scene" / "images").iterdir():
        picture.write_bytes(picture.read_bytes()[:200])
    data = mixed(scenes, sizes=[[32, 48]], workers=2)
    code, line = told(write_recipe(tmp_path / "damaged.yaml", PAIRS, data), capfd)
    assert code == 1
    assert line.startswith("stereo4d: error: scenes, scene scene, frame ")
    assert str(scenes / "scene" / "images") in line


def test_a_missing_folder_of_data_is_named_before_training(scenes, tmp_path, capfd):
    data = mixed(scenes / "nowhere", sizes=[[32, 48]], workers=2)
    code, line = told(write_recipe(tmp_path / "missing.yaml", PAIRS, data), capfd)
    assert code == 1
    assert line.startswith(f"stereo4d: error: {scenes / 'nowhere'}: no such folder")
    assert not (tmp_path / "missing" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("NanGuard", {"foldr": "x"}, "foldr: there is no such key; did you mean folder?"),
        ("Throughput", {"every": "often"}, "'often' is not of type int"),
        ("NanGuardian", {}, "has no NanGuardian; did you mean NanGuard?"),
    ],
)
def test_a_wrong_key_inside_a_callback_ends_in_one_line(name, options, expected, tmp_path, capfd):
    callback = {"class_path": f"stereo4d.training.callbacks.{name}", "init_args": options}
    code, line = told(write_recipe(tmp_path / "wrong.yaml", PAIRS, SYNTHETIC, callback), capfd)
    assert code == 2
    assert line.startswith("stereo4d: error: trainer.callbacks")
    assert line.endswith(expected)
