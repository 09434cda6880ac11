"""A folder of scenes reads back as the truth it was written from, whatever its formats and conventions."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stereo4d_plugins.datasets.posed_folder import PosedFolder

from stereo4d import registry
from stereo4d.data.conventions import Axes, Conventions, DepthKind, PixelOrigin, PoseKind
from stereo4d.errors import InputError
from tests.datasets.miniatures import FPS, MILLIMETRES, Filmed, film, write_folder

POSES = {
    "tum": "poses.txt",
    "kitti": "poses.txt",
    "npy": "poses.npy",
    "npz": "poses.npz",
    "folder": "pose",
    "nerfstudio": "transforms.json",
}


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    return film(frames=3)


def assert_true(folder: PosedFolder, scene: str, index: int, filmed: Filmed, row: int, *, depth: float) -> None:
    frame = folder.frame(scene, index)
    np.testing.assert_array_equal(frame.rgb, filmed.rgb[row])
    np.testing.assert_allclose(frame.cam2world, filmed.cam2world[row], atol=2e-6)
    np.testing.assert_allclose(frame.intrinsics, filmed.intrinsics, atol=1e-9)
    np.testing.assert_allclose(frame.depth, filmed.depth[row], atol=depth)


def test_it_is_found_by_its_name():
    assert registry.load("stereo4d.datasets", "folder") is PosedFolder


@pytest.mark.parametrize("form", POSES)
def test_poses_of_every_format_read_back(tmp_path, filmed, form):
    # what nerfstudio writes is OpenGL's, counted from the corner, and needs not be said
    written = (
        Conventions(axes=Axes.opengl, pixel_origin=PixelOrigin.corner, depth_unit=0.001)
        if form == "nerfstudio"
        else MILLIMETRES
    )
    write_folder(tmp_path / "set/one", filmed, poses=form, conventions=written)
    folder = PosedFolder(str(tmp_path / "set"), poses=POSES[form], conventions=MILLIMETRES, fps=FPS)
    assert folder.scenes() == ["one"]
    skipped = 1 if form == "npz" else 0  # which tells frames by number, and has none for the first
    np.testing.assert_allclose(folder.times("one"), np.arange(skipped, 3) / FPS)
    assert_true(folder, "one", 1, filmed, 1 + skipped, depth=6e-4)


@pytest.mark.parametrize("pose_kind", PoseKind)
@pytest.mark.parametrize("axes", Axes)
@pytest.mark.parametrize("depth_kind", DepthKind)
def test_conventions_that_are_said_are_undone(tmp_path, filmed, pose_kind, axes, depth_kind):
    written = Conventions(pose_kind, axes, PixelOrigin.corner, depth_kind, 0.25)
    write_folder(tmp_path / "one", filmed, poses="npy", depth=".npy", conventions=written)
    folder = PosedFolder(str(tmp_path / "one"), poses="poses.npy", conventions=written)
    assert_true(folder, ".", 2, filmed, 2, depth=1e-5)


def test_axes_are_those_that_their_names_promise():
    ahead, right, down = np.eye(3)[2], np.eye(3)[0], np.eye(3)[1]
    words = {"right": right, "left": -right, "down": down, "up": -down, "forward": ahead, "backward": -ahead}
    told = {
        Axes.opencv: ("right", "down", "forward"),
        Axes.opengl: ("right", "up", "backward"),
        Axes.pytorch3d: ("left", "up", "forward"),
        Axes.ned: ("forward", "right", "down"),
    }
    for axes, names in told.items():
        stored = Conventions(axes=axes).stored_pose(np.eye(4))  # columns: where its axes point
        np.testing.assert_array_equal(stored[:3, :3], np.stack([words[name] for name in names], 1))


def test_images_named_by_their_seconds_meet_poses_and_depths_that_were_taken_a_little_later(tmp_path, filmed):
    stems = ["1305031102.175304", "1305031102.211214", "1305031102.243211"]
    scene = write_folder(tmp_path / "fr1", filmed, stems=stems, depth=".npy", conventions=Conventions())
    for stem in stems:
        (scene / f"depths/{stem}.npy").rename(scene / f"depths/{float(stem) + 0.008:.6f}.npy")
    lines = (scene / "poses.txt").read_text().splitlines()
    between = " ".join([f"{float(stems[0]) + 0.018:.6f}", *lines[1].split()[1:]])  # of no image
    (scene / "poses.txt").write_text("\n".join([lines[0], lines[1], between, *lines[2:]]) + "\n")
    folder = PosedFolder(str(tmp_path))
    np.testing.assert_allclose(folder.times("fr1"), [float(stem) for stem in stems])
    assert_true(folder, "fr1", 1, filmed, 1, depth=1e-5)


def test_depth_and_masks_are_found_by_their_number(tmp_path, filmed):
    scene = write_folder(tmp_path / "seq", filmed)
    for path in sorted((scene / "images").iterdir()):
        path.rename(path.with_name(f"rgb_{path.name}"))
    for path in sorted((scene / "depths").iterdir()):
        path.rename(path.with_name(f"depth_{path.name}"))
    folder = PosedFolder(str(tmp_path), conventions=MILLIMETRES, moving="masks")
    assert_true(folder, "seq", 2, filmed, 2, depth=6e-4)
    moving = folder.frame("seq", 2).moving
    assert moving.any()
    np.testing.assert_array_equal(moving, filmed.moving[2])


def test_intrinsics_may_be_numbers_and_scenes_may_lie_deeper(tmp_path, filmed):
    write_folder(tmp_path / "train/one", filmed)
    lens = filmed.intrinsics
    numbers = [lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]]
    folder = PosedFolder(str(tmp_path), scene_pattern="*/*", intrinsics=numbers, conventions=MILLIMETRES)
    assert folder.scenes() == ["train/one"]
    assert_true(folder, "train/one", 0, filmed, 0, depth=6e-4)


def test_it_travels_to_other_processes(tmp_path, filmed):
    write_folder(tmp_path / "one", filmed)
    folder = PosedFolder(str(tmp_path), conventions=MILLIMETRES)
    folder.times("one")
    assert_true(pickle.loads(pickle.dumps(folder)), "one", 1, filmed, 1, depth=6e-4)


def without_depth(scene: Path) -> None:
    (scene / "depths/00001.png").unlink()


def damaged_depth(scene: Path) -> None:
    path = scene / "depths/00001.png"
    path.write_bytes(path.read_bytes()[:60])


def smaller_depth(scene: Path) -> None:
    Image.fromarray(np.ones((24, 32), np.uint16)).save(scene / "depths/00001.png")


def damaged_image(scene: Path) -> None:
    (scene / "images/00001.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (without_depth, "depths: nothing in it for 00001.png"),
        (damaged_depth, "00001.png cannot be read as an image"),
        (smaller_depth, r"depths/00001.png: is \(24, 32\), 00001.png is \(48, 64\)"),
        (damaged_image, "images/00001.png is not an image"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path, filmed, harm, told):
    harm(write_folder(tmp_path / "one", filmed))
    folder = PosedFolder(str(tmp_path), conventions=MILLIMETRES)
    folder.frame("one", 0)
    with pytest.raises(InputError, match=told):
        folder.frame("one", 1)


def test_a_root_without_scenes_says_what_was_looked_for(tmp_path, filmed):
    with pytest.raises(InputError, match=r"nowhere: no such folder: no scene in it; looked for \*/poses.txt"):
        PosedFolder(str(tmp_path / "nowhere")).scenes()
    scene = write_folder(tmp_path / "one", filmed)
    (scene / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match="line 1 has 3 numbers; poses are"):
        PosedFolder(str(tmp_path)).times("one")
    shutil.copy(scene / "images/00000.png", scene / "images/00009.png")
    np.savetxt(scene / "poses.txt", filmed.cam2world[:2, :3].reshape(-1, 12))
    with pytest.raises(InputError, match="2 rows without frame numbers"):
        PosedFolder(str(tmp_path)).times("one")


def test_a_lens_with_distortion_is_refused(tmp_path, filmed):
    scene = write_folder(tmp_path / "one", filmed, poses="nerfstudio")
    text = (scene / "transforms.json").read_text()
    (scene / "transforms.json").write_text(text.replace('"fl_x"', '"k1": 0.1, "fl_x"', 1))
    with pytest.raises(InputError, match=r"k1 = 0.1: undistort the images first"):
        PosedFolder(str(tmp_path), poses="transforms.json").times("one")
