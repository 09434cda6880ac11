"""``stereo4d fit | validate | test | predict``: LightningCLI over the training modules."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union, get_args

from stereo4d.errors import CheckpointError, Stereo4DError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the command line to LightningCLI.

    Args:
        argv: sub-command first (``fit --config configs/fit/tiny.yaml``); by default the process's arguments.
    """
    import lightning as L

    import stereo4d.data.module
    import stereo4d.training.module  # noqa: F401  lets YAML name the shipped classes without their path
    from stereo4d.cli.fit_errors import without_worker

    try:
        _command_line()(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            # "omegaconf" would resolve each file as it is read and ignore later overrides; "+" resolves at the end.
            # Wrong usage is raised, so that it ends as every other command: one line, exit code 2.
            parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
            seed_everything_default=0,
            # Lightning warns about arguments beside those of the process, so hand on only what is different.
            args=None if argv is None or list(argv) == sys.argv[1:] else list(argv),
        )
    except Stereo4DError as error:
        raise without_worker(error) from error
    return 0


def _whole_numbers_stay_whole() -> None:
    """Let ``limit_val_batches: 1`` mean one batch, and not 1.0, which is all of them.

    Lightning asks for ``Union[int, float]``. ``typing`` keeps the unions it has made and takes the other order for the
    same, so whichever package asked first in this process decides what the parser tries first. A union that nobody else
    makes keeps its order.
    """
    from jsonargparse.typing import ClosedUnitInterval
    from lightning.pytorch import Trainer

    hints = inspect.unwrap(Trainer.__init__).__annotations__
    for name, hint in hints.items():
        if set(get_args(hint)) == {int, float, type(None)}:
            hints[name] = Union[int, ClosedUnitInterval, None]  # noqa: UP007  "|" takes classes alone


def _command_line() -> Any:
    """LightningCLI that says what is wrong with a recipe, or a checkpoint, in one line; made here to import late."""
    from argparse import ArgumentError

    from lightning.pytorch.cli import LightningCLI

    from stereo4d.cli.fit_errors import explained

    _whole_numbers_stay_whole()

    class CommandLine(LightningCLI):
        """Lightning's command line, whose failures are said in a line."""

        def parse_arguments(self, parser: Any, args: Any) -> None:
            """Parse, and refuse a run without a model before anything is built."""
            given = sys.argv[1:] if args is None else args
            try:
                super().parse_arguments(parser, args)
            except (ArgumentError, TypeError, ValueError, KeyError) as error:
                raise explained(error, self._top_keys(given)) from error
            self.asked = self.config[self.config.subcommand]
            if self.asked.model is None or self.asked.model.class_path in _BASES:
                raise UsageError("there is no model; give a recipe, such as --config configs/fit/tiny.yaml")
            if path := self.asked.get("ckpt_path"):
                self.stored = _read_checkpoint(path)

        def instantiate_classes(self) -> None:
            """Build model, data and trainer; a checkpoint to go on from must fit them."""
            try:
                super().instantiate_classes()
            except (ArgumentError, TypeError, ValueError, KeyError) as error:
                raise explained(error) from error
            if path := self.asked.get("ckpt_path"):
                _check_same(path, self.stored, self.model)

        def _top_keys(self, given: Sequence[str]) -> list[str]:
            command = next((word for word in given if word in self._subcommand_parsers), "fit")
            return [action.dest for action in self._subcommand_parsers[command]._actions]

    return CommandLine


_BASES = ("lightning.LightningModule", "lightning.pytorch.LightningModule")
_SPECIAL = ("best", "last", "hpc", "registry")
"""What Lightning takes in place of a checkpoint's path."""


def _read_checkpoint(path: str) -> dict[str, Any] | None:
    """What a checkpoint of training says of its network, None where the trainer is to find the checkpoint.

    Raises:
        CheckpointError: it is none.
    """
    from stereo4d.network.weights.pickled import read_pickle

    if path.split(":")[0] in _SPECIAL or Path(path).is_dir():  # folders are of sharded training
        return None
    if not Path(path).is_file():
        raise CheckpointError(f"ckpt_path {path}: there is no such file; give a .ckpt of an earlier 'stereo4d fit'")
    content = read_pickle(Path(path))
    if "network_config" not in content or "state_dict" not in content:
        raise CheckpointError(
            f"ckpt_path {path} is not a checkpoint of 'stereo4d fit', so nothing can be resumed from it; to start from "
            "weights, give them as model.init_args.start_from"
        )
    return content["network_config"]


def _check_same(path: str, stored: dict[str, Any] | None, module: Any) -> None:
    """See that a checkpoint is of the network that the recipe describes.

    Raises:
        CheckpointError: it is of another one; names the options that differ.
    """
    if stored is None or not hasattr(module, "network"):
        return
    own = module.network.config.to_json()
    different = sorted(name for name in stored.keys() | own.keys() if stored.get(name) != own.get(name))
    if different:
        shown = ", ".join(f"{name} {stored.get(name)} there, {own.get(name)} here" for name in different[:4])
        raise CheckpointError(
            f"ckpt_path {path} is of another network ({shown}); resume with the recipe it was made by, or start from "
            "its weights with model.init_args.start_from"
        )
