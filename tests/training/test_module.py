"""What a training module promises: recomputing changes nothing, portraits count as they stand, tests measure."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from stereo4d.data.pair_batch import PairBatch, joined
from stereo4d.data.portraits import laid_down
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.errors import UsageError
from stereo4d.network.completion import CompletionConfig
from stereo4d.network.config import HeadChoice
from stereo4d.network.stereo import StereoConfig
from stereo4d.training.completion_module import CompletionModule
from stereo4d.training.module import PairModule
from stereo4d.training.network_module import NetworkModule
from tests.training.small_runs import NETWORK

SMALL = {**NETWORK, "img_size": (32, 48)}
UPRIGHT = {"landscape_only": False}


@pytest.fixture(scope="module")
def pairs() -> PairBatch:
    return sample_pairs(WorldConfig(), 2, 32, 48, seed=3, query_times=1)


def built(kind: str, **options: object) -> NetworkModule:
    """A module with the weights that its kind always has."""
    torch.manual_seed(0)
    if kind == "completion":
        return CompletionModule(CompletionConfig(**SMALL), **options)
    heads = {"motion": HeadChoice("linear-motion")} if kind == "motion" else {}
    shapes = {"landscape_only": True, "patch_embed_cls": "ManyAR_PatchEmbed"} if kind == "landscape" else UPRIGHT
    return PairModule(StereoConfig(**SMALL, **shapes, heads=heads), **options)


def learnt(module: NetworkModule, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients."""
    torch.manual_seed(1)
    loss = module.train().loss_of(batch)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def saved_bytes(module: NetworkModule, batch: PairBatch) -> int:
    """What a forward pass keeps for the gradient."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module.train().loss_of(batch)
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["pairs", "motion", "completion"])
def test_recomputing_changes_neither_loss_nor_gradients_and_keeps_less(kind, pairs):
    (loss, gradients), (again, same) = (learnt(built(kind, recompute=flag), pairs) for flag in (False, True))
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=0)
    assert same.keys() == gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-5, atol=1e-6 * largest, msg=name)
    all_kept, kept = (saved_bytes(built(kind, recompute=flag), pairs) for flag in (False, True))
    assert kept < 0.7 * all_kept


def test_portraits_stored_transposed_teach_what_upright_ones_do(pairs):
    upright = sample_pairs(WorldConfig(), 2, 48, 32, seed=4)
    stored = laid_down(laid_down(upright, 0), 1)
    assert stored.image0.shape == pairs.image0.shape
    (loss, gradients), (again, same) = learnt(built("pairs"), upright), learnt(built("landscape"), stored)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=name)


def test_landscapes_and_portraits_of_a_batch_each_count_as_they_stand(pairs):
    upright = sample_pairs(WorldConfig(), 2, 48, 32, seed=4, query_times=1)
    lying = sample_pairs(WorldConfig(), 2, 32, 48, seed=5, query_times=1)
    batch = joined([laid_down(laid_down(upright, 0), 1), lying])
    apart = [learnt(built("pairs", matching_weight=0), one)[0] for one in (upright, lying)]
    together = learnt(built("landscape", matching_weight=0), batch)[0]
    # every pixel is measured, so the mean over both is the mean of their means
    torch.testing.assert_close(together, torch.stack(apart).mean(), rtol=1e-5, atol=0)


def test_a_network_that_would_take_portraits_as_they_lie_refuses_them(pairs):
    upright = sample_pairs(WorldConfig(), 1, 48, 32, seed=4)
    with pytest.raises(UsageError, match="ManyAR_PatchEmbed"):
        built("pairs").loss_of(laid_down(laid_down(upright, 0), 1))


@pytest.mark.parametrize("kind", ["motion", "completion"])
def test_a_test_tells_the_figures_of_validation(kind, pairs, tmp_path):
    module, data = built(kind), DataLoader([pairs], batch_size=None)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet)
    (validated,) = trainer.validate(module, data, verbose=False)
    (tested,) = trainer.test(module, data, verbose=False)
    assert {name.removeprefix("test/"): value for name, value in tested.items()} == pytest.approx(
        {name.removeprefix("val/"): value for name, value in validated.items()}
    )
    assert tested["test/loss"] == tested["test/loss"]
    assert (kind == "completion") or {"test/absrel", "test/delta1"} < tested.keys()
