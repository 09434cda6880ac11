"""What all commands share: from a function's signature to a command line, exit codes, one-line errors.

A command is a function. Parameters before ``*`` are positional arguments, keyword-only parameters are options:
``*, max_frames: int | None = None`` becomes ``--max-frames``. A keyword-only parameter without a default is a required
option, a ``bool`` that is False by default is a flag, ``list[...]`` takes one value or more, and none at all
where it has a default. Help texts come from the docstring.

Options that several commands share are a dataclass: a keyword-only parameter whose type is one stands for its fields,
each an option of its own (``options: Options`` has ``weights``, so there is ``--weights``), whose help texts come from
the fields' docstrings. Dataclasses may hold dataclasses.
"""

from __future__ import annotations

import errno
import inspect
import json
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from stereo4d.errors import Stereo4DError, UsageError

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all done; failed; the command line is wrong; some of several inputs failed; Ctrl-C or SIGTERM."""

Command = Callable[..., int | None]


@dataclass(frozen=True)
class Argument:
    """One argument of a command line."""

    name: str
    hint: Any
    default: Any
    """``inspect.Parameter.empty`` where it must be given."""
    text: str
    """Its help."""
    positional: bool = False
    several: bool = False
    """Whether it takes one value or more; with a default, also none."""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    @property
    def typed(self) -> str:
        """Its name as people type it, or as usage lines show it."""
        return self.name.upper() if self.positional and self.required else option_name(self.name)

    def add_to(self, parser: ArgumentParser) -> None:
        """Make a parser take it."""
        settings: dict[str, Any] = {"help": self.text.replace("%", "%%"), "type": self.hint}
        if self.several:
            kind = next((kind for kind in (self.hint, *get_args(self.hint)) if get_origin(kind) is list), None)
            settings |= {"nargs": "+" if self.required else "*", "type": get_args(kind)[0] if kind else self.hint}
        if self.positional and self.required:
            parser.add_argument(self.name, metavar=self.name.upper(), **settings)
            return
        if self.default is False:
            settings = {"help": settings["help"], "action": "store_true"}
        elif self.required:
            settings["required"] = True
        else:
            settings["default"] = self.default
        parser.add_argument(option_name(self.name), **settings)


def build_parser(command: Command, prog: str) -> ArgumentParser:
    """A parser whose arguments are the parameters of ``command``."""
    from docstring_parser import parse

    description = parse(inspect.getdoc(command) or "").short_description
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="Read options from a YAML file; options given later win.")
    for argument in arguments_of(command):
        argument.add_to(parser)
    return parser


def arguments_of(command: Command) -> Iterator[Argument]:
    """The arguments that a command's parameters are, those of its groups of options included."""
    texts, hints = _help_texts(command), get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        hint, keyword = hints.get(name, str), parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if is_dataclass(hint):
            yield from _arguments_of_group(hint)
            continue
        several = _is_list(hint) or parameter.kind is inspect.Parameter.VAR_POSITIONAL
        yield Argument(name, hint, parameter.default, texts.get(name) or name, not keyword, several)


def _arguments_of_group(group: Any) -> Iterator[Argument]:
    """The options that the fields of a dataclass are."""
    texts, hints = _help_texts(group), get_type_hints(group)
    for entry in fields(group):
        if is_dataclass(hint := hints[entry.name]):
            yield from _arguments_of_group(hint)
        else:
            default = inspect.Parameter.empty if entry.default is MISSING else entry.default
            yield Argument(entry.name, hint, default, texts.get(entry.name) or entry.name, several=_is_list(hint))


def _is_list(hint: Any) -> bool:
    """Whether a type is a list, or a list or None."""
    return any(get_origin(kind) is list for kind in (hint, *get_args(hint)))


def _help_texts(documented: Any) -> dict[str, str]:
    """What docstrings say about the parameters of a function, or the fields of a dataclass."""
    from docstring_parser import parse, parse_from_object

    docstring = parse_from_object(documented) if is_dataclass(documented) else parse(inspect.getdoc(documented) or "")
    return {entry.arg_name.lstrip("*"): (entry.description or "").replace("``", "") for entry in docstring.params}


def _built(group: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass from the values of its options."""
    hints = get_type_hints(group)
    nested = {entry.name: hints[entry.name] for entry in fields(group) if is_dataclass(hints[entry.name])}
    plain = {entry.name: values[entry.name] for entry in fields(group) if entry.name not in nested}
    return group(**plain, **{name: _built(inner, values) for name, inner in nested.items()})


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
    hints = get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints.get(name)):
            keywords[name] = _built(hints[name], values)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += values[name]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            keywords[name] = values[name]
        else:
            positional.append(values[name])
    return command(*positional, **keywords) or DONE


def run_action(actions: Mapping[str, Command], argv: Sequence[str], prog: str) -> int:
    """Run the one of several actions that ``argv`` names first: each is a command of its own.

    Raises:
        UsageError: there is no such action, or the arguments do not fit it.
    """
    if not argv or argv[0] in ("-h", "--help"):
        first = {name: (inspect.getdoc(action) or "").split("\n")[0].rstrip(".") for name, action in actions.items()}
        lines = [f"  {name:<9}{text}" for name, text in first.items()]
        more = f"{prog} ACTION --help says more."
        print("\n".join([f"usage: {prog} ACTION ...", "", "actions:", *lines, "", more]))
        return DONE
    if argv[0] not in actions:
        raise UsageError(f"{argv[0]!r} is not an action of {prog}; there are {', '.join(actions)} (see: {prog} --help)")
    return run_command(actions[argv[0]], argv[1:], prog=f"{prog} {argv[0]}")


def usage_reason(error: Exception, command: Command) -> str:
    """What is wrong with the command line, in one line that names the option as it was typed."""
    text = one_line(str(error))
    arguments = {argument.name: argument for argument in arguments_of(command)}

    def typed(name: str) -> str:
        """A parameter's name as it was typed."""
        return arguments[name].typed if name in arguments else option_name(name)

    if wrong := re.match(r'Parser key "(\w+)":? .*(?:Given value|Got value): (.*)$', text):
        name, value = wrong.groups()
        hint = arguments[name].hint if name in arguments else "expected"
        kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        return f"{typed(name)}: {value!r} is not of type {kind}"
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
