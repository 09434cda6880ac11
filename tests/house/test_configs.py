"""Every shipped configuration builds what it describes."""

from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
FIT = sorted((ROOT / "configs" / "fit").glob("*.yaml"))


@pytest.mark.parametrize("path", FIT, ids=lambda path: path.stem)
def test_every_fit_config_builds(path, tmp_path, monkeypatch):
    import lightning as L
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    model = yaml.safe_load(path.read_text())["model"]["init_args"]
    described = model["network"]
    with torch.device("meta"):  # full size, without memory; tests/training/test_recipes.py lets them run, narrower
        cli = LightningCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            save_config_callback=None,
            parser_kwargs={"parser_mode": "omegaconf+"},
            # weights to start from may be those of another recipe, which are not there yet
            args=["--config", str(path), *(["--model.init_args.start_from=null"] if "start_from" in model else [])],
        )
    built = cli.model.network.config.to_json()
    for name, value in described.items():
        if name == "heads":  # options of a head that are not said have the head's defaults
            assert {head: built[name][head]["options"] for head in value} == {
                head: choice.get("options", {}) for head, choice in value.items()
            }
        else:
            assert built[name] == value, name
    assert sum(parameter.numel() for parameter in cli.model.parameters()) > 0


def test_there_are_configs():
    assert FIT
