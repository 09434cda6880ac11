"""Pixels of two images that are each other's nearest."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from stereo4d.downstream import nearest
from stereo4d.downstream.matching import (
    Matches,
    fast_reciprocal_matches,
    match_pair,
    matching_points,
    reciprocal_matches,
)
from stereo4d.errors import ShapeError, UsageError
from stereo4d.types import PairPrediction, PixelMap

GOLDEN = Path(__file__).parents[1] / "golden"
MATCHERS = pytest.mark.parametrize("match", [reciprocal_matches, fast_reciprocal_matches, matching_points])
Pair = tuple[float, float, float, float]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Features of unit length."""
    return functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """Features of unit length that change slowly, as those of images do."""
    coarse = torch.randn(1, 12, 5, 6, generator=torch.Generator().manual_seed(seed))
    fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]
    return functional.normalize(fine.movedim(0, -1), dim=-1)


def as_set(matches: Matches) -> set[Pair]:
    """Of (x0, y0, x1, y1); no pair may be there twice."""
    rows = np.concatenate([matches.pixels0, matches.pixels1], axis=1).tolist()
    found = {tuple(row) for row in rows}
    assert len(found) == len(matches) == len(matches.score)
    return found


def brute_force(features0: Tensor, features1: Tensor) -> set[Pair]:
    products = (features0.flatten(0, 1) @ features1.flatten(0, 1).T).numpy()
    forth, back = products.argmax(1), products.argmax(0)
    width0, width1 = features0.shape[1], features1.shape[1]
    return {(i % width0, i // width0, j % width1, j // width1) for i, j in enumerate(forth) if back[j] == i}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "ROWS", 7)
    monkeypatch.setattr(nearest, "COLUMNS", 5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("make", [noise, smooth], ids=["noise", "smooth"])
def test_exactly_the_mutual_nearest_are_found_however_the_work_is_cut(make: object) -> None:
    features0 = noise(9, 11, 6) if make is noise else smooth(9, 11)
    features1 = noise(8, 13, 6, seed=1) if make is noise else smooth(8, 13, seed=1)
    found = reciprocal_matches(features0, features1)
    assert as_set(found) == brute_force(features0, features1)
    assert 5 < len(found) < 99
    x0, y0 = found.pixels0.T.astype(int)
    x1, y1 = found.pixels1.T.astype(int)
    assert found.score == pytest.approx((features0[y0, x0] * features1[y1, x1]).sum(-1).numpy(), abs=1e-6)
    assert (np.diff(y0 * 11 + x0) > 0).all()  # in reading order


@pytest.mark.usefixtures("small_blocks")
def test_of_equal_features_the_first_are_matched() -> None:
    features = torch.ones(4, 6, 3)
    assert as_set(reciprocal_matches(features, features)) == {(0, 0, 0, 0)}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("match", [reciprocal_matches, partial(reciprocal_matches, tolerance=2.5), matching_points])
def test_swapping_the_images_swaps_the_matches(match: object) -> None:
    features0, features1 = smooth(9, 11), smooth(8, 13, seed=1)
    if match is matching_points:
        features0, features1 = features0[..., :3], features1[..., :3]
    forth, back = match(features0, features1), match(features1, features0)  # type: ignore[operator]
    assert as_set(forth) == {(x0, y0, x1, y1) for x1, y1, x0, y0 in as_set(back)}
    assert sorted(forth.score) == pytest.approx(sorted(back.score), abs=1e-6)


@MATCHERS
def test_shuffled_pixels_are_all_found_again(match: object) -> None:
    features = noise(12, 16, 3)
    order = torch.randperm(12 * 16, generator=torch.Generator().manual_seed(2))
    shuffled = features.flatten(0, 1)[order].view(16, 12, 3)  # another shape, too
    options = {"stride": 1} if match is fast_reciprocal_matches else {}
    found = match(features, shuffled, **options)  # type: ignore[operator]
    assert len(found) == 12 * 16
    went = dict(zip(order.tolist(), range(12 * 16), strict=True))
    assert as_set(found) == {(i % 16, i // 16, j % 12, j // 12) for i, j in went.items()}
    assert found.score == pytest.approx(np.full(192, 0.0 if match is matching_points else 1.0), abs=1e-6)


def test_a_moved_image_is_matched_where_it_moved_to() -> None:
    world = smooth(40, 60)
    found = reciprocal_matches(world[:30, :40], world[10:, 20:])
    inner = (found.pixels0 >= (20, 10)).all(1)
    assert inner.sum() == 20 * 20
    assert (found.pixels0[inner] - found.pixels1[inner] == (20, 10)).all()


def test_fast_matches_are_mutual_ones_and_there_are_more_of_them_on_a_finer_grid() -> None:
    features0, features1 = smooth(40, 60), smooth(36, 64, seed=1)
    exact = as_set(reciprocal_matches(features0, features1))
    fast = {stride: as_set(fast_reciprocal_matches(features0, features1, stride=stride)) for stride in (1, 4, 8)}
    assert fast[8] <= exact
    assert fast[4] <= exact
    assert 0 < len(fast[8]) < len(fast[4]) < len(fast[1])
    assert fast[1] == exact  # from everywhere


def test_ways_that_have_not_ended_are_given_up() -> None:
    features0, features1 = smooth(40, 60), smooth(36, 64, seed=1)
    found = [len(fast_reciprocal_matches(features0, features1, stride=4, rounds=rounds)) for rounds in (1, 3, 16, 17)]
    assert found[0] < found[1] <= found[2] == found[3]


def test_a_tolerance_lets_pixels_match_that_come_back_nearby() -> None:
    features0, features1 = smooth(12, 16), smooth(10, 20, seed=1)
    exact, near = (as_set(reciprocal_matches(features0, features1, tolerance=t)) for t in (0.0, 1.5))
    everything = as_set(reciprocal_matches(features0, features1, tolerance=100))
    assert exact < near < everything
    assert {pair[:2] for pair in everything} == {(x, y) for x in range(16) for y in range(12)}


@MATCHERS
def test_pixels_that_take_no_part_are_as_if_they_were_not_there(match: object) -> None:
    features0, features1 = noise(8, 10, 3), noise(9, 7, 3, seed=1)
    usable0, usable1 = torch.zeros(8, 10, dtype=torch.bool), torch.zeros(9, 7, dtype=torch.bool)
    usable0[2:7, 3:9], usable1[1:8, 2:6] = True, True
    features0[~usable0] = torch.nan
    options = {"stride": 1} if match is fast_reciprocal_matches else {}
    found = match(features0, features1, usable0, usable1, **options)  # type: ignore[operator]
    cut = match(features0[2:7, 3:9], features1[1:8, 2:6], **options)  # type: ignore[operator]
    assert as_set(found) == {(x0 + 3, y0 + 2, x1 + 2, y1 + 1) for x0, y0, x1, y1 in as_set(cut)}
    assert len(found) > 3


@MATCHERS
@pytest.mark.parametrize("empty", [0, 1])
def test_where_nothing_takes_part_nothing_matches(match: object, empty: int) -> None:
    usable = [torch.ones(4, 5, dtype=torch.bool), torch.ones(4, 5, dtype=torch.bool)]
    usable[empty][:] = False
    found = match(noise(4, 5, 3), noise(4, 5, 3), *usable)  # type: ignore[operator]
    assert (found.pixels0.shape, found.pixels1.shape, found.score.shape) == ((0, 2), (0, 2), (0,))
    assert found.to_original(PixelMap(2, 2), PixelMap()).pixels0.shape == (0, 2)


@MATCHERS
def test_what_cannot_be_matched_is_refused(match: object) -> None:
    good, bad = noise(4, 5, 3), noise(4, 5, 3)
    bad[1, 2, 0], bad[3, 3, 1] = torch.nan, torch.inf
    with pytest.raises(UsageError, match=r"2 of 20 usable pixels of view 1 .* not finite; leave them out with usable1"):
        match(good, bad)  # type: ignore[operator]
    with pytest.raises(ShapeError, match=r"\(4, 5, 3\) and \(4, 5, 2\)"):
        match(good, good[..., :2])  # type: ignore[operator]
    with pytest.raises(ShapeError, match=r"usable0 \(5, 4\) torch.bool must be \(4, 5\) bool"):
        match(good, good, torch.ones(5, 4, dtype=torch.bool))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        (partial(reciprocal_matches, tolerance=-1), "tolerance -1"),
        (partial(matching_points, tolerance=-1), "tolerance -1"),
        (partial(fast_reciprocal_matches, stride=0), "stride 0"),
        (partial(fast_reciprocal_matches, rounds=0), "rounds 0"),
    ],
)
def test_options_that_mean_nothing_are_named(match: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        match(noise(4, 5, 3), noise(4, 5, 3))  # type: ignore[operator]


def test_half_precision_and_inference_tensors_are_matched_as_their_float32_values_are() -> None:
    with torch.inference_mode():
        features0, features1 = noise(9, 11, 6).half(), noise(8, 13, 6, seed=1).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = reciprocal_matches(features0, features1)
    assert as_set(found) == brute_force(features0.float(), features1.float())


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor holds that is made inside."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        tensors = [value for value in pytree.tree_leaves(made) if isinstance(value, Tensor)]
        self.numbers = max([self.numbers, *(value.numel() for value in tensors)])
        return made


@pytest.mark.parametrize("match", [reciprocal_matches, fast_reciprocal_matches])
def test_memory_grows_with_the_pixels_and_not_with_their_pairs(match: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "ROWS", 64)
    monkeypatch.setattr(nearest, "COLUMNS", 128)
    features0, features1 = smooth(40, 60), smooth(36, 64, seed=1)
    with Largest() as largest:
        assert len(match(features0, features1)) > 9  # type: ignore[operator]
    assert largest.numbers == features0.numel()  # 5.5 million are the products of all pairs


@pytest.mark.parametrize(("case", "confidence"), [("rnn", 0.0), ("rnn_conf3", 3.0)])
def test_points_match_as_in_the_reference(case: str, confidence: float) -> None:
    scene, golden = np.load(GOLDEN / "align_scene.npz"), np.load(GOLDEN / "align_misc.npz")
    (edge,) = np.flatnonzero((scene["edges"] == (0, 1)).all(1))
    names = ("pts3d_1", "conf_1", "pts3d_2", "conf_2")
    prediction = PairPrediction(*(torch.from_numpy(scene[name]) for name in names))
    found = match_pair(prediction, int(edge), minimum_confidence=confidence)
    # the reference counts the points that are confident enough
    used0, used1 = (np.flatnonzero(scene[name][edge].ravel() >= confidence) for name in ("conf_1", "conf_2"))
    kept = golden[f"{case}_reciprocal_in_P2"]
    first, second = used0[golden[f"{case}_nn2_in_P1"][kept]], used1[kept]
    assert as_set(found) == {(i % 32, i // 32, j % 32, j // 32) for i, j in zip(first, second, strict=True)}
    said = json.loads((GOLDEN / "align_misc.json").read_text())[case]
    assert len(found) == said["n_matches"] == (270 if confidence else 465)
    assert confidence == 0 or (len(used0), len(used1)) == (said["n1"], said["n2"]) == (557, 471)


def described_pair() -> PairPrediction:
    """Two pairs; in the second, descriptors say one thing (a move by 3 pixels) and points another."""
    world = smooth(12, 19)
    maps = {"descriptors0": world[:, :16], "descriptors1": world[:, 3:]}
    maps = {name: torch.stack([noise(12, 16, 12, seed=5), value]) for name, value in maps.items()}
    maps |= {f"descriptor_confidence{view}": torch.full((2, 12, 16), 0.5) for view in (0, 1)}
    maps["descriptor_confidence0"][:, :, :8] = 2.0
    points, confidence = noise(2, 12, 16, 3), torch.full((2, 12, 16), 1.5)
    return PairPrediction(points, confidence, points.flip(2), confidence, {"descriptors": maps})


def test_a_pair_is_matched_by_descriptors_where_there_are_any_else_by_points() -> None:
    prediction = described_pair()
    found = match_pair(prediction, 1)
    inner = found.pixels0[:, 0] >= 3
    assert inner.sum() == 12 * 13
    assert (found.pixels0[inner] - found.pixels1[inner] == (3, 0)).all()
    plain = PairPrediction(*[prediction.pointmap0, prediction.confidence0] * 2)
    assert as_set(match_pair(plain, 1)) == {(x, y, x, y) for x in range(16) for y in range(12)}


def test_a_pair_is_matched_only_where_it_is_confident_and_inside_the_border() -> None:
    found = match_pair(described_pair(), 1, border=2)
    # what shows the same lies three pixels further left in image 1
    assert found.pixels0.min(0).tolist() == [5, 2]
    assert found.pixels0.max(0).tolist() == [13, 9]
    assert found.pixels1.min(0).tolist() == [2, 2]
    assert found.pixels1.max(0).tolist() == [10, 9]
    assert len(match_pair(described_pair(), 1, minimum_confidence=1)) == 0
    prediction = described_pair()
    prediction.extras["descriptors"]["descriptor_confidence1"][:] = 2.0
    found = match_pair(prediction, 1, minimum_confidence=1)
    assert found.pixels0.max(0).tolist() == [7, 11]
    assert len(match_pair(prediction, 1, border=7)) == 0


def test_a_pair_can_be_matched_faster() -> None:
    sparse = partial(fast_reciprocal_matches, stride=4)
    few = as_set(match_pair(described_pair(), 1, descriptor_matcher=sparse))
    assert 0 < len(few) <= 12
    assert few < as_set(match_pair(described_pair(), 1))


@pytest.mark.parametrize(("options", "reason"), [({"pair": 2}, "pairs 0 to 1"), ({"border": -1}, "border -1")])
def test_a_pair_that_is_not_there_is_named(options: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        match_pair(described_pair(), **options)


def test_matches_are_brought_to_the_original_images() -> None:
    matches = Matches(np.float32([[1, 2]]), np.float32([[3, 4]]), np.float32([0.5]))
    found = matches.to_original(PixelMap(2, 3, 0.5, 1.0), PixelMap(1, 1, 10, 20))
    assert found.pixels0.tolist() == [[2.5, 7]]
    assert found.pixels1.tolist() == [[13, 24]]
    assert found.pixels0.dtype == np.float32
