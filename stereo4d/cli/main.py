"""The ``stereo4d`` command: imports the module of the one command it is given, runs it, and says failures in a line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from stereo4d.cli.common import DONE, failure, print_error, run_action, run_command
from stereo4d.errors import UsageError

COMMANDS = {
    "reconstruct": ("stereo4d.cli.reconstruct", "a video, or images, into a 4D scene"),
    "align": ("stereo4d.cli.align", "stored pair predictions into a 4D scene"),
    "view": ("stereo4d.cli.view", "look at a scene in Rerun"),
    "export": ("stereo4d.cli.export", "a scene as files of other programs"),
    "pair": ("stereo4d.cli.pair", "two images into pointmaps"),
    "fit": ("stereo4d.cli.fit", "train a network (LightningCLI)"),
    "validate": ("stereo4d.cli.fit", "validate a network (LightningCLI)"),
    "test": ("stereo4d.cli.fit", "test a network (LightningCLI)"),
    "predict": ("stereo4d.cli.fit", "predict with a network (LightningCLI)"),
    "synthesize": ("stereo4d.cli.synthesize", "a dynamic clip with exact ground truth"),
    "evaluate": ("stereo4d.cli.evaluate", "measure weights on held-out data with truth"),
    "weights": ("stereo4d.cli.weights", "what is published and what is here: list, show, fetch, convert"),
    "check-head": ("stereo4d.cli.check_head", "what a new head must hold to, tried"),
    "check-data": ("stereo4d.cli.check_data", "pairs, depth, cameras and files of a recipe's data, checked"),
    "doctor": ("stereo4d.cli.doctor", "what this machine can run, and what is missing"),
}
"""Command -> (module, one line of help). The module is imported only when its command is run."""

PASSED_ON = frozenset({"fit", "validate", "test", "predict"})
"""Commands whose arguments Lightning parses: ``main(argv)`` of their module gets everything, command name included."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 3 partly done, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _process_manners():
            code = dispatch(arguments)
            sys.stdout.flush()  # a reader that went away is noticed here, not in the interpreter's last breath
            return code
    except SystemExit as leaving:  # --help and --version, and Lightning's own parser
        return leaving.code if isinstance(leaving.code, int) else DONE
    except BaseException as error:
        if debug:
            traceback.print_exc()
        line, code = failure(error)
        _give_up_broken_stdout()
        print_error(line)
        return code


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name.

    Raises:
        UsageError: there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return DONE
    if arguments[0] == "--version":
        from stereo4d import __version__

        print(f"stereo4d {__version__}")
        return DONE
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is not a command; there are {', '.join(COMMANDS)} (see: stereo4d --help)")
    module = import_module(COMMANDS[name][0])
    if name in PASSED_ON:
        return module.main(list(arguments)) or DONE
    if (actions := getattr(module, "ACTIONS", None)) is not None:
        return run_action(actions, rest, prog=f"stereo4d {name}")
    return run_command(getattr(module, name.replace("-", "_")), rest, prog=f"stereo4d {name}")


def help_text() -> str:
    """What ``stereo4d --help`` prints."""
    lines = [f"  {name:<13}{text}" for name, (_, text) in COMMANDS.items()]
    usage = "usage: stereo4d [--version] [--debug] COMMAND ..."
    more = "stereo4d COMMAND --help says more; --debug shows the traceback of a failure."
    return "\n".join([usage, "", "Video in, 4D out.", "", "commands:", *lines, "", more])


@contextmanager
def _process_manners() -> Iterator[None]:
    """Warnings as plain lines on stderr, and SIGTERM as Ctrl-C, for as long as a command runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter())
    logger = logging.getLogger("stereo4d")
    logger.addHandler(handler)
    logger.propagate = False
    previous = _on_terminate(_interrupt)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        _on_terminate(previous)


def _give_up_broken_stdout() -> None:
    """Forget what cannot be written to stdout (reader gone, disk full); else the interpreter complains once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line: the program, the level, the message."""
        return f"stereo4d: {record.levelname.lower()}: {record.getMessage()}"


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _on_terminate(handler: Any) -> Any:
    """Set the handler of SIGTERM and return the one before; outside the main thread signals are left alone."""
    try:
        return signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
