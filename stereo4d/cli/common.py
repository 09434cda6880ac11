"""What all commands share: from a function's signature to a command line, exit codes, one-line errors.

A command is a function. Parameters before ``*`` are positional arguments, keyword-only parameters are options:
``*, max_frames: int | None = None`` becomes ``--max-frames``. A keyword-only parameter without a default is a required
option, a ``bool`` that is False by default is a flag, ``list[...]`` takes one value or more. Help texts come from the
docstring.
"""

from __future__ import annotations

import errno
import inspect
import json
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from stereo4d.errors import Stereo4DError, UsageError

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all done; failed; the command line is wrong; some of several inputs failed; Ctrl-C or SIGTERM."""

Command = Callable[..., int | None]


def build_parser(command: Command, prog: str) -> ArgumentParser:
    """A parser whose arguments are the parameters of ``command``."""
    from docstring_parser import parse

    docstring = parse(inspect.getdoc(command) or "")
    texts = {entry.arg_name.lstrip("*"): entry.description or "" for entry in docstring.params}
    parser = ArgumentParser(prog=prog, description=docstring.short_description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="Read options from a YAML file; options given later win.")
    hints = get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        _add_argument(parser, parameter, hints.get(name, str), (texts.get(name) or name).replace("%", "%%"))
    return parser


def _add_argument(parser: ArgumentParser, parameter: inspect.Parameter, hint: Any, text: str) -> None:
    """Add one parameter of a command to its parser."""
    settings: dict[str, Any] = {"help": text, "type": hint}
    several = get_origin(hint) is list or parameter.kind is inspect.Parameter.VAR_POSITIONAL
    if several:
        settings |= {"nargs": "+", "type": (get_args(hint) or (hint,))[0]}
    required = parameter.default is inspect.Parameter.empty
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and required:
        parser.add_argument(parameter.name, metavar=parameter.name.upper(), **settings)
        return
    if parameter.default is False:
        settings = {"help": text, "action": "store_true"}
    elif required:
        settings["required"] = True
    else:
        settings["default"] = parameter.default
    parser.add_argument(option_name(parameter.name), **settings)


def option_name(parameter: str) -> str:
    """``max_frames`` as it is typed: ``--max-frames``."""
    return "--" + parameter.replace("_", "-")


def run_command(command: Command, argv: Sequence[str], prog: str) -> int:
    """Parse ``argv`` and call ``command`` with what it says.

    Raises:
        UsageError: the arguments do not fit the command.
    """
    parser = build_parser(command, prog)
    try:
        values = parser.parse_args(list(argv)).as_dict()
    except (ArgumentError, TypeError) as error:
        raise UsageError(f"{usage_reason(error, command)} (see: {prog} --help)") from error
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += values[name]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            keywords[name] = values[name]
        else:
            positional.append(values[name])
    return command(*positional, **keywords) or DONE


def usage_reason(error: Exception, command: Command) -> str:
    """What is wrong with the command line, in one line that names the option as it was typed."""
    text = one_line(str(error))
    parameters = inspect.signature(command).parameters
    hints = {name: str(parameter.annotation) for name, parameter in parameters.items()}
    optional = {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY or p.default is not p.empty}

    def typed(name: str) -> str:
        return option_name(name) if name in optional else name.upper()

    if wrong := re.match(r'Parser key "(\w+)":? .*(?:Given value|Got value): (.*)$', text):
        name, value = wrong.groups()
        return f"{typed(name)}: {value!r} is not of type {hints.get(name, 'expected')}"
    if missing := re.match(r"the following arguments are required: (.*)$", text):
        return "missing: " + ", ".join(typed(name.strip()) for name in missing[1].split(","))
    return text


def one_line(text: str) -> str:
    """A message as a single line."""
    return re.sub(r"\s+", " ", text).strip()


def failure(error: BaseException) -> tuple[str, int]:
    """The last line on stderr, and the exit code, for whatever ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return one_line(str(error)) or "interrupted", INTERRUPTED
    if isinstance(error, Stereo4DError):
        return one_line(str(error)), error.exit_code
    if isinstance(error, ArgumentError):  # from Lightning's parser, whose options are nested: --trainer.max_steps
        return re.sub(r'Parser key "([^"]+)":', r"--\1:", one_line(str(error))), USAGE
    if isinstance(error, BrokenPipeError):
        return "standard output was closed by its reader", FAILED
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; lower --size, or take fewer frames (--max-frames, --stride)", FAILED
    if isinstance(error, OSError):
        return os_reason(error), FAILED
    return f"unexpected {type(error).__name__}: {one_line(str(error))} (--debug shows where)", FAILED


def os_reason(error: OSError) -> str:
    """An operating system error with its file and its reason."""
    path = error.filename if error.filename is not None else "standard output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path}: cannot be written, no space left ({error.strerror}); make room or write elsewhere"
    return f"{path}: {error.strerror or one_line(str(error))}"


def print_json(data: Mapping[str, Any]) -> None:
    """Write one JSON object as a line on stdout."""
    sys.stdout.write(json.dumps(data) + "\n")


def print_error(reason: str) -> None:
    """Write one line about a failure on stderr."""
    print(f"stereo4d: error: {reason}", file=sys.stderr, flush=True)
