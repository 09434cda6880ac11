"""Whole numbers on the command line stay whole, whatever was imported before."""

import inspect
import typing
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from stereo4d.cli.main import main

RECIPE = Path(__file__).parents[2] / "configs" / "fit" / "tiny.yaml"


@pytest.mark.parametrize("number", ["1", "0.5", "1.0"])
def test_one_batch_of_validation_is_not_all_of_them(number, capsys, monkeypatch):
    # as where some package asked typing for the other order before Lightning was imported
    hints = inspect.unwrap(Trainer.__init__).__annotations__
    monkeypatch.setitem(hints, "limit_val_batches", typing.Union[float, int, None])  # noqa: UP007
    assert main(["fit", "--config", str(RECIPE), f"--trainer.limit_val_batches={number}", "--print_config"]) == 0
    assert f"limit_val_batches: {number}\n" in capsys.readouterr().out
    # what the parser tries first, and no other union has the same parts
    first, *others = typing.get_args(hints["limit_val_batches"])
    assert issubclass(first, int)
    assert float not in others
