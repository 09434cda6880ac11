"""The figures of image pairs: perfect predictions score perfectly, guesses score as guesses."""

import pytest
import torch

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.evaluation.pairs import join_figures, pair_figures, table
from stereo4d.types import PairPrediction


@pytest.fixture(scope="module")
def truth() -> PairBatch:
    return sample_pairs(WorldConfig(moving_share=0.0), 6, 64, 96, seed=21)


def predict(truth: PairBatch, scale: float = 1.0, noise: float = 0.0) -> PairPrediction:
    torch.manual_seed(0)
    confident = torch.full_like(truth.pointmap0[..., 0], 5.0)
    points0, points1 = (
        scale * points * (1 + noise * torch.randn_like(points[..., :1]))
        for points in (truth.pointmap0, truth.pointmap1)
    )
    return PairPrediction(points0, confident, points1, confident)


def test_the_truth_scores_perfectly_at_any_scale(truth):
    for scale in (1.0, 3.0):
        figures = pair_figures(predict(truth, scale), truth)
        assert float(figures["absrel"].predicted.max()) < 1e-5
        assert float(figures["delta1"].predicted.min()) == 1
        assert float(figures["points1"].predicted.max()) < 1e-4
        assert float(figures["rotation"].predicted.max()) < 0.1
        assert float(figures["translation"].predicted.median()) < 0.5
        assert float(figures["focal"].predicted.max()) < 1e-3


def test_noise_costs_and_guesses_cost_more(truth):
    figures = pair_figures(predict(truth, noise=0.05), truth)
    for key in ("absrel", "points1", "rotation", "translation"):
        assert 0 < float(figures[key].predicted.mean()) < float(figures[key].guess.mean()), key
    assert float(figures["translation"].guess.mean()) == 90  # no motion has no direction


def test_batches_join_and_print(truth):
    figures = pair_figures(predict(truth), truth)
    both = join_figures([figures, figures])
    assert len(both["absrel"].predicted) == 2 * len(figures["absrel"].predicted)
    text = table(both)
    assert text.count("\n") == 1 + len(figures)
    assert "constant depth" in text
