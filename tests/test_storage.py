"""Files are whole or not there; arrays come back as they went; damaged files are refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from stereo4d.errors import OutputError, SceneError
from stereo4d.storage import atomic_file, map_arrays, read_metadata, remove_partial, save_arrays, write_json


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_atomic_file_replaces_the_old_content_only_at_the_end(tmp_path):
    target = tmp_path / "deep" / "note.txt"
    with atomic_file(target) as partial:
        partial.write_text("one")
        assert partial.name == "note.txt"
        assert not target.exists()
    with atomic_file(target) as partial:
        partial.write_text("two")
        assert target.read_text() == "one"
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_file_obeys_the_umask(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    with atomic_file(tmp_path / "atomic") as partial:
        partial.write_text("")
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_file_leaves_nothing_after_an_error(tmp_path, error):
    def write_half() -> None:
        with atomic_file(tmp_path / "note.txt") as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_another_file_passes_through(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "copy.txt") as partial:
        partial.write_bytes((tmp_path / "original.txt").read_bytes())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/below\.txt"), atomic_file(tmp_path / "file" / "below.txt"):
        pass


def test_a_killed_write_leaves_the_old_file_and_nothing_that_looks_whole(tmp_path):
    target = tmp_path / "arrays.safetensors"
    save_arrays(target, {"a": np.arange(3)})
    code = """
import sys, time
from stereo4d.storage import atomic_file
with atomic_file(sys.argv[1]) as partial:
    partial.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
    process = python(code, target)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("*.safetensors")) == [target]
    assert map_arrays(target)["a"].tolist() == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2  # the hidden leftover
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    # A file-size limit stops the write in the kernel, as a full disk does.
    code = """
import resource, sys
import numpy as np
from stereo4d.errors import OutputError
from stereo4d.storage import save_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_arrays(sys.argv[1], {"a": np.zeros(1_000_000)})
except OutputError as error:
    print(error)
"""
    process = python(code, tmp_path / "big.safetensors")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert str(tmp_path / "big.safetensors") in output
    assert "make room" in output
    assert list(tmp_path.iterdir()) == []


def test_arrays_and_tensors_come_back_with_dtype_and_shape(tmp_path):
    arrays = {
        "half": np.linspace(0, 1, 7, dtype=np.float16),
        "flag": np.array([True, False]),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 3), np.float32),
        "column": np.arange(12, dtype=np.int64).reshape(3, 4).T,
        "big_endian": np.arange(3, dtype=">i4"),
    }
    tensors = {"tensor": torch.arange(6.0).reshape(2, 3), "brain": torch.tensor([1.5], dtype=torch.bfloat16)}
    path = save_arrays(tmp_path / "a.safetensors", {**arrays, **tensors}, {"format": "test"})
    mapped = map_arrays(path)
    assert read_metadata(path) == {"format": "test"}
    assert set(mapped) == set(arrays) | set(tensors)
    for name, array in arrays.items():
        assert mapped[name].dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(mapped[name], array)
    assert torch.equal(torch.from_numpy(np.array(mapped["tensor"])), tensors["tensor"])
    assert mapped["brain"].dtype == np.float32


def test_the_safetensors_library_reads_what_we_write_and_we_what_it_writes(tmp_path):
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)}
    theirs = safetensors.numpy.load_file(save_arrays(tmp_path / "ours.safetensors", arrays))
    safetensors.numpy.save_file(arrays, tmp_path / "theirs.safetensors")
    ours = map_arrays(tmp_path / "theirs.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name], array)


def test_arrays_larger_than_a_chunk_are_written_whole(tmp_path):
    array = np.arange(5_000_000, dtype=np.float32).reshape(5, 1000, 1000)[::-1]
    np.testing.assert_array_equal(map_arrays(save_arrays(tmp_path / "a.safetensors", {"a": array}))["a"], array)


def test_mapped_arrays_are_views_of_the_file_and_read_only(tmp_path):
    mapped = map_arrays(save_arrays(tmp_path / "a.safetensors", {"a": np.zeros((100, 100))}))["a"]
    assert isinstance(mapped, np.memmap)
    assert mapped.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        mapped[0, 0] = 1


def test_an_array_that_safetensors_cannot_hold_is_refused(tmp_path):
    with pytest.raises(OutputError, match="'a' has dtype complex128"):
        save_arrays(tmp_path / "a.safetensors", {"a": np.zeros(2, complex)})


def raw(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not safetensors at all", id="text"),
        pytest.param(raw(b"{broken", b""), id="no JSON"),
        pytest.param(raw([1, 2], b""), id="no object"),
        pytest.param(raw({"a": entry(0, 8, [8])}, b"1234"), id="cut short"),
        pytest.param(raw({"a": entry(0, 4, [4])}, b"12345678"), id="trailing bytes"),
        pytest.param(raw({"a": entry(0, 6, [6]), "b": entry(4, 8, [4])}, b"12345678"), id="overlap"),
        pytest.param(raw({"a": entry(0, 2, [2]), "b": entry(4, 8, [4])}, b"12345678"), id="gap"),
        pytest.param(raw({"a": entry(0, 8, [3])}, b"12345678"), id="shape and bytes disagree"),
        pytest.param(raw({"a": entry(-8, 0, [8])}, b""), id="negative offset"),
        pytest.param(raw({"a": entry(0, 8, [-8])}, b"12345678"), id="negative shape"),
        pytest.param(raw({"a": entry(0, 8, [8], "F7")}, b"12345678"), id="unknown dtype"),
        pytest.param(raw({"a": {"dtype": "U8"}}, b""), id="entry lacks keys"),
        pytest.param(raw(b'{"a": 1, "a": 2}', b""), id="name twice"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"damaged\.safetensors"):
        map_arrays(path)


def test_every_truncation_of_a_file_is_refused(tmp_path):
    content = save_arrays(tmp_path / "a.safetensors", {"a": np.arange(4), "b": np.ones(3, np.float16)}).read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(SceneError):
            map_arrays(tmp_path / "cut.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SceneError, match=r"nowhere\.safetensors"):
        map_arrays(tmp_path / "nowhere.safetensors")


def test_json_is_strict_and_plain(tmp_path):
    value = {"path": Path("a/b"), "loss": float("nan"), "n": np.int64(3), "sizes": np.array([1, 2]), 5: ("x", None)}
    path = write_json(tmp_path / "m.json", value)
    assert json.loads(path.read_text()) == {"path": "a/b", "loss": None, "n": 3, "sizes": [1, 2], "5": ["x", None]}


def test_a_written_file_stays_readable_while_it_is_replaced(tmp_path):
    path = save_arrays(tmp_path / "a.safetensors", {"a": np.zeros(10_000)})
    before = map_arrays(path)["a"]
    save_arrays(path, {"a": np.ones(10_000)})
    assert before.sum() == 0
    assert map_arrays(path)["a"].sum() == 10_000
