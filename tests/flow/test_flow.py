"""Flow by name or from a file, both ways, and where it is valid."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stereo4d_plugins.flow.dis import Dis
from stereo4d_plugins.flow.raft import Raft
from torchvision.models.optical_flow import raft_small

from stereo4d.errors import CheckpointError, PluginError, UsageError
from stereo4d.video.flow import Flow, checked_both_ways, flow_pair, load_flow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


def constant(flow: tuple[float, float], size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.broadcast_to(np.array(flow, np.float32), (*size, 2)).copy()


def test_a_way_there_and_back_is_valid_by_its_length_not_by_the_sum_of_its_parts():
    # Errors of opposite sign cancel in a signed sum; a length they do not deceive.
    pair = checked_both_ways(constant((2, 0)), constant((-2 + 3, 0 - 3)))
    np.testing.assert_allclose(pair.error0[:, :28], 18**0.5, rtol=1e-4)
    assert not pair.valid0.any()


@pytest.mark.parametrize(("length", "missed", "valid"), [(0, 0.9, True), (0, 1.1, False), (10, 1.15, True)])
def test_long_ways_may_miss_by_more(length, missed, valid):
    pair = checked_both_ways(constant((length, 0)), constant((-length, missed)))
    assert pair.valid0[:, :15].all() == valid


def test_what_leaves_the_image_or_is_no_number_is_not_valid():
    forward = constant((5, 0))
    forward[3, 4] = np.nan
    pair = checked_both_ways(forward, constant((-5, 0)))
    assert not pair.valid0[:, 26:].any()
    assert not pair.valid0[3, 4]
    assert pair.valid0.sum() == 20 * 25 - 1
    assert np.isfinite(pair.forward).all()


def test_flow_of_the_wrong_size_is_refused_by_name():
    class Small(Flow):
        def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
            return np.zeros((4, 4, 2), np.float32)

    picture = np.zeros((8, 6, 3), np.uint8)
    with pytest.raises(PluginError, match=r"Small: flow is \(4, 4, 2\), but images of 6x8 .*need \(8, 6, 2\)"):
        flow_pair(Small(), picture, picture)


def test_flow_goes_by_name_or_by_file(weights):
    assert isinstance(load_flow(), Dis)
    assert isinstance(load_flow(str(weights)), Raft)
    with pytest.raises(UsageError, match=r"--flow 'nothing' is neither installed \(dis, .*raft.*\) nor a file"):
        load_flow("nothing")
    with pytest.raises(UsageError, match="--flow raft: cannot be made without a file"):
        load_flow("raft")


def test_raft_computes_what_torchvision_computes(weights):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (128, 136, 3), np.uint8) for _ in range(2)]
    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    told = [torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in images]
    with torch.inference_mode():
        expected = network(*told, num_flow_updates=3)[-1][0].permute(1, 2, 0).numpy()
    found = Raft(weights, device="cpu", updates=3).flow(*images)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_raft_takes_images_of_any_size_and_safetensors(weights, tmp_path):
    path = tmp_path / "small.safetensors"
    save_file(torch.load(weights, weights_only=True), path)
    picture = np.zeros((45, 67, 3), np.uint8)
    assert Raft(path, device="cpu", updates=1).flow(picture, picture).shape == (45, 67, 2)


def test_files_that_are_no_weights_of_raft_are_refused(tmp_path):
    for name, content in (("a.pth", {"x": torch.ones(2)}), ("b.pth", [1, 2])):
        torch.save(content, tmp_path / name)
    (tmp_path / "c.pth").write_bytes(b"no weights")
    for name, why in (("a.pth", "1 tensors are neither"), ("b.pth", "no state dict"), ("c.pth", "cannot be read")):
        with pytest.raises(CheckpointError, match=rf"{name}: .*{why}"):
            Raft(tmp_path / name)
