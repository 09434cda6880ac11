"""Columns of figures: places with sky count where they have truth, confidence is held to what it promises."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stereo4d.cli.main import main
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.rich import Cameras, RichWorlds
from stereo4d.evaluation.calibration import calibration, confident_errors
from stereo4d.evaluation.pairs import pair_figures
from stereo4d.types import PairPrediction


@pytest.fixture(scope="module")
def truth() -> PairBatch:
    still = Cameras(wander=0.5, forward=0, turn=0, still=0.5)
    return sample_pairs(RichWorlds(kinds=("park",), cameras=still), 8, 48, 72, seed=5)


def said(truth: PairBatch, noise: float = 0.0) -> tuple[PairPrediction, torch.Tensor]:
    """The truth in another scale, with noise that differs from pixel to pixel, anything in the sky; and that noise."""
    draw = torch.Generator().manual_seed(1)
    spread = noise * torch.rand(truth.valid0.shape, generator=draw)
    either = torch.rand(spread.shape, generator=draw).sub_(0.5).sign_()  # else the pair's scale would take part of it
    points = [
        torch.where(valid[..., None], 2 * points * (1 + (either * spread)[..., None]), 50.0)
        for points, valid in ((truth.pointmap0, truth.valid0), (truth.pointmap1, truth.valid1))
    ]
    sure = torch.ones_like(spread) * 3
    return PairPrediction(points[0], sure, points[1], sure), spread


def test_what_is_said_of_the_sky_does_not_count(truth: PairBatch) -> None:
    assert bool(truth.sky0.flatten(1).any(1).all())
    figures = pair_figures(said(truth)[0], truth)
    assert float(figures["absrel"].predicted.max()) < 1e-4
    assert float(figures["points1"].predicted.max()) < 1e-4
    assert float(figures["delta1"].predicted.min()) == 1


def test_a_camera_that_stays_has_no_direction_of_travel(truth: PairBatch) -> None:
    figures = pair_figures(said(truth)[0], truth)
    stays = truth.relative[:, :3, 3].norm(dim=-1) < 1e-4
    assert 0 < int(stays.sum()) < len(stays)
    assert figures["translation"].predicted.isnan().tolist() == stays.tolist()
    assert figures["translation"].guess.isnan().tolist() == stays.tolist()


def test_confidence_that_knows_the_error_falls_by_decile_and_blind_confidence_does_not(truth: PairBatch) -> None:
    prediction, spread = said(truth, noise=0.5)
    knows = replace(prediction, confidence0=2 - spread, confidence1=2 - spread)
    errors = calibration([confident_errors(knows, truth)]).mean_error
    assert all(one > other for one, other in itertools.pairwise(errors))
    assert errors[0] > 5 * errors[-1]
    random = torch.rand(spread.shape, generator=torch.Generator().manual_seed(2)) + 1
    blind = calibration([confident_errors(replace(prediction, confidence0=random, confidence1=random), truth)])
    assert max(blind.mean_error) < 1.5 * min(blind.mean_error)
    assert list(blind.confidence) == sorted(blind.confidence)


def test_pixels_without_truth_take_no_part_in_calibration(truth: PairBatch) -> None:
    pixels = confident_errors(said(truth)[0], truth)
    assert 0 < pixels.shape[1] < 2 * 8 * 512
    assert float(pixels[1].max()) < 1e-4


def test_the_table_has_a_column_for_each_kind_of_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is missing: pip install matplotlib (extra 'dev')")
    command = ["evaluate", "synthetic", "--pairs", "1", "--device", "cpu", "--kinds", "indoor", "--held-out", "street"]
    picture = tmp_path / "calibration.png"
    assert main([*command, "--plot", str(picture), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "| figure | plain rooms | rich: indoor | rich, held out: street | guess |" in printed
    assert "error by decile of confidence" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_any_world_can_be_measured_by_class_path_or_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "world.yaml"
    recipe.write_text(
        "class_path: stereo4d.data.synthetic.rich.RichWorlds\ninit_args: {kinds: [tabletop], things: {amount: 0.5}}\n"
    )
    command = ["evaluate", "synthetic", "--pairs", "1", "--device", "cpu", "--json", "--world"]
    found = []
    for world in (str(recipe), "stereo4d.data.synthetic.world.WorldConfig"):
        assert main([*command, world]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert list(found[0]["columns"]) == [str(recipe)]
    column = found[0]["columns"][str(recipe)]
    assert column["pairs"] == 16
    assert column["figures"]["absrel"] == found[0]["absrel"]
    assert len(column["calibration"]["mean_error"]) == 10
    assert found[0]["absrel"]["mean"] != found[1]["absrel"]["mean"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["--kinds", "indoor", "street", "--held-out", "street"], "street"),
        (["--kinds", "moon"], "moon"),
        (["--world", "stereo4d.data.synthetic.rich.Light"], "stereo4d.data.synthetic.rich.Light"),
        (["--world", "nowhere.Worlds"], "nowhere.Worlds"),
        (["--world", "x", "--kinds", "indoor"], "--kinds"),
        (["--pairs", "0"], "--pairs"),
        (["--clips", "1", "--plot", "x.png"], "--plot"),
    ],
)
def test_columns_that_cannot_be_are_wrong_usage(capsys: pytest.CaptureFixture[str], bad: list[str], said: str) -> None:
    assert main(["evaluate", "synthetic", "--quiet", *bad]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
