"""Descriptors are trained by the reference's numbers, on pixels drawn the same way whatever the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from stereo4d_heads.correspondences import PixelDraw, PixelPairs, reciprocal_pixels
from stereo4d_heads.descriptor_objective import (
    AmongAll,
    BothWays,
    Contrast,
    DescriptorMatching,
    EachWay,
    MeanConfidence,
    ProductConfidence,
    match_figures,
)
from stereo4d_heads.pointmap_descriptor import DescriptorHead
from torch import Tensor

from stereo4d.errors import UsageError
from stereo4d.network.head import BackboneDims
from stereo4d.types import PairPrediction
from tests.golden_numbers import load

SIZE = (6, 8)
CONTRASTS = {"proper": EachWay(), "dual": BothWays(), "all": AmongAll()}


@dataclass(frozen=True)
class Matches:
    match0: Tensor
    match1: Tensor


def golden(name: str) -> Tensor:
    return torch.from_numpy(load("losses")[name])


def pixels() -> Tensor:
    v, u = torch.meshgrid(torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float(), indexing="ij")
    return torch.stack([u, v], -1)


def shifted(by: float) -> tuple[Tensor, Tensor]:
    """View 1 shows what view 0 does, ``by`` pixels further left."""
    there, back = pixels() - torch.tensor([by, 0.0]), pixels() + torch.tensor([by, 0.0])
    there[there[..., 0] < -0.49] = torch.nan
    back[back[..., 0] > SIZE[1] - 0.51] = torch.nan
    return there, back


def truth(*shifts: float) -> Matches:
    maps = [shifted(by) for by in shifts]
    return Matches(torch.stack([there for there, _ in maps]), torch.stack([back for _, back in maps]))


def drawn_prediction(batch: int, *, name: str = "descriptors", seed: int = 0) -> PairPrediction:
    generator = torch.Generator().manual_seed(seed)
    maps = {}
    for view in (0, 1):
        vectors = torch.randn(batch, *SIZE, 5, generator=generator)
        maps[f"descriptors{view}"] = (vectors / vectors.norm(dim=-1, keepdim=True)).requires_grad_()
        maps[f"descriptor_confidence{view}"] = torch.randn(batch, *SIZE, generator=generator).exp().requires_grad_()
    points = torch.zeros(batch, *SIZE, 3)
    return PairPrediction(points, points[..., 0], points, points[..., 0], {name: maps})


@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_equal_the_reference(name: str) -> None:
    valid = golden("nce_valid")
    found = [CONTRASTS[name](golden("nce_desc1")[b], golden("nce_desc2")[b], valid[b]) for b in (0, 1)]
    torch.testing.assert_close(torch.cat(found), golden(f"nce_{name}_T0.05"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("contrast", CONTRASTS.values(), ids=CONTRASTS)
def test_random_pixels_have_no_loss_but_make_that_of_matches_larger(contrast: Contrast) -> None:
    features0, features1 = golden("nce_desc1")[0], golden("nce_desc2")[0]
    same = torch.arange(10) < 6
    among_all, alone = contrast(features0, features1, same), contrast(features0[:6], features1[:6], same[:6])
    assert among_all.shape == (6,)
    assert (among_all > alone).any()
    assert (among_all >= alone - 1e-6).all()


@pytest.mark.parametrize("contrast", [EachWay(1e-4), BothWays(1e-4), AmongAll(1e-4)], ids=CONTRASTS)
def test_contrasts_stay_finite_where_exponentials_do_not(contrast: Contrast) -> None:
    features0 = golden("nce_desc1")[0].clone().requires_grad_()  # similarities of 10^4: e to that has no float
    found = contrast(features0, golden("nce_desc2")[0], golden("nce_valid")[0])
    found.sum().backward()
    assert found.isfinite().all()
    assert features0.grad is not None
    assert features0.grad.isfinite().all()


def test_autocast_does_not_touch_similarities() -> None:
    features = golden("nce_desc1")[0], golden("nce_desc2")[0], golden("nce_valid")[0]
    exact = EachWay()(*features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(EachWay()(*features), exact)


def test_hopeless_matches_cost_a_limited_amount() -> None:
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    twisted = opposite.flip(0)
    both = torch.ones(2, dtype=torch.bool)
    limit = -torch.tensor(1e-8).log()
    torch.testing.assert_close(EachWay(0.05)(opposite, twisted, both), (2 * limit).expand(2))
    torch.testing.assert_close(BothWays(0.05)(opposite, twisted, both), limit.expand(2))


def test_reciprocal_pixels_are_each_others_nearest() -> None:
    pixel0, pixel1 = reciprocal_pixels(*shifted(2.3))
    rows, columns = pixel0 // 8, pixel0 % 8
    assert len(pixel0) == 6 * 6
    assert torch.equal(rows, pixel1 // 8)
    assert torch.equal(columns - 2, pixel1 % 8)


def test_a_pixel_that_another_surface_answers_is_no_match() -> None:
    match0, match1 = shifted(0)
    match0[2, 3] = torch.tensor([5.0, 2.0])  # claims a pixel that looks back at its own place
    match0[1, 0] = torch.tensor([8.0, 0.0])  # outside, though counted on it would be its own place
    match1[4, 4] = torch.nan
    pixel0, pixel1 = reciprocal_pixels(match0, match1)
    missing = {2 * 8 + 3, 8, 4 * 8 + 4}
    assert set(pixel0.tolist()) == set(range(48)) - missing
    assert torch.equal(pixel0, pixel1)


def test_half_of_the_pixels_are_random_ones_without_a_match_each_drawn_once() -> None:
    drawn = PixelDraw(16)(*shifted(3))
    assert int(drawn.same.sum()) == 8
    assert len(drawn.same) == 16
    assert len(set(drawn.pixel0.tolist())) == len(set(drawn.pixel1.tolist())) == 16
    gap = drawn.pixel0 - drawn.pixel1
    assert (gap[drawn.same] == 3).all()
    assert (drawn.pixel0[~drawn.same] % 8 < 3).all()  # what leaves view 1 on its left
    assert (drawn.pixel1[~drawn.same] % 8 > 4).all()


def test_few_matches_are_filled_up_and_few_pixels_are_all_that_is_drawn() -> None:
    few = PixelDraw(40, 0.1)(*shifted(6))  # 12 matches, 36 pixels without
    assert (int(few.same.sum()), len(few.same)) == (12, 40)
    everything = PixelDraw(1000)(*shifted(0))
    assert everything.same.all()
    assert sorted(everything.pixel0.tolist()) == list(range(48))


def test_the_draw_follows_from_the_pair_alone() -> None:
    def drawn() -> list[list[int]]:
        pairs: PixelPairs = PixelDraw(10)(*shifted(1))
        return [pairs.pixel0.tolist(), pairs.pixel1.tolist(), pairs.same.tolist()]

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert drawn() == first
    assert torch.equal(torch.get_rng_state(), before)
    other = PixelDraw(10)(*shifted(2))
    assert other.pixel0.tolist() != first[0]


def test_the_loss_is_the_weighted_mean_over_all_matches_of_the_batch() -> None:
    prediction, matches = drawn_prediction(2), truth(0, 5)
    objective = DescriptorMatching(contrast=EachWay(0.5), draw=PixelDraw(48, 0.0))  # no match is hopeless
    maps, total, count = prediction.extras["descriptors"], torch.zeros(()), 0
    for pair, by in enumerate((0, 5)):
        # drawn are all matches, filled up with pixels without: here simply all pixels, matches aligned by hand
        pixel0, pixel1 = (maps[f"descriptors{view}"][pair].detach() for view in (0, 1))
        sure0, sure1 = (maps[f"descriptor_confidence{view}"][pair].detach() for view in (0, 1))
        pixel0, sure0 = pixel0.roll(-by, 1).flatten(0, 1), sure0.roll(-by, 1).flatten()
        same = (torch.arange(8) + by < 8).expand(6, 8).flatten()
        logits = pixel0 @ pixel1.flatten(0, 1).T / 0.5
        loss = -(logits.softmax(0).diagonal().log() + logits.softmax(1).diagonal().log())
        sure = (sure0 + sure1.flatten()) / 2
        total = total + (sure * loss - 10 * sure.log())[same].sum()
        count += int(same.sum())
    value = objective(prediction, matches)
    torch.testing.assert_close(value.total.detach(), total / count)
    value.total.backward()
    gradient = maps["descriptors0"].grad
    assert gradient is not None
    assert gradient[1][:, :5].any(), "pixels without a match are told apart from matches"


def test_blocks_are_told_apart_among_themselves() -> None:
    prediction, matches = drawn_prediction(1), truth(0)
    whole, halves = (DescriptorMatching(draw=PixelDraw(48, 0.0), block=block) for block in (48, 24))
    single = DescriptorMatching(draw=PixelDraw(48, 0.0), block=1)
    figures = [objective(prediction, matches).parts["descriptors_match_loss"] for objective in (whole, halves, single)]
    assert figures[0] > figures[1] > figures[2]
    assert float(figures[2]) == pytest.approx(0, abs=1e-6)


def test_pairs_without_matches_cost_nothing_and_can_still_be_differentiated() -> None:
    prediction = drawn_prediction(2)
    nowhere = torch.full((2, *SIZE, 2), torch.nan)
    value = DescriptorMatching()(prediction, Matches(nowhere, nowhere))
    assert value.total.item() == 0
    value.total.backward()
    assert not prediction.extras["descriptors"]["descriptors0"].grad.any()  # type: ignore[union-attr]
    figures = match_figures(prediction, Matches(nowhere, nowhere), "descriptors")
    assert figures["match_first"].isnan().all()


def test_a_confidence_that_underflows_leaves_the_loss_finite() -> None:
    prediction = drawn_prediction(1)
    maps = dict(prediction.extras["descriptors"])
    raw = torch.full((1, *SIZE), -200.0, requires_grad=True)
    maps |= {"descriptor_confidence0": raw.exp(), "descriptor_confidence1": raw.exp()}
    total = DescriptorMatching()(replace(prediction, extras={"descriptors": maps}), truth(0)).total
    total.backward()
    assert total.isfinite()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_two_confidences_become_one() -> None:
    sure0, sure1 = torch.tensor([1.0, 4.0]), torch.tensor([3.0, 0.5])
    assert MeanConfidence()(sure0, sure1).tolist() == [2.0, 2.25]
    assert ProductConfidence()(sure0, sure1).tolist() == [3.0, 2.0]


def test_figures_tell_right_descriptors_from_wrong_and_from_equal_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.randn(1, *SIZE, 16, generator=generator)
    scene = scene / scene.norm(dim=-1, keepdim=True)
    sure = torch.ones(1, *SIZE)
    points = torch.zeros(1, *SIZE, 3)

    def figures(view0: Tensor, view1: Tensor) -> tuple[float, float]:
        maps = {"descriptors0": view0, "descriptors1": view1}
        maps |= {"descriptor_confidence0": sure, "descriptor_confidence1": sure}
        said = PairPrediction(points, sure, points, sure, {"desc": maps})
        found = match_figures(said, truth(2), "desc")
        return found["match_first"].item(), found["match_precision"].item()

    assert figures(scene, scene.roll(-2, 2)) == (1.0, 1.0)
    assert figures(scene, scene)[0] < 0.1
    same = torch.ones_like(scene) / 4
    assert figures(same, same) == (0.0, pytest.approx(1 / 48))


def test_descriptors_learn_to_match() -> None:
    torch.manual_seed(0)
    raw = torch.randn(2, 1, *SIZE, 8, requires_grad=True)
    optimiser = torch.optim.Adam([raw], 0.1)
    sure = torch.ones(1, *SIZE)
    points = torch.zeros(1, *SIZE, 3)
    objective, matches = DescriptorMatching(draw=PixelDraw(48)), truth(2)

    def said() -> PairPrediction:
        unit = raw / raw.norm(dim=-1, keepdim=True)
        maps = {"descriptors0": unit[0], "descriptors1": unit[1]}
        maps |= {"descriptor_confidence0": sure, "descriptor_confidence1": sure}
        return PairPrediction(points, sure, points, sure, {"descriptors": maps})

    before = match_figures(said(), matches, "descriptors")["match_precision"].item()
    for _ in range(30):
        optimiser.zero_grad()
        objective(said(), matches).total.backward()
        optimiser.step()
    after = match_figures(said(), matches, "descriptors")["match_precision"].item()
    assert before < 0.3
    assert after > 0.6  # half of the matches are drawn, always the same ones


def test_the_head_brings_its_objective_and_its_figures() -> None:
    head = DescriptorHead(
        BackboneDims(16, 16, 24, 4), output_mode="pts3d+desc5", feature_dim=8, last_dim=8, layer_dims=[4, 8, 8, 8]
    )
    assert head.objective("side") == DescriptorMatching("side")
    prediction = drawn_prediction(1, name="side")
    assert set(head.measure("side", prediction, truth(1))) == {"match_first", "match_precision"}
    assert head.measure("side", prediction, object()) == {}  # type: ignore[arg-type]


def test_maps_of_another_name_are_asked_for_by_name() -> None:
    with pytest.raises(UsageError, match=r"no descriptors under 'side'; .* are: descriptors: give the head's name"):
        DescriptorMatching("side")(drawn_prediction(1), truth(0))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: EachWay(temperature=0.0), "temperature is 0.0"),
        (lambda: DescriptorMatching(alpha=0.0), "alpha 0.0 must be above 0"),
        (lambda: PixelDraw(count=0), "count 0"),
        (lambda: PixelDraw(random_share=1.0), "random_share 1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build()
