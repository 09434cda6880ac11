"""Ways to tell what moves: by flow, by the reference's rule, by heads, by attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stereo4d_plugins.masks.attention import Attention, dynamic_scores, otsu_threshold
from stereo4d_plugins.masks.ego_flow import EgoFlow
from stereo4d_plugins.masks.heads import Heads
from stereo4d_plugins.masks.min_max import MinMax

from stereo4d.errors import PluginError, UsageError
from stereo4d.storage import save_arrays
from stereo4d.video.attention import AttentionScores, pair_scores
from stereo4d.video.clip import Clip
from stereo4d.video.flow import FlowPair, checked_both_ways
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.masks import MaskEvidence, MaskMaker, checked_masks, load_mask_maker
from tests.golden_numbers import drawn_network, small_config

GOLDEN = Path(__file__).parents[1] / "golden"


class Told(FlowCache):
    """Flow that is given, by pair of frames."""

    def __init__(self, flows: dict[tuple[int, int], np.ndarray]) -> None:
        self.flows = flows

    def between(self, first: int, second: int) -> FlowPair:
        return checked_both_ways(self.flows[first, second], self.flows[second, first])

    def keep_only(self, wanted) -> None:
        pass


class AllValid(Told):
    """Flow that is given and never doubted."""

    def between(self, first: int, second: int) -> FlowPair:
        found = super().between(first, second)
        return replace(found, valid0=np.ones_like(found.valid0), valid1=np.ones_like(found.valid1))


def clip_of(frames: int, height: int, width: int) -> Clip:
    rgb = np.zeros((frames, height, width, 3), np.uint8)
    sizes, maps = np.tile([height, width], (frames, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (frames, 1))
    return Clip(rgb, np.arange(float(frames)), np.arange(frames), sizes, maps)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "align_monst3r.npz"))


@pytest.fixture(scope="module")
def evidence(golden, tmp_path_factory) -> MaskEvidence:
    """Four frames of a moving ball, with the flow that the reference was given."""
    path = tmp_path_factory.mktemp("pairs") / "pairs-00000.safetensors"
    names = {"pointmap0": "pts3d_1", "pointmap1": "pts3d_2", "confidence0": "conf_1", "confidence1": "conf_2"}
    save_arrays(path, {"edges": golden["edges"], **{name: golden[other] for name, other in names.items()}})
    flows = {}
    for (i, j), there, back in zip(golden["edges"].tolist(), golden["flow_ij"], golden["flow_ji"], strict=True):
        flows.setdefault((i, j), there.transpose(1, 2, 0))
        flows.setdefault((j, i), back.transpose(1, 2, 0))
    return MaskEvidence(clip_of(4, 24, 32), (path,), Told(flows))


def test_the_stretched_rule_gives_the_masks_of_the_reference(golden, evidence):
    np.testing.assert_array_equal(MinMax().moving(evidence), golden["dynamic_masks"])


def test_ego_flow_finds_what_moves(golden, evidence):
    found, truth = EgoFlow(window=1).moving(evidence), golden["label"] == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.8


def still_world(golden, evidence: MaskEvidence) -> MaskEvidence:
    """The same with the flow of the cameras alone, and a little noise."""
    random = np.random.default_rng(0)
    flows = {}
    for (i, j), ego in zip(golden["edges"].tolist(), golden["ego_flow_ij"], strict=True):
        flows[i, j] = ego.transpose(1, 2, 0) + 0.05 * random.normal(size=(24, 32, 2)).astype(np.float32)
    return replace(evidence, flows=Told(flows))


def test_where_nothing_moves_the_threshold_in_pixels_finds_nothing_and_the_stretched_rule_something(golden, evidence):
    still = still_world(golden, evidence)
    assert EgoFlow().moving(still).mean() < 0.01
    assert MinMax().moving(still).mean() > 0.02


def test_noisy_flow_raises_the_threshold_and_does_not_fill_the_masks(golden, evidence):
    random = np.random.default_rng(1)
    noisy = {
        pair: flow + random.normal(size=flow.shape).astype(np.float32) for pair, flow in evidence.flows.flows.items()
    }

    found, truth = EgoFlow(window=1).moving(replace(evidence, flows=AllValid(noisy))), golden["label"] == 1
    assert found[~truth].mean() < 0.1


def test_flow_that_is_never_valid_moves_nothing(evidence):
    lost = {pair: np.full_like(flow, 1000.0) for pair, flow in evidence.flows.flows.items()}
    assert not EgoFlow().moving(replace(evidence, flows=Told(lost))).any()


def wall(folder: Path, partners: tuple[int, ...], object_speed: float, camera_speed: float) -> MaskEvidence:
    """A wall before which an object moves by so many pixels a frame; frame 0 has partners so many frames away."""
    height, width, frames = 48, 64, 1 + max(partners)
    v, u = np.mgrid[:height, :width]
    depth = np.where(u < width // 2, 4.0, 9.0)
    points = (np.stack([(u - 32) / 60, (v - 24) / 60, np.ones_like(depth)], -1) * depth[..., None]).astype(np.float32)
    edges = np.array([edge for far in partners for edge in ((0, far), (far, 0))])
    stack, sure = np.stack([points] * len(edges)), np.full((len(edges), height, width), 3.0, np.float32)
    arrays = {"pointmap0": stack, "pointmap1": stack, "confidence0": sure, "confidence1": sure}
    save_arrays(folder / "pairs-00000.safetensors", {"edges": edges, **arrays})
    flows = {}
    for far in partners:
        flow = np.zeros((height, width, 2), np.float32)
        flow[..., 0] = far * camera_speed / depth
        flow[16:32, 8:24, 1] = far * object_speed
        flows[0, far], flows[far, 0] = flow, -flow
    return MaskEvidence(clip_of(frames, height, width), (folder / "pairs-00000.safetensors",), AllValid(flows))


@pytest.mark.parametrize("camera_speed", [0.0, 6.0])
def test_partners_between_which_hardly_anything_moves_do_not_outvote_those_that_show_it(tmp_path, camera_speed):
    evidence = wall(tmp_path, (1, 2, 8), object_speed=0.22, camera_speed=camera_speed)
    found = EgoFlow().moving(evidence)[0]
    assert not found[:12].any()
    assert found[20:28, 12:20].all() == found[20:28, 12:20].any() == (camera_speed > 0)


def test_a_camera_that_stands_still_sees_what_moves(tmp_path):
    found = EgoFlow().moving(wall(tmp_path, (1, 2), object_speed=2.0, camera_speed=0.0))[0]
    assert found[20:28, 12:20].all()
    assert not found[:12].any()


def with_heads(folder: Path, **arrays: np.ndarray) -> MaskEvidence:
    points = np.zeros((2, 4, 6, 3), np.float32) + np.array([0, 0, 10], np.float32)
    plain = {
        "pointmap0": points,
        "pointmap1": points,
        "confidence0": np.full((2, 4, 6), 3.0),
        "confidence1": np.full((2, 4, 6), 3.0),
    }
    path = folder / "pairs-00000.safetensors"
    save_arrays(path, {"edges": np.array([[0, 1], [1, 0]]), **plain, **arrays})
    return MaskEvidence(clip_of(2, 4, 6), (path,), Told({}))


def test_displacements_of_a_motion_head_above_a_share_of_the_scene_move(tmp_path):
    moved = np.zeros((2, 2, 4, 6, 3), np.float32)
    moved[:, 1, :, :3, 0] = 0.5  # at the last time asked for: 5 % of the distance
    moved[:, 1, :, 3:, 0] = 0.1
    sure = np.ones((2, 2, 4, 6), np.float32)
    arrays = {f"motion/displacement{v}": moved for v in (0, 1)} | {f"motion/confidence{v}": sure for v in (0, 1)}
    found = Heads().moving(with_heads(tmp_path, **arrays))
    assert found[:, :, :3].all()
    assert not found[:, :, 3:].any()


def test_the_predictors_own_masks_come_first(tmp_path):
    moving = np.zeros((2, 4, 6), np.float32)
    moving[:, 0] = 1
    found = Heads().moving(with_heads(tmp_path, **{"dynamics/moving0": moving, "dynamics/moving1": moving}))
    assert found[:, 0].all()
    assert not found[:, 1:].any()


def test_ways_that_lack_what_they_need_say_so(tmp_path, evidence):
    with pytest.raises(UsageError, match="--mask-by heads: these pairs say nothing of motion"):
        Heads().moving(with_heads(tmp_path))
    with pytest.raises(UsageError, match="--mask-by attention: looks into the network"):
        Attention().moving(evidence)
    with pytest.raises(UsageError, match=r"--mask-by 'guess' is not installed; there are auto, .*ego-flow"):
        load_mask_maker("guess")
    with pytest.raises(PluginError, match=r"EgoFlow: masks are uint8 \(1, 2, 2\), must be bool \(1, 2, 3\)"):
        checked_masks(np.zeros((1, 2, 2), np.uint8), (1, 2, 3), EgoFlow())


def test_all_ways_load_by_name():
    assert all(isinstance(load_mask_maker(name), MaskMaker) for name in ("ego-flow", "min-max", "heads", "attention"))


def test_otsu_cuts_below_the_highest_of_three_heaps():
    random = np.random.default_rng(0)
    heaps = np.concatenate([random.normal(mean, 0.01, 500) for mean in (0.1, 0.3, 0.9)])
    assert 0.32 < otsu_threshold(heaps) < 0.85


def test_what_the_other_view_looks_at_unevenly_moves():
    quiet, loud = torch.full((2, 3, 8), 0.1), torch.full((2, 3, 8), 0.1)
    loud[:, :, 5] = 1.0
    scores = AttentionScores(1.1 - loud, loud, loud, 1.1 - loud, torch.zeros(2, 8, 4), (2, 4))
    found = dynamic_scores(scores)
    assert found.argmax(1).tolist() == [5, 5]
    assert found[:, :5].max() < 0.1
    still = AttentionScores(quiet, quiet, quiet, quiet, torch.zeros(2, 8, 4), (2, 4))
    assert torch.isfinite(dynamic_scores(still)).all()


def test_scores_are_the_means_of_the_decoders_logits_over_the_queries():
    network = drawn_network(small_config("linear"))
    with torch.inference_mode():
        views = [network.encode(torch.rand(1, 3, 32, 48) * 2 - 1) for _ in range(2)]
        of_view1, of_view0 = pair_scores(network, *views)
        first = [network.decoder_embed(view.tokens) for view in views]
        logits = network.dec_blocks2[0].cross_logits(first[1], first[0], views[1].positions, views[0].positions)
    layers, heads = network.config.dec_depth, network.config.dec_num_heads
    assert of_view1.shape == of_view0.shape == (layers * heads, 6)
    torch.testing.assert_close(of_view0[:heads], logits[0].mean(1), rtol=1e-4, atol=1e-5)
