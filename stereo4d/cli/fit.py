"""``stereo4d fit | validate | test | predict``: LightningCLI over the training modules."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the command line to LightningCLI.

    Args:
        argv: sub-command first (``fit --config configs/fit/tiny.yaml``); by default the process's arguments.
    """
    import lightning as L
    from lightning.pytorch.cli import LightningCLI

    import stereo4d.data.module
    import stereo4d.training.module  # noqa: F401  lets YAML name the shipped classes without their path

    LightningCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        # "omegaconf" would resolve each file as it is read and ignore later overrides; "+" resolves at the end.
        # Wrong usage is raised, so that it ends as every other command: one line, exit code 2.
        parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
        seed_everything_default=0,
        # Lightning warns about arguments that come beside those of the process, so hand on only what is different.
        args=None if argv is None or list(argv) == sys.argv[1:] else list(argv),
    )
    return 0
