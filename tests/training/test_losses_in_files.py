"""Objectives are written in a recipe by class path, weighted and added, and train a network of every kind of head."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from stereo4d_heads.descriptor_objective import DescriptorMatching, EachWay

from stereo4d.data.module import SyntheticPairs
from stereo4d.errors import UsageError
from stereo4d.network.objective import Objective, WeightedSum
from stereo4d.training.invariances import ScaleShiftInvariant
from stereo4d.training.losses import ConfidenceWeighted, MetricRegression, WithSky
from stereo4d.training.module import PairModule
from stereo4d.training.normalisations import MedianDistance

THREE_TERMS = """
class_path: stereo4d.network.objective.WeightedSum
init_args:
  terms:
    - - 1.0
      - class_path: stereo4d.training.losses.ConfidenceWeighted
        init_args:
          alpha: 0.3
          regression:
            class_path: stereo4d.training.losses.WithSky
            init_args:
              regression:
                class_path: stereo4d.training.losses.MetricRegression
                init_args:
                  largest_metric: 80.0
                  normalise: {class_path: stereo4d.training.normalisations.MedianDistance}
    - - 0.075
      - class_path: stereo4d_heads.descriptor_objective.DescriptorMatching
        init_args:
          contrast:
            class_path: stereo4d_heads.descriptor_objective.EachWay
            init_args: {temperature: 0.07}
          draw: {count: 64}
    - - 0.1
      - class_path: stereo4d.training.invariances.ScaleShiftInvariant
"""
TINY = """
img_size: [32, 48]
enc_embed_dim: 16
enc_depth: 1
enc_num_heads: 1
dec_embed_dim: 16
dec_depth: 4
dec_num_heads: 1
landscape_only: false
head_type: catmlp+dpt
output_mode: pts3d+desc6
head_options: {two_confs: true, desc_conf_mode: [exp, 0, inf], feature_dim: 8, last_dim: 8, layer_dims: [4, 8, 8, 8]}
"""


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.strip().splitlines())


def parsed(name: str, kind: type, text: str) -> tuple[ArgumentParser, Any]:
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument(f"--{name}", type=kind)
    return parser, parser.parse_string(f"{name}:\n{indented(text, 2)}")


def built(name: str, kind: type, text: str) -> Any:
    parser, config = parsed(name, kind, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return parser.instantiate_classes(config)[name]


def test_a_weighted_sum_is_written_by_class_path_and_everything_else_has_its_default() -> None:
    objective = built("objective", Objective, THREE_TERMS)
    regression = MetricRegression(MedianDistance(), largest_metric=80.0)
    assert isinstance(objective, WeightedSum)
    (one, weighted), (share, matching), (little, invariant) = objective.terms
    assert (one, share, little) == (1.0, 0.075, 0.1)
    assert weighted == ConfidenceWeighted(WithSky(regression), 0.3)
    assert isinstance(matching, DescriptorMatching)
    assert matching.contrast == EachWay(0.07)
    assert (matching.draw.count, matching.draw.random_share, matching.alpha) == (64, 0.5, 10.0)
    assert invariant == ScaleShiftInvariant()


def test_what_is_printed_says_every_default_and_reads_back_as_the_same() -> None:
    parser, config = parsed("objective", Objective, THREE_TERMS)
    printed = parser.dump(config)
    assert "Unable to serialize" not in printed
    for default in ("error: 2.0", "block: 8192", "random_share: 0.5", "in_truth_unit: false"):
        assert default in printed
    assert parser.dump(parser.parse_string(printed)) == printed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (THREE_TERMS.replace("alpha: 0.3", "alhpa: 0.3"), "alhpa"),
        (THREE_TERMS.replace("losses.MetricRegression", "losses.MetrikRegression"), "MetrikRegression"),
        ("class_path: stereo4d.training.losses.WithSky", "WithSky"),  # no objective without confidence
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_built(wrong: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        parsed("objective", Objective, wrong)


def test_a_wrong_number_is_refused_in_our_words() -> None:
    with pytest.raises(UsageError, match=r"alpha is -1.0; it must be above 0"):
        built("objective", Objective, THREE_TERMS.replace("alpha: 0.3", "alpha: -1.0"))


@pytest.mark.parametrize("beside", [False, True])
def test_a_recipe_with_descriptors_trains_points_and_descriptors(beside: bool) -> None:
    """As the main head, told by the recipe; beside a linear one, by the objective that the head brings itself."""
    torch.manual_seed(0)
    network = TINY.strip()
    recipe = f"objective:\n{indented(THREE_TERMS, 2)}\nmatching_weight: 0"
    if beside:
        options = "options: {output_mode: pts3d+desc6, feature_dim: 8, last_dim: 8, layer_dims: [4, 8, 8, 8]}"
        network = network[: network.index("head_type")]
        network += f"head_type: linear\nheads: {{local: {{head_type: catmlp+dpt, {options}}}}}"
        recipe = "matching_weight: 0"
    text = f"class_path: {PairModule.__module__}.PairModule\ninit_args:\n"
    text += f"  network:\n{indented(network, 4)}\n{indented(recipe, 2)}"
    module = built("model", PairModule, text)
    batch = SyntheticPairs(batch_size=2, sizes=[(32, 48)]).recipe.make(0, "cpu")
    assert batch.match0.isfinite().any()
    loss = module.loss_of(batch)
    loss.backward()
    assert loss.isfinite()
    head = module.network.local_head1 if beside else module.network.downstream_head1
    matching = [value.grad for value in head.head_local_features.parameters()]
    pointmap = [value.grad for value in module.network.downstream_head1.parameters() if value.grad is not None]
    for gradients in (matching, pointmap):
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_validation_says_how_well_descriptors_of_a_main_head_match(tmp_path: Path) -> None:
    text = f"class_path: {PairModule.__module__}.PairModule\ninit_args:\n  network:\n{indented(TINY, 4)}"
    module = built("model", PairModule, text)
    data = SyntheticPairs(batch_size=1, sizes=[(32, 48)], val_batches=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (figures,) = L.Trainer(default_root_dir=tmp_path, **quiet).validate(module, data, verbose=False)
    assert 0 <= figures["val/descriptors_match_first"] <= figures["val/descriptors_match_precision"] < 0.5
