"""What the trainer is asked for really acts: reduced precision, accumulation, clipping."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from stereo4d.data.pair_batch import joined
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.network.stereo import StereoConfig
from stereo4d.training.module import PairModule
from stereo4d.training.schedules import Plateau
from tests.training.small_runs import NETWORK


class Listener(L.Callback):
    """Keeps what the optimiser is about to see, before and after clipping, and what the encoder computes in."""

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        projection = module.network.enc_blocks[0].mlp.fc1
        projection.register_forward_hook(lambda _, inputs, output: setattr(self, "dtype", output.dtype))

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.gradients = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, module, *args) -> None:
        self.clipped = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def halves():
    """Two batches of a pair each, in which every pixel is measured."""
    batches = [sample_pairs(WorldConfig(), 1, 32, 48, seed=seed) for seed in (3, 4)]
    assert all(bool(batch.valid0.all() and batch.valid1.all()) for batch in batches)
    return batches


def step(batches, **settings: object) -> tuple[Listener, float, PairModule]:
    """One optimiser step of the same network on these batches: what was heard, the last loss, the network after."""
    torch.manual_seed(0)
    config = StereoConfig(**{**NETWORK, "img_size": (32, 48)}, landscape_only=False)
    module, listener = PairModule(config, schedule=Plateau(1), matching_weight=0), Listener()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        **dict(accelerator="cpu", devices=1, max_steps=1, max_epochs=-1, logger=False, log_every_n_steps=1),
        **dict(callbacks=[listener], **quiet, **settings),
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert trainer.global_step == 1
    return listener, float(trainer.callback_metrics["train/loss"]), module


def norm(gradients: dict[str, torch.Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(list(gradients.values())))


def test_bf16_mixed_multiplies_in_bf16_and_keeps_weights_in_float32(halves):
    exact, loss, _ = step(halves[:1])
    mixed, near, module = step(halves[:1], precision="bf16-mixed")
    assert (exact.dtype, mixed.dtype) == (torch.float32, torch.bfloat16)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert near == pytest.approx(loss, rel=0.02)
    assert near != loss
    name = "network.downstream_head1.proj.weight"
    direction = torch.cosine_similarity(mixed.gradients[name].flatten(), exact.gradients[name].flatten(), 0)
    assert float(direction) > 0.99


def test_accumulating_two_batches_is_one_step_on_both_together(halves):
    one, _, _ = step([joined(halves)])
    two, _, _ = step(halves, accumulate_grad_batches=2)
    alone, _, _ = step(halves[:1])
    largest = max(float(gradient.abs().max()) for gradient in one.gradients.values())
    for name, expected in one.gradients.items():
        torch.testing.assert_close(two.gradients[name], expected, rtol=1e-4, atol=1e-5 * largest)
    assert norm(alone.gradients) != pytest.approx(norm(one.gradients), rel=1e-3)


def test_gradients_are_clipped_to_the_norm_that_is_asked_for(halves):
    free, _, _ = step(halves[:1])
    clipped, _, _ = step(halves[:1], gradient_clip_val=0.01)
    assert norm(free.clipped) == pytest.approx(norm(free.gradients)) == pytest.approx(norm(clipped.gradients))
    assert norm(clipped.gradients) > 0.1
    assert norm(clipped.clipped) == pytest.approx(0.01, rel=1e-3)
