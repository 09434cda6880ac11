"""The classical predictor from end to end: real geometry where a clip shows it, honesty where it does not."""

import cv2
import numpy as np
import pytest
import torch
from stereo4d_plugins.predictors.classical.predictor import ClassicalClip, ClassicalPredictor

from stereo4d import registry
from stereo4d.geometry.pointmap import estimate_focal
from stereo4d.video.pair_graph import both_ways, pair_graph
from stereo4d.video.predictor import ClipPredictor
from tests.predictors.pairs_clips import clip_of, true_clip

FRAMES, HEIGHT, WIDTH = 7, 160, 256
GRAPH = "swin-2-noncyclic"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return true_clip(folder, seed=2, frames=FRAMES, height=HEIGHT, width=WIDTH, camera_travel=(0.3, 0.6))


def predict_all(opened, edges, batch=4):
    batches = [opened.predict(edges[start : start + batch]) for start in range(0, len(edges), batch)]
    names = ("pointmap0", "confidence0", "pointmap1", "confidence1")
    return [torch.cat([getattr(prediction, name) for prediction in batches]) for name in names]


@pytest.fixture(scope="module")
def predicted(clip):
    edges = pair_graph(GRAPH, FRAMES)
    opened = ClassicalClip(clip.clip, edges, clip.calibration)
    return edges, predict_all(opened, edges), opened


def test_it_comes_in_through_its_entry_point():
    assert registry.load("stereo4d.predictors", "classical") is ClassicalPredictor


def test_pointmaps_of_both_views_are_in_the_camera_of_view_0(clip, predicted):
    edges, (points0, confidence0, points1, confidence1), _ = predicted
    truth = clip.truth.clip
    for index, (first, second) in enumerate(edges):
        world2cam = np.linalg.inv(truth.cam2world[first])
        for frame, points, confidence in ((first, points0, confidence0), (second, points1, confidence1)):
            world = clip.truth.positions(frame, float(truth.times[frame]))
            true = world @ world2cam[:3, :3].T + world2cam[:3, 3]
            sure = confidence[index].numpy() > 4
            gap = np.linalg.norm(points[index].numpy() - true, axis=-1) / np.linalg.norm(true, axis=-1)
            assert sure.mean() > 0.1
            assert np.median(gap[sure]) < 0.03


def test_predictions_keep_the_contract(predicted):
    edges, maps, _ = predicted
    for values, shape in zip(maps, [(3,), (), (3,), ()], strict=True):
        assert values.shape == (len(edges), HEIGHT, WIDTH, *shape)
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert (maps[1] > 1).all()
    assert (maps[3] > 1).all()
    assert (maps[0][..., 2] > 0).all()


def test_the_focal_of_a_pointmap_is_that_of_the_clip(clip, predicted):
    focal = estimate_focal(predicted[1][0][:1], principal_point=(WIDTH / 2, HEIGHT / 2))
    assert float(focal) == pytest.approx(clip.calibration.focal, rel=1e-3)


def test_flow_is_found_once_for_both_directions_and_all_is_let_go(predicted):
    edges, _, opened = predicted
    depths = opened._depths
    assert depths._flows.found >= len(edges) / 2
    assert depths._flows.found <= len(edges) / 2 + 3 * FRAMES
    assert not depths._flows._held
    assert not depths._frames
    assert not depths._greys


def test_without_a_camera_path_a_pair_finds_its_own_pose(clip):
    calibration = clip.calibration
    lost = type(calibration)(**{**vars(calibration), "camera_known": np.zeros(FRAMES, bool)})
    edges = both_ways([(0, 3)])
    opened = ClassicalClip(clip.clip, edges, lost)
    points0, confidence0, points1, confidence1 = predict_all(opened, edges)
    assert any("pose of its own" in remark for remark in opened.remarks())
    truth = clip.truth.clip
    sure = confidence0[0].numpy() > 3
    ratio = points0[0, ..., 2].numpy()[sure] / truth.depth[0][sure]
    assert sure.mean() > 0.2
    # any scale, but one
    assert np.quantile(np.abs(ratio / np.median(ratio) - 1), 0.5) < 0.03
    world = clip.truth.positions(3, float(truth.times[3]))
    world2cam = np.linalg.inv(truth.cam2world[0])
    true1 = world @ world2cam[:3, :3].T + world2cam[:3, 3]
    sure1 = confidence1[0].numpy() > 3
    gap = np.linalg.norm(points1[0].numpy() / np.median(ratio) - true1, axis=-1) / np.linalg.norm(true1, axis=-1)
    assert np.median(gap[sure1]) < 0.05
    # The other direction is the same pair seen from the other camera.
    torch.testing.assert_close(confidence0[0], confidence1[1])
    torch.testing.assert_close(confidence1[0], confidence0[1])


def test_small_motion_is_triangulated_with_frames_further_away(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    frames, still = 24, {"moving_share": 0.0, "target_travel": 0.1}
    slow = true_clip(folder, seed=5, frames=frames, height=96, width=160, camera_travel=(0.25, 0.3), **still)
    edges = pair_graph("swin-1-noncyclic", frames)
    opened = ClassicalClip(slow.clip, edges, slow.calibration)
    assert max(abs(one - 12) for one in opened._depths._partners[12]) > 3
    depth = opened._depths.pair((12, 12))[0]
    neighbours = ClassicalClip(slow.clip, edges, slow.calibration)
    neighbours._depths._partners = {frame: (frame - 1, frame + 1) for frame in range(1, frames - 1)}
    near = neighbours._depths.pair((12, 12))[0]
    true = slow.truth.clip.depth[12]
    error, near_error = (np.abs(1 / one.inverse_depth / true - 1) for one in (depth, near))
    assert np.median(error) < 0.6 * np.median(near_error)
    assert depth.confidence.mean() > 1.5 * near.confidence.mean()


def noise(generator, shape):
    return generator.integers(0, 256, shape, dtype=np.uint8)


def textured(generator, height=96, width=144):
    coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def zoomed(image, factor):
    height, width = image.shape[:2]
    matrix = np.array([[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2]])
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


BAD = {
    "black": lambda g: np.zeros((6, 96, 144, 3), np.uint8),
    "white": lambda g: np.full((6, 96, 144, 3), 255, np.uint8),
    "no texture": lambda g: (128 + g.normal(0, 2, (6, 96, 144, 3))).astype(np.uint8),
    "one frame repeated": lambda g: np.repeat(textured(g)[None], 6, 0),
    "noise": lambda g: noise(g, (6, 96, 144, 3)),
    "extreme zoom": lambda g: np.stack([zoomed(image, 1.5**i) for image in [textured(g)] for i in range(6)]),
    "unrelated images": lambda g: np.stack([textured(g) for _ in range(6)]),
    "two frames": lambda g: np.repeat(textured(g)[None], 2, 0),
    "one frame": lambda g: textured(g)[None],
    "black in between": lambda g: np.stack([image * (i != 3) for image in [textured(g)] for i in range(6)]),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gives_low_confidence_and_a_sentence(kind):
    rgb = BAD[kind](np.random.default_rng(0))
    edges = pair_graph("swin-2-noncyclic", len(rgb))
    opened = ClassicalPredictor().open(clip_of(rgb), edges)
    assert isinstance(opened, ClipPredictor)
    points0, confidence0, points1, confidence1 = predict_all(opened, edges)
    for points in (points0, points1):
        assert torch.isfinite(points).all()
        assert points.abs().max() < 1e6
    for confidence in (confidence0, confidence1):
        assert (confidence > 1).all()
        assert confidence.mean() < 1.5
    assert opened.remarks()


def test_a_frame_lost_to_motion_blur_loses_confidence_and_leaves_the_others_theirs(clip):
    rgb = clip.clip.rgb.copy()
    rgb[3] = cv2.blur(rgb[3], (61, 9))
    edges = pair_graph(GRAPH, FRAMES)
    opened = ClassicalPredictor().open(clip_of(rgb), edges, intrinsics=clip.calibration.intrinsics)
    maps = predict_all(opened, edges)
    assert all(torch.isfinite(values).all() for values in maps)
    mean = {edge[0]: float(maps[1][index].mean()) for index, edge in enumerate(edges) if edge[1] != 3}
    assert mean[3] < 0.4 * np.mean([mean[frame] for frame in (1, 2, 4, 5)])
    assert np.mean([mean[frame] for frame in (1, 2, 4, 5)]) > 3
    assert any("could not be placed" in remark for remark in opened.remarks())


def test_a_camera_that_only_turns_gets_its_rotation_and_no_depth():
    generator = np.random.default_rng(0)
    height, width, frames, step = 120, 160, 6, np.radians(1.5)
    intrinsics = np.array([[150, 0, width / 2], [0, 150, height / 2], [0, 0, 1.0]])
    far = cv2.GaussianBlur(textured(generator, 320, 480), (0, 0), 1.5)
    centre = np.array([[150, 0, 240], [0, 150, 160], [0, 0, 1.0]])
    turns = [np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]]) for a in step * np.arange(6)]
    maps = [intrinsics @ turn @ np.linalg.inv(centre) for turn in turns]
    rgb = np.stack([cv2.warpPerspective(far, one, (width, height)) for one in maps])
    edges = pair_graph("swin-2-noncyclic", frames)
    opened = ClassicalPredictor().open(clip_of(rgb), edges, intrinsics=np.repeat(intrinsics[None], frames, 0))
    points0, confidence0, points1, _ = predict_all(opened, edges)
    assert opened.remarks()
    assert confidence0.mean() < 1.5
    # All points lie on one sphere, and turning carries those of view 1 onto those of view 0.
    torch.testing.assert_close(points0.norm(dim=-1), torch.ones(points0.shape[:3]))
    torch.testing.assert_close(points1.norm(dim=-1), torch.ones(points1.shape[:3]))
    index = edges.index((1, 3))
    centre1 = points1[index, height // 2, width // 2]
    assert float(torch.atan2(centre1[0], centre1[2])) == pytest.approx(2 * step, abs=0.1 * step)


def test_people_before_a_tripod_are_never_confident():
    generator = np.random.default_rng(0)
    background, walker = textured(generator), textured(generator, 48, 24)
    rgb = np.repeat(background[None], 6, 0)
    for index, image in enumerate(rgb):
        image[30:78, 20 + 8 * index : 44 + 8 * index] = walker
    edges = pair_graph("swin-2-noncyclic", 6)
    opened = ClassicalPredictor().open(clip_of(rgb), edges)
    maps = predict_all(opened, edges)
    assert all(torch.isfinite(values).all() for values in maps)
    assert maps[1].max() < 1.5
    assert maps[3].max() < 1.5
    assert opened.remarks()


def test_the_same_seed_predicts_the_same(clip):
    edges = both_ways([(0, 1), (1, 2)])
    known = clip.calibration.intrinsics
    first, second = (
        predict_all(ClassicalPredictor().open(clip.clip, edges, intrinsics=known, seed=1), edges) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
