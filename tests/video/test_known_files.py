"""What is known of a clip, from files: every format says the same, in original pixels, for any frames."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from stereo4d.alignment.known import HARD
from stereo4d.errors import InputError, UsageError
from stereo4d.scene_files import tum_trajectory
from stereo4d.types import PixelMap
from stereo4d.video.clip import Clip
from stereo4d.video.known_files import FrameGeometry, KnownFiles, load_known
from tests.frame_geometries import CHOSEN, HEIGHT, WIDTH, clip_of_images, plain_frames
from tests.scenes import wall_and_ball

CAMERAS = np.array([[[150.0 + f, 0, 81 + f], [0, 148.0 - f, 47 - f], [0, 0, 1]] for f in range(6)])  # one a frame


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    return clip_of_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def frames(clip) -> FrameGeometry:
    return FrameGeometry.of(clip)


def smooth_poses(count: int) -> np.ndarray:
    """(count, 4, 4) cameras that turn and walk."""
    from scipy.spatial.transform import Rotation

    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.outer(np.arange(count), [0.1, -0.2, 0.05])).as_matrix()
    poses[:, :3, 3] = np.outer(np.arange(count), [1.0, 0.2, -0.1])
    return poses


def rows(array: np.ndarray, first: np.ndarray | None = None) -> str:
    flat = np.asarray(array).reshape(len(array), -1)
    flat = flat if first is None else np.column_stack([first, flat])
    return "".join(" ".join(f"{value:.17g}" for value in row) + "\n" for row in flat)


def four(cameras: np.ndarray) -> np.ndarray:
    return np.stack([cameras[:, 0, 0], cameras[:, 1, 1], cameras[:, 0, 2], cameras[:, 1, 2]], 1)


# --- geometry of frames ---


def test_the_geometry_of_a_stored_clip_is_that_of_the_clip(clip, frames, tmp_path):
    clip.save(tmp_path / "frames.safetensors")
    stored = FrameGeometry.of(Clip.load(tmp_path / "frames.safetensors"))
    assert stored.frame_indices.tolist() == frames.frame_indices.tolist() == list(CHOSEN)
    assert stored.original_sizes.tolist() == [[HEIGHT, WIDTH], [64, 128], [HEIGHT, WIDTH]]
    assert stored.network_size == (32, 64)
    assert stored.pixel_maps == frames.pixel_maps


# --- intrinsics ---


def as_text(folder, cameras):
    (folder / "k.txt").write_text("# frame fx fy cx cy\r\n" + rows(four(cameras), np.arange(6)).replace("\n", "\r\n"))
    return "k.txt"


def as_text_of_every_frame(folder, cameras):
    (folder / "k.txt").write_text("\ufeff" + rows(four(cameras)) + "\n\n# the end", encoding="utf-8")
    return "k.txt"


def as_text_of_chosen_matrices(folder, cameras):
    (folder / "k.txt").write_text(rows(cameras[list(CHOSEN)]))
    return "k.txt"


def as_text_at_half_size(folder, cameras):
    half = four(cameras)
    half[:, :2], half[:, 2:] = half[:, :2] / 2, (half[:, 2:] + 0.5) / 2 - 0.5
    (folder / "k.txt").write_text(f"# size {WIDTH // 2} {HEIGHT // 2}\n" + rows(half, np.arange(6)))
    return "k.txt"


def as_npy(folder, cameras):
    np.save(folder / "k.npy", cameras)
    return "k.npy"


def as_npy_up_to_the_last_chosen(folder, cameras):
    return as_npy(folder, cameras[:5])


def as_npz(folder, cameras):
    np.savez(folder / "k.npz", intrinsics=cameras[[4, 1, 3]].astype(np.float32), frames=[4, 1, 3])
    return "k.npz"


def as_json(folder, cameras):
    named = {str(f): dict(zip(("fx", "fy", "cx", "cy"), row, strict=True)) for f, row in enumerate(four(cameras))}
    (folder / "k.json").write_text(json.dumps(named))
    return "k.json"


def as_scene(folder, cameras):
    scene = wall_and_ball(frames=6)
    sizes = np.tile([HEIGHT, WIDTH], (6, 1))
    sizes[3] = [64, 128]
    manifest = {
        "intrinsics_original": cameras.tolist(),
        "frames": [{"index": f, "original_size": sizes[f].tolist()} for f in range(6)],
    }
    scene.with_manifest(manifest).save(folder / "scene")
    return "scene"


@pytest.mark.parametrize(
    "write",
    [
        as_text,
        as_text_of_every_frame,
        as_text_of_chosen_matrices,
        as_npy,
        as_npy_up_to_the_last_chosen,
        as_npz,
        as_json,
        as_scene,
    ],
)
def test_a_point_seen_with_known_intrinsics_lands_on_its_original_pixel(write, frames, tmp_path):
    files = KnownFiles(intrinsics=str(tmp_path / write(tmp_path, CAMERAS)))
    files.check()
    known = load_known(files, frames)
    known.check(3, frames.network_size)
    assert known.given() == ("intrinsics",)
    assert known.intrinsics.frames.tolist() == [0, 1, 2]
    assert known.intrinsics.weight == HARD
    points = np.array([[0.3, -0.2, 2.0], [-0.5, 0.1, 1.5], [0, 0, 1]])
    for position, index in enumerate(CHOSEN):
        at_network = points @ known.intrinsics.intrinsics[position].numpy().T
        at_original = at_network / at_network[:, 2:] @ frames.pixel_maps[position].matrix().T
        expected = points @ CAMERAS[index].T
        assert at_original == pytest.approx(expected / expected[:, 2:], abs=1e-9)


def test_intrinsics_at_network_resolution_are_what_a_hand_computes(tmp_path):
    # 200x120 halved and cropped by 2 pixels on the left: u = 2 u' + 4.5.
    (tmp_path / "k.txt").write_text("100 90 99.5 59.5\n")
    frames = plain_frames(2, (120, 200), PixelMap(2, 2, 4.5, 0.5), (60, 96))
    known = load_known(KnownFiles(intrinsics=str(tmp_path / "k.txt")), frames).intrinsics
    assert known.frames.tolist() == [0, 1]
    assert known.intrinsics[1].tolist() == [[50, 0, 47.5], [0, 45, 29.5], [0, 0, 1]]


@pytest.mark.parametrize("write", [as_text_at_half_size])
def test_numbers_for_images_of_another_size_are_rescaled_to_the_clips(write, tmp_path):
    frames = plain_frames(6, (HEIGHT // 2 * 2, WIDTH), PixelMap(), (HEIGHT // 2 * 2, WIDTH))
    known = load_known(KnownFiles(intrinsics=str(tmp_path / write(tmp_path, CAMERAS))), frames).intrinsics
    assert known.intrinsics.numpy() == pytest.approx(CAMERAS, abs=1e-9)


def test_a_size_in_json_or_npz_says_the_same(tmp_path):
    half = {"fx": 75.0, "fy": 74, "cx": 40, "cy": 23.5, "width": 80, "height": 50}
    (tmp_path / "k.json").write_text(json.dumps(half))
    matrix = [[75.0, 0, 40], [0, 74, 23.5], [0, 0, 1]]
    np.savez(tmp_path / "k.npz", intrinsics=np.array(matrix), size=(80, 50))
    frames = plain_frames(2, (100, 160), PixelMap(), (100, 160))
    for name in ("k.json", "k.npz"):
        known = load_known(KnownFiles(intrinsics=str(tmp_path / name)), frames).intrinsics
        assert known.intrinsics[0].numpy() == pytest.approx(np.array([[150, 0, 80.5], [0, 148, 47.5], [0, 0, 1]]))


def test_a_principal_point_far_from_the_middle_is_doubted(frames, tmp_path, caplog):
    (tmp_path / "k.txt").write_text("500 500 32 16\n")
    with caplog.at_level(logging.WARNING, "stereo4d"):
        load_known(KnownFiles(intrinsics=str(tmp_path / "k.txt")), frames)
    assert "k.txt: line 1: its principal point (32.0, 16.0) is far from the middle of 160x97" in caplog.text


# --- poses ---


def test_the_trajectory_of_a_scene_reads_back(tmp_path):
    scene = replace(wall_and_ball(frames=4), cam2world=smooth_poses(4).astype(np.float32))
    scene.save(tmp_path)
    size = scene.depth.shape[1:]
    frames = FrameGeometry(
        scene.frame_indices, scene.times, scene.original_sizes, size, (PixelMap(2, 2, 0.5, 0.5),) * 4
    )
    for name in ("", "trajectory.txt"):
        known = load_known(KnownFiles(poses=str(tmp_path / name), poses_weight=5), frames)
        known.check(4, size)
        assert known.poses.weight == 5
        assert known.poses.frames.tolist() == [0, 1, 2, 3]
        assert known.poses.cam2world.numpy() == pytest.approx(scene.cam2world, abs=1e-6)


def poses_as_kitti(path, poses):
    path.with_suffix(".txt").write_text(rows(poses[:, :3]))
    return path.with_suffix(".txt")


def poses_as_chosen_kitti(path, poses):
    return poses_as_kitti(path, poses[list(CHOSEN)])


def poses_as_tum(path, poses):
    # image i is shown at second i; stamps are off by a bit, and come in any order
    stamps = np.arange(6) + 0.3
    lines = tum_trajectory(stamps, poses).splitlines(keepends=True)
    path.with_suffix(".txt").write_text("".join([lines[0], *lines[:0:-1]]))
    return path.with_suffix(".txt")


def poses_as_npy(path, poses):
    np.save(path.with_suffix(".npy"), poses)
    return path.with_suffix(".npy")


def poses_as_npz(path, poses):
    np.savez(path.with_suffix(".npz"), cam2world=poses[::-1], frames=np.arange(6)[::-1])
    return path.with_suffix(".npz")


def poses_as_npz_by_time(path, poses):
    np.savez_compressed(path.with_suffix(".npz"), cam2world=poses, times=np.arange(6.0))
    return path.with_suffix(".npz")


@pytest.mark.parametrize(
    "write", [poses_as_kitti, poses_as_chosen_kitti, poses_as_tum, poses_as_npy, poses_as_npz, poses_as_npz_by_time]
)
def test_every_format_of_poses_says_the_same(write, frames, tmp_path):
    poses = smooth_poses(6)
    files = KnownFiles(poses=str(write(tmp_path / "poses", poses)))
    files.check()
    known = load_known(files, frames)
    known.check(3, frames.network_size)
    assert known.poses.frames.tolist() == [0, 1, 2]
    assert known.poses.cam2world.numpy() == pytest.approx(poses[list(CHOSEN)], abs=1e-6)


def test_poses_of_some_frames_are_known_for_those_alone(frames, tmp_path, caplog):
    poses = smooth_poses(3)
    np.savez(tmp_path / "p.npz", cam2world=poses, frames=[9, 4, 0])
    with caplog.at_level(logging.INFO, "stereo4d"):
        known = load_known(KnownFiles(poses=str(tmp_path / "p.npz")), frames).poses
    assert known.frames.tolist() == [2]
    assert known.cam2world[0].numpy() == pytest.approx(poses[1])
    assert "1 of its 3 rows belong to 1 of 3 frames" in caplog.text


def test_times_match_the_nearest_frame_within_half_a_frame(tmp_path):
    frames = plain_frames(4, (20, 30), PixelMap(), (20, 30))  # a frame every 0.1 s
    (tmp_path / "p.txt").write_text(
        "0.04 1 0 0 0 0 0 1\n0.01 2 0 0 0 0 0 1\n0.149 3 0 0 0 0 0 1\n0.36 4 0 0 0 0 0 1\n7 5 0 0 0 0 0 1\n"
    )
    known = load_known(KnownFiles(poses=str(tmp_path / "p.txt")), frames).poses
    assert known.frames.tolist() == [0, 1]  # nothing lies within 0.05 s of 0.2 and 0.3
    assert known.cam2world[:, 0, 3].tolist() == [2, 3]


def test_the_only_frame_of_a_clip_takes_the_pose_of_its_moment(tmp_path):
    frames = plain_frames(1, (20, 30), PixelMap(), (20, 30))
    (tmp_path / "p.txt").write_text("0.0 1 0 0 0 0 0 1\n")
    assert load_known(KnownFiles(poses=str(tmp_path / "p.txt")), frames).poses.frames.tolist() == [0]
    (tmp_path / "p.txt").write_text("0.1 1 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match=r"has times 0.100 \.\.\. 0.100 s, the clip's chosen frames are at 0.000"):
        load_known(KnownFiles(poses=str(tmp_path / "p.txt")), frames)


def test_rounded_numbers_become_exact_rotations(frames, tmp_path):
    (tmp_path / "k.txt").write_text(
        "".join(" ".join(f"{v:.4f}" for v in p[:3].ravel()) + "\n" for p in smooth_poses(6))
    )
    (tmp_path / "t.txt").write_text("1 0 0 0 0.1 0.2 0.3 0.93\n")
    for name in ("k.txt", "t.txt"):
        rotation = load_known(KnownFiles(poses=str(tmp_path / name)), frames).poses.cam2world[:, :3, :3]
        assert (rotation @ rotation.mT).numpy() == pytest.approx(np.tile(np.eye(3), (len(rotation), 1, 1)), abs=1e-12)


def test_whole_seconds_between_frames_are_doubted(tmp_path, caplog):
    frames = plain_frames(21, (20, 30), PixelMap(), (20, 30))
    (tmp_path / "p.txt").write_text("".join(f"{i} 0 0 0 0 0 0 1\n" for i in range(21)))
    with caplog.at_level(logging.WARNING, "stereo4d"):
        known = load_known(KnownFiles(poses=str(tmp_path / "p.txt")), frames).poses
    assert known.frames.tolist() == [0, 10, 20]
    assert "all its times are whole seconds; if they are frame numbers" in caplog.text


# --- what decides the result ---


def test_settings_change_with_content_and_weight_and_not_with_place(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "depths").mkdir(parents=True)
        (tmp_path / place / f"{place}.txt").write_text("100 100 50 50\n")
        np.save(tmp_path / place / "depths" / "1.npy", np.ones((4, 6)))
    here, there = (
        KnownFiles(str(tmp_path / place / f"{place}.txt"), depths=str(tmp_path / place / "depths"), depths_weight=2)
        for place in ("here", "there")
    )
    assert here.settings() == there.settings() == json.loads(json.dumps(here.settings()))
    assert here.settings()["intrinsics"]["weight"] == "hard"
    assert here.settings()["depths"]["weight"] == 2
    assert KnownFiles().settings() == {}
    assert replace(here, intrinsics_weight=4.0).settings() != here.settings()
    (tmp_path / "there" / "there.txt").write_text("100 100 50 51\n")
    assert here.settings()["intrinsics"] != there.settings()["intrinsics"]
    (tmp_path / "there" / "depths" / "1.npy").rename(tmp_path / "there" / "depths" / "2.npy")
    assert here.settings()["depths"] != there.settings()["depths"]


def test_nothing_is_known_when_nothing_is_given(frames):
    assert not KnownFiles().any()
    assert KnownFiles(masks="m.png").any()
    KnownFiles().check()
    assert load_known(KnownFiles(), frames).given() == ()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"poses": "p.npy", "poses_weight": 0.0},
            "--poses-weight 0.0: give a number above 0; left out, poses are held",
        ),
        ({"poses": "p.npy", "poses_weight": float("nan")}, "--poses-weight nan"),
        ({"depths_weight": 2.0}, "--depths-weight 2.0: there are no --depths to weigh"),
        ({"masks": "m.png", "masks_keep": 1.5}, "--masks-keep 1.5: give a share from 0 to 1"),
        ({"masks_keep": 0.5}, "there are no --masks"),
    ],
)
def test_weights_that_cannot_be_are_refused(told, said, frames):
    with pytest.raises(UsageError, match=said):
        KnownFiles(**told).check()
    with pytest.raises(UsageError, match=said):
        load_known(KnownFiles(**told), frames)
