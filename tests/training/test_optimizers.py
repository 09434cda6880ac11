"""Muon steps as torch's own, where torch's can be had, and learns what AdamW's recipe learns."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stereo4d.cli.main import main
from stereo4d.errors import UsageError
from stereo4d.training.optimizers import AdamW, Muon, orthogonal
from tests.training.small_runs import PAIRS, SYNTHETIC, write_recipe


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 2), nn.Flatten(), nn.Linear(72, 24), nn.GELU(), nn.Linear(24, 40))


def steps(optimizer: torch.optim.Optimizer, model: nn.Module, count: int) -> list[float]:
    draw = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(count):
        pictures = torch.randn(16, 3, 4, 4, generator=draw)
        wanted = pictures.mean((2, 3)).repeat(1, 14)[:, :40]
        optimizer.zero_grad()
        loss = (model(pictures) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("shape", [(24, 72), (72, 24), (32, 32)])
def test_orthogonal_keeps_singular_vectors_and_levels_their_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ orthogonal(matrix) @ v.T
    values = levelled.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (levelled - values.diag()).abs().max() < 1e-4


def test_matrices_step_as_torchs_muon_and_vectors_as_its_adamw():
    ours, theirs = network(), network()
    matrices = [value for value in theirs.parameters() if value.ndim == 2]
    vectors = [value for value in theirs.parameters() if value.ndim == 1]
    options = {"lr": 1e-2, "weight_decay": 0.1}
    muon = torch.optim.Muon(matrices, momentum=0.9, nesterov=False, adjust_lr_fn="match_rms_adamw", **options)
    adam = torch.optim.AdamW(vectors, betas=(0.9, 0.95), **options)
    groups = [{"params": list(ours.parameters()), "weight_decay": 0.1}]
    optimizer = Muon().build(groups, 1e-2, fused=False)
    for parameter in (ours[0].weight, theirs[0].weight):  # torch's takes no convolutions
        parameter.requires_grad_(False)
    for model, stepping in ((ours, [optimizer]), (theirs, [muon, adam])):
        draw = torch.Generator().manual_seed(3)
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(16, 3, 4, 4, generator=draw)).square().mean().backward()
            for one in stepping:
                one.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=2e-3 if mine.ndim == 2 else 1e-3, rtol=0)  # torch's is bfloat16
        assert mine.ndim != 2 or (mine - dict(start())[tuple(mine.shape)]).abs().max() > 5e-3


def start():
    return ((tuple(value.shape), value) for value in network().parameters())


def test_a_stopped_run_goes_on_as_an_unbroken_one():
    unbroken, stopped = network(), network()
    whole = Muon().build([{"params": list(unbroken.parameters())}], 1e-2, fused=False)
    first = Muon().build([{"params": list(stopped.parameters())}], 1e-2, fused=False)
    steps(whole, unbroken, 4)
    steps(first, stopped, 4)
    second = Muon().build([{"params": list(stopped.parameters())}], 1e-2, fused=False)
    second.load_state_dict(first.state_dict())
    assert steps(whole, unbroken, 3) == steps(second, stopped, 3)


def trained(path: Path, steps: int, *arguments: str) -> Path:
    options = PAIRS["init_args"] | {
        "optimizer": {"class_path": "stereo4d.training.optimizers.Muon"},
        # the rate does not depend on where a run ends
        "schedule": {"class_path": "stereo4d.training.schedules.Plateau", "init_args": {"cooldown_share": 0.0}},
    }
    recipe = write_recipe(path, PAIRS | {"init_args": options}, SYNTHETIC, max_steps=steps)
    assert main(["fit", "--config", str(recipe), *arguments]) == 0
    return path.parent / path.stem / "checkpoints" / "last.ckpt"


def test_a_recipe_names_it_and_resumes_exactly(tmp_path):
    half = trained(tmp_path / "half.yaml", 2)
    resumed = trained(tmp_path / "resumed.yaml", 4, f"--ckpt_path={half}")
    unbroken = trained(tmp_path / "unbroken.yaml", 4)
    before, after, expected = (torch.load(path, weights_only=True) for path in (half, resumed, unbroken))
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(after["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(value, before["state_dict"][name]) for name, value in expected["state_dict"].items())
    kept = [set(state) for state in expected["optimizer_states"][0]["state"].values()]
    assert {"mean"} in kept  # of matrices nothing else is kept
    assert {"mean", "square", "step"} in kept


@pytest.mark.parametrize("recipe", [AdamW(), Muon()])
def test_both_learn(recipe):
    model = network()
    groups = [{"params": list(model.parameters()), "weight_decay": 0.0}]
    losses = steps(recipe.build(groups, 1e-2, fused=False), model, 200)
    assert losses[-1] < 0.5 * losses[0]


def test_momentum_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="momentum 1"):
        Muon(momentum=1.0)
