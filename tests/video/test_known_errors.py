"""Files of known quantities come from anywhere: what is wrong with them is one line, and nothing in them is run."""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stereo4d.errors import InputError, Stereo4DError
from stereo4d.types import PixelMap
from stereo4d.video.known_files import FrameGeometry, KnownFiles, load_known

FRAMES = FrameGeometry(
    np.array([0, 10, 20]), np.array([0.0, 0.5, 1.0]), np.tile([40, 60], (3, 1)), (16, 32), (PixelMap(1.5, 1.5),) * 3
)
EYE4 = np.tile(np.eye(4), (3, 1, 1))
EYE3 = np.tile(np.eye(3), (3, 1, 1))


def npy(array, **told) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **told)
    return file.getvalue()


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def changed(array: np.ndarray, index, value) -> np.ndarray:
    array = np.array(array, np.float64)
    array[index] = value
    return array


def load(quantity: str, path: Path) -> object:
    files = KnownFiles(**{quantity: str(path)})
    files.check()
    return load_known(files, FRAMES)


def refused(quantity: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(quantity, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


HUGE_HEADER = npy(np.zeros(3)).replace(b"(3,), ", b"(3000000000000000, 4, 4), ")[:160]
BAD_INTRINSICS = {
    "empty.txt": (b"", "the file is empty"),
    "comments.txt": (b"# fx fy cx cy\n\n", "no numbers in it"),
    "words.txt": (b"# k\n100 100 fifty 50\n", "line 2: 'fifty' is not a number; part numbers by blanks"),
    "commas.txt": (b"100,100,50,50\n", "line 1: '100,100,50,50' is not a number"),
    "nan.txt": (b"100 nan 50 50\n", "line 1: nan cannot be used"),
    "infinite.txt": (b"100 1e999 50 50\n", "line 1: inf cannot be used"),
    "latin.txt": ("# größe\n100 100 50 50\n".encode("latin-1"), "byte 4 is not UTF-8 text"),
    "utf16.txt": ("100 100 50 50\n".encode("utf-16"), "byte 0 is not UTF-8 text"),
    "binary.txt": (bytes(range(256)), "not UTF-8 text"),
    "three.txt": (b"100 50 50\n", "line 1 has 3 numbers; intrinsics are 'fx fy cx cy'"),
    "uneven.txt": (b"0 100 100 50 50\n\n100 100 50 50\n", "line 3 has 4 numbers, line 1 has 5"),
    "twice.txt": (b"0 9 9 5 5\n10 9 9 5 5\n0 9 9 5 6\n", r"frame 0 is given twice \(line 1 and line 3\)"),
    "half.txt": (b"0.5 9 9 5 5\n", "line 1: frames are whole numbers from 0"),
    "minus.txt": (b"-1 9 9 5 5\n2.5 9 9 5 5\n", "line 1 and 1 more: frames are whole numbers"),
    "focal.txt": (b"0 100 100 30 20\n10 0 100 30 20\n", "line 2: numbers must be finite and focals above 0"),
    "five.txt": (
        b"9 9 5 5\n" * 5,
        "5 rows without frame numbers; it takes 3, one for each chosen frame, or at least 21",
    ),
    "others.txt": (
        b"1 9 9 5 5\n11 9 9 5 5\n",
        r"has frames 1 \.\.\. 11 .* chosen frames are 0 \.\.\. 20 \(3 of them\)",
    ),
    "transposed.txt": (b"100 0 0 0 100 0 30 20 1\n", "line 1: a matrix of intrinsics is .* is it transposed"),
    "skew.txt": (b"100 1 30 0 100 20 0 0 1\n", "line 1: it has skew"),
    "shape.txt": (b"# size 90 90\n100 100 45 45\n", "its numbers are for images of 90x90, the clip's are 60x40"),
    "size.txt": (b"# size 90x90\n100 100 45 45\n", "'# size 90x90': .* said once, as '# size WIDTH HEIGHT'"),
    "zero.txt": (b"# size 0 40\n100 100 45 45\n", "'# size 0 40'"),
    "camera.xml": (b"<k/>", "intrinsics come as .json, .npy, .npz, .txt or a scene folder, not '.xml'"),
    "text.npy": (b"100 100 50 50\n", "not an .npy file of numbers, or cut short"),
    "short.npy": (npy(EYE3)[:-8], "not an .npy file of numbers, or cut short"),
    "huge.npy": (HUGE_HEADER, "not an .npy file of numbers, or cut short"),
    "flat.npy": (npy(np.ones((3, 9))), r"is \(3, 9\); it must be \(frames, 3, 3\)"),
    "none.npy": (npy(np.ones((0, 3, 3))), "must be|cut short"),
    "complex.npy": (npy(EYE3 * 1j), "array of complex128; it must be of real numbers"),
    "strings.npy": (npy(np.array(["a"])), "it must be of real numbers"),
    "zip.npy": (npz(intrinsics=EYE3), "holds several arrays; name it .npz"),
    "nan.npy": (npy(changed(EYE3, (1, 0, 2), np.nan)), "row 1: numbers must be finite"),
    "text.npz": (b"100 100 50 50\n", "not an .npz file, or cut short"),
    "short.npz": (npz(intrinsics=EYE3)[:-30], "not an .npz file, or cut short"),
    "name.npz": (npz(k=EYE3), "has no array 'intrinsics', it has k; save it as intrinsics="),
    "frames.npz": (npz(intrinsics=EYE3, frames=[0, 10]), "3 rows, but 2 frames; give one for each row"),
    "both.npz": (npz(intrinsics=EYE3, frames=[0, 1, 2], times=[0, 1, 2]), "both frames and times"),
    "two.npz": (npz(intrinsics=EYE3, frames=[0, 10, 10]), r"frame 10 is given twice \(row 1 and row 2\)"),
    "fraction.npz": (npz(intrinsics=EYE3, frames=[0, 10, 10.5]), "row 2: frames are whole numbers"),
    "unsized.npz": (npz(intrinsics=EYE3, size=[60.5, 40]), "size must be two whole numbers"),
    "text.json": (b"fx: 100\n", "not JSON"),
    "short.json": (b'{"fx": 100, ', "not JSON"),
    "deep.json": (b"[" * 200_000, "not JSON"),
    "list.json": (b"[1, 2]", "must hold an object"),
    "twice.json": (b'{"0": {"fx": 1}, "0": {"fx": 2}}', "not JSON: '0' occurs twice"),
    "less.json": (b'{"fx": 100, "fy": 100, "cx": 50}', "cy must be a number of pixels, it is not there"),
    "true.json": (b'{"fx": true, "fy": 100, "cx": 50, "cy": 50}', "fx must be a number of pixels, it is True"),
    "nan.json": (b'{"fx": NaN, "fy": 100, "cx": 50, "cy": 50}', "fx must be a number of pixels, it is nan"),
    "far.json": (b'{"fx": 1%s, "fy": 100, "cx": 50, "cy": 50}' % (b"0" * 400), "fx must be a number of pixels"),
    "k1.json": (b'{"0": {"fx": 1, "fy": 1, "cx": 1, "cy": 1, "k1": 0.1}}', "frame 0: 'k1' is not known; .* undistort"),
    "width.json": (b'{"fx": 9, "fy": 9, "cx": 5, "cy": 5, "width": 60}', "height must be a number of pixels"),
    "names.json": (b'{"first": {"fx": 9}}', "'first' is no frame number"),
    "number.json": (b'{"3": 100}', "frame 3: must be an object with fx fy cx cy, not int"),
    "manifest.json": (b'{"intrinsics_original": [[[1]]], "frames": [{}]}', "not the manifest of a whole scene"),
    "torn.json": (b'{"intrinsics_original": [], "frames": []}', "not the manifest of a whole scene"),
}
BAD_POSES = {
    "seven.txt": (b"0 0 0 0 0 0 1\n", "line 1 has 7 numbers; poses are 'seconds tx ty tz qx qy qz qw'"),
    "long.txt": (b"# t\n0 0 0 0 0 0 0 1\n0.5 0 0 0 0 0 0 1.1\n", "line 3: its quaternion is not of length 1"),
    "zero.txt": (b"0 0 0 0 0 0 0 0\n", "line 1: its quaternion is not of length 1"),
    "again.txt": (b"0 0 0 0 0 0 0 1\n0 0 0 1 0 0 0 1\n", r"time 0.0 is given twice \(line 1 and line 2\)"),
    "epoch.txt": (
        b"1305031102.1 0 0 0 0 0 0 1\n1305031102.2 0 0 0 0 0 0 1\n",
        r"times 1305031102.100 .* at 0.000 \.\.\. 1.0",
    ),
    "scaled.txt": (b"2 0 0 0 0 2 0 0 0 0 2 0\n" * 3, "line 1 and 2 more: its 3x3 part is no rotation"),
    "mirror.txt": (b"1 0 0 0 0 1 0 0 0 0 -1 0\n" * 3, "its axes are left-handed"),
    "rows.txt": (b"1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, "2 rows without frame numbers"),
    "transposed.npy": (
        npy(changed(EYE4, (1, 3, 0), 2)),
        "row 1: the last row of a pose is 0 0 0 1; is the matrix trans",
    ),
    "nan.npy": (npy(changed(EYE4, (2, 0, 3), np.nan)), "row 2: a pose must be of finite numbers"),
    "short.npy": (npy(EYE4[:, :3]), r"is \(3, 3, 4\); it must be \(frames, 4, 4\)"),
    "name.npz": (npz(poses=EYE4), "has no array 'cam2world', it has poses"),
    "times.npz": (npz(cam2world=EYE4, times=np.zeros((3, 1))), r"times is \(3, 1\); it must be one number a row"),
    "nan.npz": (npz(cam2world=EYE4, times=[0, np.nan, 1]), "times must be finite numbers"),
    "poses.json": (b"{}", "poses come as .npy, .npz, .txt or a scene folder, not '.json'"),
}
GREY = Image.new("L", (60, 40), 200)
BAD_DEPTHS = {
    "one.txt": (b"1 2 3", "depths come as a folder, .npy or .npz, not '.txt'"),
    "one.npy": (npy(np.ones((40, 60))), r"is \(40, 60\); depths in one array are \(frames, height, width\)"),
    "whole.npy": (npy(np.ones((3, 40, 60), np.uint16)), "depth of uint16, whose unit nobody can know"),
    "size.npy": (
        npy(np.ones((3, 50, 50))),
        r"row 0: is 50x50 \(width x height\); the clip's frame is 60x40, the network's",
    ),
    "nothing.npy": (npy(np.zeros((3, 40, 60))), "nothing is measured in the clip's frames"),
    "name.npz": (npz(d=np.ones((3, 40, 60))), "has no array 'depth', it has d"),
    "frames.npz": (npz(depth=np.ones((3, 40, 60)), frames=[1, 2, 3]), "has frames 1 ... 3"),
    "folder/nothing.txt": (b"", "no depths in this folder; .* whose name ends in the frame's number"),
    "folder/depth.npy": (npy(np.ones((40, 60))), "no depths in this folder"),
    "folder/7.npy": (npy(np.ones((40, 60))), r"has frames 7, but the clip's chosen frames are 0 \.\.\. 20"),
    "folder/0.npy": (npy(np.ones((40, 60, 1))), r"is \(40, 60, 1\); it must be \(height, width\)"),
    "folder/00.npy": (npy(np.ones((40, 60)))[:-8], "00.npy: not an .npy file of numbers, or cut short"),
    "folder/000.png": (png(GREY), "depth images have 16 bits of grey, in millimetres; this one is 'L'"),
    "folder/0000.png": (png(GREY)[:60], "cannot be read as an image|not an image"),
    "folder/00000.png": (b"no image", "not an image that can be read"),
    "folder/0.npz": (npz(mask=np.ones((40, 60))), "has no array 'depth', it has mask"),
}
BAD_MASKS = {
    "m.jpg": (b"jpeg", "masks come as a folder, .npy or .npz or .png, not '.jpg'"),
    "rgba.png": (png(GREY.convert("RGBA")), "an image of kind 'RGBA'; masks are grey, without transparency"),
    "size.png": (png(Image.new("L", (60, 50))), "is 60x50"),
    "nan.npy": (npy(np.full((3, 40, 60), np.nan)), "a mask must be of finite numbers"),
    "four.npy": (npy(np.ones((3, 40, 60, 1), bool)), r"masks in one array are \(frames, height, width\)"),
    "none.npy": (npy(np.ones((3, 0, 60), bool)), "cut short|masks in one array"),
    "folder/mask.png": (png(GREY), "no masks in this folder"),
}
CASES = [
    pytest.param(quantity, name, *told, id=f"{quantity}-{name}")
    for quantity, files in (
        ("intrinsics", BAD_INTRINSICS),
        ("poses", BAD_POSES),
        ("depths", BAD_DEPTHS),
        ("masks", BAD_MASKS),
    )
    for name, told in files.items()
]


@pytest.mark.parametrize(("quantity", "name", "content", "said"), CASES)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(quantity, name, content, said, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    given = path.parent if name.startswith("folder/") else path
    assert re.search(said, refused(quantity, given))


@pytest.mark.parametrize("quantity", ["intrinsics", "poses", "depths", "masks"])
def test_what_is_not_there_is_said_before_any_frame_is_decoded(quantity, tmp_path):
    for path, said in ((tmp_path / "none.npy", "no such file"), (tmp_path, r"folder")):
        with pytest.raises(InputError, match=said) as caught:
            KnownFiles(**{quantity: str(path)}).check()
        assert str(path) in str(caught.value)
    if Path("/dev/zero").exists():
        with pytest.raises(InputError, match="not a file"):
            KnownFiles(**{quantity: "/dev/zero"}).check()
    with pytest.raises(InputError, match="cannot be read"):
        KnownFiles(**{quantity: str(tmp_path / ("n" * 300 + ".npy"))}).check()


def test_two_files_of_one_frame_are_named(tmp_path):
    for name in ("conf_0.npy", "frame_0000.npy"):
        (tmp_path / name).write_bytes(npy(np.ones((40, 60))))
    assert "frame 0 is given twice (conf_0.npy and frame_0000.npy)" in refused("depths", tmp_path)


def test_a_text_file_too_large_to_be_one_of_cameras_is_not_read(tmp_path):
    with (tmp_path / "k.txt").open("wb") as file:
        file.truncate(1 << 30)  # takes no room on disk
    assert "1073741824 bytes are more than a text file of cameras can have" in refused("intrinsics", tmp_path / "k.txt")


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    header = npy(np.zeros((1, 1), np.float64)).replace(b"(1, 1), ", b"(3, 30000, 30000), ")[:128]
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as file:
        file.writestr("depth.npy", header)
    assert "would take 21600000000 bytes at once" in refused("depths", tmp_path / "d.npz")
    header = npy(np.zeros((1, 1), np.float64)).replace(b"(1, 1), ", b"(3, 9000, 9000), ")[:128]
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as file:
        file.writestr("depth.npy", header)
    assert "depth is cut short" in refused("depths", tmp_path / "d.npz")


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.mkdir, (self.place,))


@pytest.mark.parametrize("quantity", ["intrinsics", "poses", "depths", "masks"])
def test_nothing_in_a_file_is_run(quantity, tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], object)
    (tmp_path / "t.npy").write_bytes(npy(trap, allow_pickle=True))
    name = {"intrinsics": "intrinsics", "poses": "cam2world", "depths": "depth", "masks": "mask"}[quantity]
    (tmp_path / "t.npz").write_bytes(npz(**{name: trap}))
    for raw in ("raw.npy", "raw.npz", "raw.json", "raw.txt", "raw.png"):
        (tmp_path / raw).write_bytes(pickle.dumps(trap))
    for path in sorted(tmp_path.iterdir()):
        refused(quantity, path)
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "raw.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # the trap works


def good_files() -> dict[str, tuple[str, bytes]]:
    depth = Image.fromarray(np.full((40, 60), 1500, np.uint16))
    tum = "# t x y z qx qy qz qw\n" + "".join(f"{t} 0.5 0 0 0 0 0 1\n" for t in (0.0, 0.5, 1.0))
    camera = {"fx": 50.5, "fy": 50, "cx": 30, "cy": 20, "width": 60, "height": 40}
    return {
        "k.txt": ("intrinsics", b"# size 60 40\n0 50 50 30 20\n10 50 50 30 20\n"),
        "k.json": ("intrinsics", json.dumps({"0": camera, "10": camera}).encode()),
        "k.npz": ("intrinsics", npz(intrinsics=EYE3 * [[50], [50], [1]], frames=[0, 10, 20])),
        "p.txt": ("poses", tum.encode()),
        "p.npy": ("poses", npy(EYE4)),
        "p.npz": ("poses", npz(cam2world=EYE4, times=FRAMES.times)),
        "d.npz": ("depths", npz(depth=np.ones((3, 4, 6), np.float16))),
        "d/0.png": ("depths", png(depth)),
        "m.npy": ("masks", npy(np.eye(6, dtype=bool)[None, :4].repeat(3, 0))),
        "m.png": ("masks", png(GREY)),
    }


@pytest.mark.parametrize("name", good_files())
def test_damage_anywhere_is_our_error_or_none(name, tmp_path):
    """Cut anywhere, or with any byte changed, a file reads or is refused; nothing else happens."""
    quantity, content = good_files()[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    given = path.parent if "/" in name else path
    path.write_bytes(content)
    assert load(quantity, given)
    rng = np.random.default_rng(len(content))
    cuts = [content[:at] for at in rng.integers(0, len(content), 40)]
    flips = []
    for at in rng.integers(0, len(content), 120):
        flips.append(content[:at] + bytes([rng.integers(256)]) + content[at + 1 :])
    messages = []
    for damaged in cuts + flips:
        path.write_bytes(damaged)
        try:
            load(quantity, given)
        except Stereo4DError as error:
            messages.append(str(error))
    assert messages
    assert all(str(given) in message and len(message) < 700 for message in messages)
