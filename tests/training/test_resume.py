"""Training that is killed and goes on ends where training that was never interrupted does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stereo4d.cli.main import main
from tests.datasets.miniatures import film, write_folder
from tests.training.small_runs import COMPLETION, PAIRS, SYNTHETIC, mixed, write_recipe

EMA = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.6}}
KILLED = {"class_path": "tests.training.small_runs.KilledAt"}
SIZES = [[32, 48], [48, 48]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_folder(folder / "scene", film(frames=3))
    return folder


def same(one: object, other: object, where: str = "") -> None:
    """Equal to float error, all the way down."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            same(value, other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, value in enumerate(one):
            same(value, other[number], f"{where}/{number}")
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=lambda told: f"{where}: {told}")
    else:
        assert one == pytest.approx(other), where


@pytest.mark.parametrize(
    ("kind", "callbacks", "trainer"),
    [
        ("pairs of the synthetic world", [], {}),
        ("pairs of files, averaged, two batches a step", [EMA], {"accumulate_grad_batches": 2}),
        ("completion of files, two workers", [EMA], {}),
    ],
)
def test_a_run_that_is_killed_and_resumed_equals_an_unbroken_one(kind, callbacks, trainer, scenes, tmp_path):
    model, data = {
        "pairs of the synthetic world": (PAIRS, SYNTHETIC),
        "pairs of files, averaged, two batches a step": (PAIRS, mixed(scenes, sizes=SIZES)),
        "completion of files, two workers": (COMPLETION, mixed(scenes, sizes=SIZES[:1], workers=2)),
    }[kind]
    # killed within the fourth step, after the checkpoint of the second: a whole step is lost, and taken again
    batch = 3 * trainer.get("accumulate_grad_batches", 1)
    killed = {**KILLED, "init_args": {"batch": batch}}
    broken = write_recipe(tmp_path / "broken.yaml", model, data, killed, *callbacks, **trainer)
    command = [sys.executable, "-m", "stereo4d.cli.main", "fit", "--config", str(broken)]
    died = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2

    for name, more in (("resumed", [f"--ckpt_path={last}"]), ("unbroken", [])):
        recipe = write_recipe(tmp_path / f"{name}.yaml", model, data, *callbacks, **trainer)
        assert main(["fit", "--config", str(recipe), *more]) == 0
    resumed, unbroken = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("resumed", "unbroken")
    )
    assert resumed["global_step"] == unbroken["global_step"] == 4
    compared = ("state_dict", "optimizer_states", "lr_schedulers", *(["current_model_state"] if callbacks else []))
    for name in compared:
        same(resumed[name], unbroken[name], name)
