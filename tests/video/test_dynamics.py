import numpy as np
import pytest

from stereo4d.errors import SceneError
from stereo4d.storage import save_arrays
from stereo4d.video.dynamics import dynamic_masks, masks_on_disk

SHAPE = (3, 2, 2)


def stored(folder, name: str, edges: list[list[int]], **moving: np.ndarray):
    arrays = {f"dynamics/{side}": values.astype(np.float16) for side, values in moving.items()}
    save_arrays(folder / name, {"edges": np.array(edges, np.int64), **arrays})
    return folder / name


def test_what_most_pairs_see_moving_moves(tmp_path):
    still, moves = np.zeros((2, 2)), np.array([[1.0, 0.4], [0.0, 0.8]])
    first = stored(
        tmp_path, "a.safetensors", [[0, 1], [1, 0]], moving0=np.stack([moves, still]), moving1=np.stack([still, moves])
    )
    second = stored(
        tmp_path, "b.safetensors", [[0, 2]], moving0=np.array([[[1.0, 1.0], [1.0, 0.0]]]), moving1=still[None]
    )
    found = masks_on_disk(dynamic_masks([first, second], SHAPE), tmp_path / "masks.u8", SHAPE)
    assert found.dtype == np.uint8
    # Means of frame 0: 1, (0.4 + 0.4 + 1) / 3, 1 / 3, (0.8 + 0.8 + 0) / 3.
    assert found[0].tolist() == [[1, 1], [0, 1]]
    assert not found[1:].any()


def test_a_window_hears_the_pairs_among_its_own_frames(tmp_path):
    moves = np.ones((2, 2))
    path = stored(
        *(tmp_path, "a.safetensors", [[1, 2], [0, 1]]),
        moving0=np.stack([moves, moves]),
        moving1=np.stack([0 * moves, moves]),
    )
    found = list(dynamic_masks([path], (2, 2, 2), 1))
    assert [bool(mask.all()) for mask in found] == [True, False]


def test_pairs_that_say_nothing_of_motion_leave_the_masks_empty(tmp_path):
    assert not np.any(list(dynamic_masks([stored(tmp_path, "a.safetensors", [[0, 1]])], SHAPE)))


def test_masks_of_another_size_are_refused_by_file(tmp_path):
    path = stored(tmp_path, "a.safetensors", [[0, 1]], moving0=np.zeros((1, 4, 4)), moving1=np.zeros((1, 4, 4)))
    with pytest.raises(SceneError, match=r"a\.safetensors: dynamics/moving0 is float16 \(1, 4, 4\), not \(1, 2, 2\)"):
        list(dynamic_masks([path], SHAPE))
