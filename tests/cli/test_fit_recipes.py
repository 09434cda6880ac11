"""Recipes as the command line prints, saves and tries them."""

import resource
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from stereo4d.cli.main import main
from tests.training.small_runs import PAIRS, SYNTHETIC, write_recipe

TINY = Path(__file__).parents[2] / "configs" / "fit" / "tiny.yaml"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_the_recipe_that_is_printed_or_saved_runs_and_trains_the_same(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "first.yaml", PAIRS, SYNTHETIC, max_steps=2)
    changed = ["fit", "--config", str(recipe), "--model.init_args.learning_rate=3e-4"]
    assert main([*changed, "--print_config"]) == 0
    assert not (tmp_path / "first").exists()
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["model"]["init_args"]["learning_rate"] == 3e-4
    assert main(changed) == 0
    saved = (tmp_path / "first" / "config.yaml").read_text()
    expected = weights(tmp_path / "first")
    for name, text in (("printed", printed), ("saved", saved)):
        again = tmp_path / f"{name}.yaml"
        again.write_text(text.replace(str(tmp_path / "first"), str(tmp_path / name)))
        assert main(["fit", "--config", str(again)]) == 0
        for key, value in weights(tmp_path / name).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-7)


def test_the_shipped_recipe_is_tried_in_less_than_a_minute_of_processor(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "stereo4d.cli.main", "fit", "--config", str(TINY)]
    options = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "max_steps=1` reached" in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
