"""Two processes that share a batch learn what one learns from the whole, whatever counts each of them has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.shared_losses import LOSSES, drawn_batch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Of one process with everything, and of each of two with half."""
    folder = tmp_path_factory.mktemp("gradients")
    calls = [(0, 1), (0, 2), (1, 2)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.shared_losses", str(rank), str(world), str(folder)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, world in calls
    ]
    said = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "\n".join(said)
    names = ("whole", "first", "second")
    return {
        name: torch.load(folder / f"gradients-{world}-{rank}.pt")
        for name, (rank, world) in zip(names, calls, strict=True)
    }


def test_the_two_halves_have_different_counts() -> None:
    first, second = (drawn_batch().part(rank, 2) for rank in (0, 1))
    for name in ("valid0", "valid1", "hidden", "motion_valid0", "targets"):
        assert getattr(first, name).sum() > 2 * getattr(second, name).sum()
    assert first.match0.isnan().sum() < second.match0.isnan().sum() / 2


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_one_process_with_the_whole_batch(
    name: str, gradients: dict[str, dict[str, dict[str, Tensor]]]
) -> None:
    whole, first, second = (gradients[kind][name] for kind in ("whole", "first", "second"))
    torch.testing.assert_close((first.pop("loss") + second.pop("loss")) / 2, whole.pop("loss"), rtol=1e-6, atol=1e-9)
    assert whole
    for key, gradient in whole.items():
        assert gradient.abs().max() > 1e-4
        for half in (first, second):
            torch.testing.assert_close(half[key], gradient, rtol=1e-6, atol=1e-9)
