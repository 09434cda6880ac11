"""The network that predicts also tells which frames look alike."""

import numpy as np
import pytest
import torch

from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose
from stereo4d.data.synthetic.pairs import photographed
from stereo4d.data.synthetic.render import render
from stereo4d.data.synthetic.world import Draw, WorldConfig, sample_world
from stereo4d.network.weights import load_model
from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import pair_graph
from stereo4d.video.similarity import frame_similarity
from tests.tiny_weights import tiny_network


def clip_of(rgb):
    frames, height, width = rgb.shape[:3]
    numbers = np.arange(frames)
    sizes, maps = np.tile([height, width], (frames, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (frames, 1))
    return Clip(rgb, numbers.astype(np.float64), numbers, sizes, maps)


@pytest.fixture(scope="module")
def there_and_back():
    """A camera walks through a furnished room and back, while things move on their own: ten noisy frames."""
    world = sample_world(WorldConfig(), 1, seed=1_000_002)
    intrinsics, draw, pictures = camera_intrinsics(world, 96, 128), Draw(5, "cpu"), []
    for number, place in enumerate(1 - np.abs(np.linspace(-1, 1, 10))):
        camera = camera_pose(world, torch.tensor([place], dtype=torch.float32))
        seen = render(world, torch.tensor([number / 9]), camera, intrinsics, 96, 128, samples=1)
        noisy = photographed(seen.rgb, WorldConfig(exposure=0.0), draw)
        pictures.append(((noisy[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy())
    return clip_of(np.stack(pictures))


def test_frames_that_see_a_place_again_are_the_most_alike(there_and_back):
    likeness = frame_similarity(load_model("embedded"), there_and_back)
    others = np.where(np.eye(10, dtype=bool), -np.inf, likeness)
    assert others.argmax(1).tolist() == list(range(9, -1, -1))
    edges = pair_graph("retrieval-2-1", 10, similarity=likeness)
    assert {(i, 9 - i) for i in range(10)} <= set(edges)


def test_likeness_does_not_depend_on_how_many_frames_are_encoded_at_once(there_and_back):
    network = tiny_network()
    at_once = frame_similarity(network, there_and_back, batch_size=10)
    assert frame_similarity(network, there_and_back, batch_size=3) == pytest.approx(at_once, abs=1e-5)
    assert at_once == pytest.approx(at_once.T)
    assert np.diag(at_once) == pytest.approx(1)


def test_frames_that_are_all_the_same_are_alike_in_nothing(there_and_back):
    still = clip_of(np.repeat(there_and_back.rgb[:1], 4, 0))
    assert (frame_similarity(tiny_network(), still) == 0).all()
    assert len(pair_graph("retrieval-1-1", 4, similarity=frame_similarity(tiny_network(), still))) >= 6
