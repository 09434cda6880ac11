"""Packages by others: installed for a test as their authors would, and used in a process of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = """
import json, sys
import torch
torch.set_num_threads(1)
from stereo4d.cli.main import main
from stereo4d.training import export
for command in json.loads(sys.argv[1]):
    if command[0] == "stereo4d":
        code = main(command[1:])
        assert code == 0, (command, code)
    else:
        assert command[:3] == ["python", "-m", "stereo4d.training.export"], command
        checkpoint, folder = command[3:]
        export.export_checkpoint(export.Path(checkpoint), export.Path(folder))
"""
SMALL_FIT = {
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "data.init_args.batch_size": "1",
    "data.init_args.workers": "0",
    "data.init_args.val_batches": "1",
    "data.init_args.sizes": "[[32, 48]]",
}
"""Settings that make a recipe of training small enough for a test."""


def install(package: Path, target: Path) -> None:
    """Install the package in a folder into another folder, without network and without what it depends on."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def use(commands: Sequence[Sequence[str]], target: Path, folder: Path) -> str:
    """Run command lines one after the other in one process that sees what is installed there; what they print."""
    path = os.pathsep.join([str(target), *(entry for entry in [os.environ.get("PYTHONPATH")] if entry)])
    command = [sys.executable, "-c", COMMANDS, json.dumps([list(line) for line in commands])]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def shortened(recipe: str, *, steps: int) -> str:
    """A YAML of training with fewer steps, the last one kept and validated after."""
    settings = r"\b(max_steps|val_check_interval|every_n_train_steps|log_every_n_steps): \d+"
    text, found = re.subn(settings, rf"\1: {steps}", recipe)
    assert found == 4
    return text
