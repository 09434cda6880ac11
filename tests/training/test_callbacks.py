"""What watches training: values that are no numbers, speed, samples to look at, predictions written."""

import dataclasses
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader

from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.errors import TrainingError, UsageError
from stereo4d.network.completion import CompletionConfig
from stereo4d.network.objective import LossValue, Objective
from stereo4d.network.stereo import StereoConfig
from stereo4d.network.weights import load_completion, load_model
from stereo4d.storage import map_arrays, read_metadata
from stereo4d.training.callbacks import NanGuard, PairWriter, PredictionSamples, Throughput
from stereo4d.training.completion_module import CompletionModule
from stereo4d.training.module import PairModule
from stereo4d.training.schedules import HalfCosine
from stereo4d.types import PairPrediction
from stereo4d.video.stored_pairs import open_pairs

SMALL = {"enc_embed_dim": 32, "enc_depth": 1, "enc_num_heads": 2, "dec_embed_dim": 32, "dec_depth": 2}
TINY = StereoConfig(img_size=(32, 48), dec_num_heads=2, landscape_only=False, **SMALL)


@pytest.fixture(scope="module")
def pairs():
    return sample_pairs(WorldConfig(), 2, 32, 48, seed=3)


def trainer(folder: Path, *callbacks: L.Callback, **settings: object) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    given = {"max_steps": 2, "max_epochs": -1, "log_every_n_steps": 1, "logger": False, **quiet, **settings}
    return L.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), **given)


def loader(*batches) -> DataLoader:
    return DataLoader(list(batches), batch_size=None)


def test_data_that_are_no_numbers_stop_training_and_name_the_sample(pairs, tmp_path):
    points = pairs.pointmap1.clone()
    points[1, 4, 5, 2] = torch.nan
    with pytest.raises(TrainingError, match=rf"not finite \({pairs.names[1]}: pointmap1\)"):
        trainer(tmp_path, NanGuard()).fit(PairModule(TINY), loader(dataclasses.replace(pairs, pointmap1=points)))
    (kept,) = (tmp_path / "not-finite").glob("*.safetensors")
    assert bool(torch.from_numpy(map_arrays(kept)["0/pointmap1"].copy()).isnan().any())
    assert pairs.names[1] in read_metadata(kept)["names"]


def test_truth_that_nobody_asks_for_may_be_anything(pairs, tmp_path):
    points, valid = pairs.pointmap0.clone(), pairs.valid0.clone()
    points[0, 0, 0], valid[0, 0, 0] = torch.nan, False
    batch = dataclasses.replace(pairs, pointmap0=points, valid0=valid)
    fitting = trainer(tmp_path, NanGuard(), max_steps=1)
    fitting.fit(PairModule(TINY), loader(batch))
    assert fitting.global_step == 1


def test_a_loss_that_is_no_number_is_traced_to_its_sample(pairs, tmp_path):
    huge = pairs.image1.clone()
    huge[0] = 3e38  # finite, and too large to square
    with pytest.raises(TrainingError, match=rf"the loss is \w+, by sample {pairs.names[0]};"):
        trainer(tmp_path, NanGuard()).fit(PairModule(TINY), loader(dataclasses.replace(pairs, image1=huge)))


class Steep(Objective):
    """A loss that is a number and whose gradient is none: the root of zero."""

    def __call__(self, prediction: PairPrediction, truth: object) -> LossValue:
        return LossValue((0 * prediction.pointmap0).square().sum().sqrt())


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(pairs, tmp_path):
    module = PairModule(TINY, objective=Steep(), matching_weight=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    named = re.escape(f"among samples {', '.join(pairs.names * 2)};")
    with pytest.raises(TrainingError, match=rf"loss is finite, its gradient is not \(first in network\..*\), {named}"):
        trainer(tmp_path, NanGuard(), accumulate_grad_batches=2).fit(module, loader(pairs, pairs))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    (kept,) = (tmp_path / "not-finite").glob("*.safetensors")
    assert {name.split("/")[0] for name in map_arrays(kept)} == {"0", "1"}


def test_without_the_guard_too_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(pairs, tmp_path):
    module = PairModule(TINY, objective=Steep(), matching_weight=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(TrainingError, match="gradient at step 0 is not finite; resume from the last checkpoint"):
        trainer(tmp_path).fit(module, loader(pairs))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_figures_of_speed_are_logged(pairs, tmp_path):
    fitting = trainer(tmp_path, Throughput(every=2))
    fitting.fit(PairModule(TINY), loader(pairs, pairs))
    figures = {name: float(value) for name, value in fitting.callback_metrics.items() if name.startswith("speed/")}
    assert set(figures) == {"speed/pairs_per_second", "speed/data_wait", "speed/device_share"}
    assert figures["speed/pairs_per_second"] > 0
    assert 0 <= figures["speed/data_wait"] < 1


def test_samples_are_recordings_that_can_be_read(pairs, tmp_path):
    samples = PredictionSamples(every=2, pairs=1)
    trainer(tmp_path, samples).fit(PairModule(TINY), loader(pairs, pairs))
    written = sorted((tmp_path / "samples" / "step-0000002").iterdir())
    assert [path.name for path in written] == ["pair-0-predicted.rrd", "pair-0-truth.rrd"]
    for path in written:
        samples.viewer.check(path)


def test_predictions_are_pairs_that_the_house_reads(pairs, tmp_path):
    module, folder = PairModule(TINY), tmp_path / "pairs"
    predicting = trainer(tmp_path, PairWriter(str(folder), exact=True))
    predicting.predict(module, loader(pairs, pairs), return_predictions=False)
    stored = open_pairs([str(folder)])
    edges, prediction = stored.read()
    assert edges.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with torch.no_grad():
        expected = module.eval().network(pairs.image0, pairs.image1)
    torch.testing.assert_close(prediction.pointmap1[2:], expected.pointmap1)
    with pytest.raises(UsageError, match="already"):
        trainer(tmp_path, PairWriter(str(folder))).predict(module, loader(pairs))


def test_a_checkpoint_of_training_loads_as_it_is(pairs, tmp_path):
    module, fitting = PairModule(TINY, schedule=HalfCosine(1)), trainer(tmp_path)
    fitting.fit(module, loader(pairs, pairs))
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    network = load_model(tmp_path / "last.ckpt")
    for name, value in module.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


class Weights(L.Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, module, *args) -> None:
        self.seen.append({name: value.clone() for name, value in module.network.state_dict().items()})


def test_what_loads_of_a_checkpoint_is_the_average_that_training_kept(pairs, tmp_path):
    weights, average = Weights(), EMAWeightAveraging(decay=0.75)
    fitting = trainer(tmp_path, weights, average, max_steps=3)
    fitting.fit(PairModule(TINY, schedule=HalfCosine(1)), loader(pairs, pairs, pairs))
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_model(tmp_path / "last.ckpt").state_dict()
    first, *more = weights.seen
    expected = first
    for after in more:
        expected = {name: torch.lerp(after[name], value, 0.75) for name, value in expected.items()}
    for name, value in expected.items():
        torch.testing.assert_close(loaded[name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert not torch.allclose(loaded["enc_norm.weight"], weights.seen[-1]["enc_norm.weight"], rtol=1e-5)


def test_completion_trains_on_any_pairs_and_its_checkpoint_loads(pairs, tmp_path):
    config = CompletionConfig(img_size=(32, 48), dec_num_heads=2, **SMALL)
    module, fitting = CompletionModule(config, recompute=True), trainer(tmp_path)
    before = module.network.prediction_head.weight.clone()
    fitting.fit(module, loader(pairs, pairs), loader(pairs))
    assert not torch.equal(module.network.prediction_head.weight, before)
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    assert load_completion(tmp_path / "last.ckpt").config == module.network.config
