"""``stereo4d check-data``: what is wrong with data is said in a line that names it, and the way out."""

import json
from pathlib import Path

import numpy as np
import pytest

from stereo4d.cli.main import main
from stereo4d.data.conventions import Axes, Conventions, PoseKind
from stereo4d.viewing import load_viewer
from tests.datasets.miniatures import MILLIMETRES, Filmed, film, write_folder, write_release

RECIPE = """
data:
  class_path: stereo4d.data.mixed_pairs.MixedPairs
  init_args:
    sizes: [[48, 64]]
    query_times: 1
    train:
      - class_path: stereo4d.data.parts.FromFrames
        init_args:
          count: 100
          frames:
            class_path: {frames}
            init_args: {options}
          pairing: {{class_path: stereo4d.data.pairing.ByStride, init_args: {{strides: [1, 2]}}}}
"""
FOLDER = "stereo4d_plugins.datasets.posed_folder.PosedFolder"
RELEASE = "stereo4d_plugins.datasets.stereo4d_tracks.Stereo4dTracks"


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    return film(frames=5)


def recipe(path: Path, root: Path, frames: str = FOLDER) -> Path:
    options = {"root": str(root)}
    if frames == FOLDER:
        options |= {"conventions": {"depth_unit": 0.001}, "moving": "masks"}
    path.write_text(RECIPE.format(frames=frames, options=json.dumps(options)))
    return path


def check(*arguments: object) -> int:
    return main(["check-data", *map(str, arguments)])


def test_good_data_pass_and_are_shown(tmp_path, filmed, capsys):
    write_folder(tmp_path / "set/one", filmed)
    config, look = recipe(tmp_path / "fit.yaml", tmp_path / "set"), tmp_path / "look.rrd"
    assert check(config, "--pairs", 4, "--save", look) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[4] for line in lines] == ["pairs", "files", "depth", "cameras", "truth"]
    assert all(line.startswith("ok") for line in lines)
    assert "7 pairs, 100 seen an epoch, in 1 scenes, frames 1 to 2 apart" in lines[0]
    assert "points 100.0%" in lines[4]
    load_viewer().check(look)


def test_a_clip_of_tracks_passes(tmp_path, filmed, capsys):
    config = recipe(tmp_path / "fit.yaml", write_release(tmp_path / "clips", filmed), RELEASE)
    assert check(config, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"]
    assert {finding["check"]: finding["verdict"] for finding in said["findings"]} == dict.fromkeys(
        ("pairs", "files", "tracks", "cameras", "truth"), "ok"
    )


@pytest.mark.parametrize(
    ("meant", "told"),
    [
        (Conventions(PoseKind.world2cam, depth_unit=0.001), "set conventions: {pose_kind: world2cam}"),
        (Conventions(axes=Axes.opengl, depth_unit=0.001), "set conventions: {axes: opengl}"),
        (Conventions(depth_unit=0.0002), "set conventions: {depth_unit: 0.0002}"),
    ],
)
def test_a_wrong_convention_is_named_with_the_option_that_mends_it(tmp_path, filmed, capsys, meant, told):
    write_folder(tmp_path / "set/one", filmed, conventions=meant)
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "set")) == 1
    captured = capsys.readouterr()
    assert [line for line in captured.out.splitlines() if line.startswith("FAILED") and told in line]
    assert captured.err.count("\n") == 1
    assert "[check 'cameras']" in captured.err


def test_cameras_of_tracks_that_are_the_wrong_way_round_are_caught(tmp_path, filmed, capsys):
    root = write_release(tmp_path / "clips", filmed, cam2world=np.linalg.inv(filmed.cam2world))
    assert check(recipe(tmp_path / "fit.yaml", root, RELEASE)) == 1
    assert "the files fit as pose_kind: world2cam, and are read as pose_kind: cam2world" in capsys.readouterr().err


def test_missing_and_damaged_files_are_counted_and_named(tmp_path, filmed, capsys):
    scene = write_folder(tmp_path / "set/one", filmed)
    (scene / "depths/00001.png").unlink()
    (scene / "images/00003.png").write_bytes(b"no image")
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "set"), "--pairs", 0) == 1
    captured = capsys.readouterr()
    assert "2 of 5 frames cannot be used" in captured.out
    assert "nothing in it for 00001.png" in captured.out
    assert "00003.png is not an image" in captured.out
    assert "[check 'files']" in captured.err


def test_depth_without_a_measurement_and_nan_are_told(tmp_path, filmed, capsys):
    scene = write_folder(tmp_path / "set/one", filmed, depth=".npy")
    for path in (scene / "depths").iterdir():
        depth = np.load(path)
        depth[:12] = np.nan
        np.save(path, depth)
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "set")) == 0
    assert "75% of pixels measured" in (said := capsys.readouterr().out)
    assert "25.0% NaN count as not measured" in said
    for path in (scene / "depths").iterdir():
        np.save(path, np.full((48, 64), np.nan, np.float32))
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "set")) == 1
    assert "nothing is measured" in capsys.readouterr().err


def test_images_in_another_order_than_poses_fit_nothing(tmp_path, filmed, capsys):
    other = film(seed=11, frames=5)
    scene = write_folder(tmp_path / "set/one", filmed, depth=".npy", conventions=MILLIMETRES)
    rng = np.random.default_rng(0)
    for index, path in enumerate(sorted((scene / "depths").iterdir())):
        np.save(path, rng.permutation(other.depth[index].ravel()).reshape(48, 64) * 1000 * rng.uniform(0.2, 5))
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "set")) == 1
    assert "do not fit, nor under any other convention" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {}\n", "has no 'data'"),
        ("data: {class_path: stereo4d.data.module.SyntheticPairs}\n", "SyntheticPairs, which make their own truth"),
        ("data: {class_path: stereo4d.data.mixed_pairs.MixedPairs}\n", "neither train nor val nor test has a part"),
        ("data: {class_path: MixedPairs, init_args: {trian: []}}\n", "trian"),
    ],
)
def test_a_recipe_that_says_no_data_is_wrong_usage(tmp_path, capsys, text, told):
    (tmp_path / "fit.yaml").write_text(text)
    assert check(tmp_path / "fit.yaml") == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1


def test_a_root_that_is_not_there_is_told_of_its_part(tmp_path, capsys):
    assert check(recipe(tmp_path / "fit.yaml", tmp_path / "nowhere")) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert check(tmp_path / "no.yaml") == 1
    assert "no.yaml: no such file" in capsys.readouterr().err
