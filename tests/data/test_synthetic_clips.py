"""Clips of any synthetic world keep how it moves, so that their truth is exact at any time."""

import numpy as np
import pytest
import torch

from stereo4d.data.synthetic.clip import SyntheticTruth, load_truth, synthesize_clip
from stereo4d.data.synthetic.rich import RichWorlds, Things
from stereo4d.data.synthetic.rich.cast import SKY
from stereo4d.data.synthetic.world_mixture import WorldMixture
from stereo4d.errors import InputError
from stereo4d.geometry.camera import project, unproject
from stereo4d.geometry.rigid import invert, transform_points
from stereo4d.storage import map_arrays, save_arrays


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> SyntheticTruth:
    folder = tmp_path_factory.mktemp("park")
    lively = RichWorlds(kinds=("park",), things=Things(moving_share=1.0))
    return load_truth(synthesize_clip(folder, seed=2, frames=3, height=64, width=96, fps=2, config=lively))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.array(array))[None] for array in arrays]


def test_points_of_a_rich_clip_are_found_again_where_a_later_frame_sees_them(truth):
    times = truth.clip.times
    pose, lens, depth = tensors(truth.clip.cam2world[1], truth.clip.intrinsics[1], truth.clip.depth[1])
    later = torch.from_numpy(truth.positions(0, float(times[1])))[None]
    pixel, ahead = project(transform_points(invert(pose), later), lens)
    column, row = pixel.nan_to_num(-1).round().long().unbind(-1)
    inside = (ahead > 0) & (column >= 0) & (column < 96) & (row >= 0) & (row < 64)
    column, row = column.clamp(0, 95)[0], row.clamp(0, 63)[0]
    here, there = np.asarray(truth.surface[0]), np.asarray(truth.surface[1])[row, column]
    same = inside[0].numpy() & (here == there) & (here != SKY)
    gap = ((depth[0][row, column] - ahead[0]) / ahead[0]).abs().numpy()
    moving = same & (np.asarray(truth.clip.dynamic[0]) > 0)
    assert same.sum() > 1500
    assert moving.sum() > 30
    assert np.median(gap[same]) < 1e-2
    assert np.median(gap[moving]) < 2e-2


def test_points_of_a_rich_clip_are_where_their_frame_sees_them_and_some_move(truth):
    own = truth.positions(1, float(truth.clip.times[1]))
    pose, lens, depth = tensors(truth.clip.cam2world[1], truth.clip.intrinsics[1], truth.clip.depth[1])
    np.testing.assert_allclose(own, transform_points(pose, unproject(depth, lens))[0].numpy(), atol=2e-4)
    moved = np.linalg.norm(truth.positions(1, float(truth.clip.times[2])) - own, axis=-1)
    dynamic = np.asarray(truth.clip.dynamic[1]) > 0
    sky = np.asarray(truth.surface[1]) == SKY
    assert np.isnan(own[sky]).all()
    assert moved[~dynamic & ~sky].max() < 1e-3
    assert moved[dynamic].max() > 0.05


def test_the_sky_has_no_depth(truth):
    sky = np.asarray(truth.surface) == SKY
    assert sky.any()
    assert (np.asarray(truth.clip.depth)[sky] == 0).all()
    assert (np.asarray(truth.clip.depth)[~sky] > 0).all()


def test_a_mixture_makes_the_clip_of_the_world_it_draws(tmp_path):
    clip = synthesize_clip(
        tmp_path, seed=0, frames=1, height=16, width=32, config=WorldMixture((RichWorlds(kinds=("indoor",)),))
    )
    assert (np.asarray(load_truth(clip).surface) > 0).any()


def test_truth_without_motion_is_refused(tmp_path, truth):
    synthesize_clip(tmp_path, seed=0, frames=1, height=16, width=32)
    path = tmp_path / "truth.safetensors"
    kept = {name: np.array(array) for name, array in map_arrays(path).items() if not name.startswith("world/")}
    save_arrays(path, kept)
    with pytest.raises(InputError, match="how the world moves"):
        load_truth(path)
