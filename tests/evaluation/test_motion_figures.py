"""Figures of motion: standing still scores as the guess does, the truth perfectly, and pairs may have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stereo4d.cli.main import main
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.evaluation.motion import motion_figures
from stereo4d.network.config import HeadChoice
from stereo4d.network.weights import save_model
from stereo4d.types import PairPrediction
from tests.golden_numbers import drawn_network, small_config


@pytest.fixture(scope="module")
def truth() -> PairBatch:
    return sample_pairs(WorldConfig(moving_share=1.0), 4, 32, 48, seed=3, at_times=(0.0, 0.5, 1.0))


def said(truth: PairBatch, scale: float = 1.0) -> PairPrediction:
    sure = torch.ones(truth.pointmap0.shape[:3])
    return PairPrediction(truth.pointmap0 * scale, sure, truth.pointmap1 * scale, sure)


def test_the_truth_is_perfect_whatever_its_scale(truth: PairBatch) -> None:
    maps = {"displacement0": truth.motion0 * 7, "displacement1": truth.motion1 * 7}
    figures = motion_figures(maps, said(truth, 7), truth)
    assert figures["epe3d_moving"].predicted.max() < 1e-5
    assert figures["delta005_all"].predicted.min() == 1
    assert figures["epe3d_moving"].guess.min() > 0.01


def test_standing_still_scores_as_the_guess_does(truth: PairBatch) -> None:
    maps = {"displacement0": torch.zeros_like(truth.motion0), "displacement1": torch.zeros_like(truth.motion1)}
    for figure in motion_figures(maps, said(truth), truth).values():
        assert torch.equal(figure.predicted, figure.guess)


def test_a_pair_where_nothing_moves_does_not_count(truth: PairBatch) -> None:
    still = replace(truth, moving0=truth.moving0.clone(), moving1=truth.moving1.clone())
    still.moving0[0] = still.moving1[0] = False
    figure = motion_figures({"displacement0": truth.motion0, "displacement1": truth.motion1}, said(truth), still)
    assert figure["epe3d_moving"].predicted.isnan().tolist() == [True, False, False, False]
    assert figure["epe3d_moving"].row()["guess mean"] > 0


def test_evaluate_measures_motion_of_weights_that_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}
    heads = {"motion": HeadChoice("motion", {"embed_dim": 16, **narrow})}
    save_model(drawn_network(small_config("dpt", head_options=narrow, heads=heads)), tmp_path)
    assert main(["evaluate", "synthetic", "--weights", str(tmp_path), "--pairs", "1", "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["epe3d_moving"]["guess"] == "no motion"
    assert rows["epe3d_moving"]["mean"] > 0
    assert 0 <= rows["delta005_all"]["mean"] <= 1
