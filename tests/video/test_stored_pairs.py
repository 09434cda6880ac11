"""Stored predictions come into memory once at most, and not at all where one file can be mapped."""

import tracemalloc

import numpy as np
import torch

from stereo4d.storage import map_arrays, save_arrays
from stereo4d.video.prediction_files import join_predictions
from stereo4d.video.stored_pairs import open_pairs
from tests.stored_worlds import arrays_of, small_world, write_pairs


def large_pairs(folder, files, pairs=40, height=96, width=128):
    """Files of pairs with nothing in them, of 8 MB altogether."""
    paths = []
    for number, edges in enumerate(np.array_split(np.array([(i, i + 1) for i in range(pairs)]), files)):
        shape = (len(edges), height, width)
        arrays = {"edges": edges, "confidence0": np.ones(shape, np.float16), "confidence1": np.ones(shape, np.float16)}
        arrays |= {f"pointmap{side}": np.full((*shape, 3), number, np.float16) for side in (0, 1)}
        paths.append(save_arrays(folder / f"{number}.safetensors", arrays))
    return paths, sum(path.stat().st_size for path in paths)


def taken_by(work):
    """The most bytes that NumPy and Python held at once while working; mapped pages do not count."""
    tracemalloc.start()
    try:
        kept = work()
        return kept, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_file_is_mapped_not_read(tmp_path):
    paths, size = large_pairs(tmp_path, 1)
    (edges, prediction), taken = taken_by(lambda: join_predictions(paths))
    assert taken < size / 20
    assert prediction.pointmap0.shape == (40, 96, 128, 3)
    assert edges[7].tolist() == [7, 8]


def test_several_files_are_joined_without_a_second_copy(tmp_path):
    paths, size = large_pairs(tmp_path, 8)
    (edges, prediction), taken = taken_by(lambda: join_predictions(paths))
    assert size * 0.9 < taken < size * 1.2
    assert edges[:, 0].tolist() == list(range(40))
    assert prediction.pointmap1[::5, 0, 0, 0].tolist() == list(range(8))


def test_only_chosen_pairs_are_read(tmp_path):
    paths, size = large_pairs(tmp_path, 4)
    chosen = np.isin(np.arange(40), [3, 12, 39])
    (edges, prediction), taken = taken_by(lambda: join_predictions(paths, chosen=chosen))
    assert taken < size / 5
    assert edges[:, 0].tolist() == [3, 12, 39]
    assert prediction.pointmap1[:, 0, 0, 0].tolist() == [0, 1, 3]


def test_what_is_written_to_mapped_predictions_stays_out_of_the_file(tmp_path):
    (path,), _ = large_pairs(tmp_path, 1)
    before = path.read_bytes()
    join_predictions([path])[1].pointmap0.fill_(5)
    assert path.read_bytes() == before
    assert map_arrays(path)["pointmap0"].max() == 0


def test_arrays_that_lie_at_odd_bytes_are_read_as_well(tmp_path):
    path = write_pairs(tmp_path / "pairs.safetensors")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    # one more blank at the end of the header: still safetensors, every array off by one byte
    path.write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    edges, prediction = open_pairs([str(path)]).read()
    expected = arrays_of(small_world())
    assert torch.equal(edges, expected["edges"])
    assert torch.equal(prediction.pointmap1, expected["pointmap1"])


def test_a_graph_keeps_the_order_of_the_stored_pairs(tmp_path):
    path = write_pairs(tmp_path / "pairs.safetensors")
    edges, prediction = open_pairs([str(path)]).read("swin-1-noncyclic")
    stored = arrays_of(small_world())
    near = (stored["edges"][:, 0] - stored["edges"][:, 1]).abs() == 1
    assert torch.equal(edges, stored["edges"][near])
    assert torch.equal(prediction.confidence0, stored["confidence0"][near])
