"""What is wrong with a recipe, in one line: which key, what it should be, what is near.

The parser's own messages are right, and buried: every class that may be None is tried as both, and all attempts are
told, with all that was given. Here they are dug out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, get_args, get_type_hints

from stereo4d.cli.common import one_line
from stereo4d.errors import Stereo4DError, UsageError

_UNION = re.compile(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ")
_OTHERS = re.compile(r" - (Expected a <class 'NoneType'>|Given value type: |Not a valid subclass of ).*$")
_PLACE = re.compile(
    r'^(?:Parser key "(?P<key>[^"]+)":|--(?P<option>[\w.+\[\]-]+):'
    r"|Problem with given class_path '(?P<kind>[\w.]+)':) "
)
_UNKNOWN = (
    re.compile(r"Option '(?P<name>[\w.]+)' is not accepted"),
    re.compile(r"Group '(?P<group>[\w.]+)' does not accept (?:option|nested key) '(?P<name>[\w.]+)'"),
    re.compile(r"Subcommand '\w+' does not accept (?:option|nested key) '(?P<name>[\w.]+)'"),
    re.compile(r"[Uu]nrecognized arguments: --(?P<name>[\w.+]+)"),
)
_NO_CLASS = re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'")
_TYPE = re.compile(
    r"(?:Expected a|Not of type|Not a valid) <class '(?P<type>[\w.]+)'>\.?:? (?:Got|Given) value: (?P<value>.*)$"
)


@dataclass(frozen=True)
class _Found:
    """A complaint without its wrapping."""

    place: str
    """Dotted, as in the recipe: ``model.init_args.network``; empty at the top."""
    kind: str
    """Class path of the class that complains; empty at the top."""
    text: str


def explained(error: BaseException, top: Sequence[str] = ()) -> Stereo4DError:
    """What a recipe's parser, or a class that it made, raised, as an error of ours in one line.

    Args:
        error: of the parser.
        top: keys that may stand at the top of a recipe.
    """
    for cause in _chain(error):
        if isinstance(cause, Stereo4DError):
            return cause
    found = _unwrapped(one_line(str(error)))
    where = f"{found.place}: " if found.place else ""
    for pattern in _UNKNOWN:
        if match := pattern.match(found.text):
            parts = match.groupdict()
            name = ".".join(part for part in (parts.get("group"), parts["name"]) if part)
            inside = f"{found.place}." if found.place else ""
            return UsageError(f"{inside}{name}: there is no such key{_advice(found.kind, name, top)}")
    if match := _NO_CLASS.search(found.text):
        return UsageError(
            f"{where}{match['module']} has no {match['name']}{_near_class(match['module'], match['name'])}"
        )
    if match := _TYPE.match(found.text):
        return UsageError(f"{where}{match['value']!r} is not of type {match['type'].rpartition('.')[2]}")
    return UsageError(f"{where}{found.text}")


def without_worker(error: Stereo4DError) -> Stereo4DError:
    """An error that a loader's worker raised, without the worker's traceback that comes with it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines or not lines[0].startswith("Caught "):
        return error
    said = re.sub(rf"^(?:[\w.]+\.)?{type(error).__name__}: ", "", lines[-1])
    return type(error)(said)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _unwrapped(text: str) -> _Found:
    """Follow the complaint down to the class that makes it."""
    place, kind = "", ""
    while True:
        text = _UNION.sub("", text, count=1) if _UNION.match(text) else text
        text = _OTHERS.sub("", text)
        match = _PLACE.match(text)
        if match is None:
            return _Found(place, kind, text)
        text = text[match.end() :]
        if match["kind"]:
            kind, place = match["kind"], f"{place}.init_args" if place else "init_args"
        else:
            place = ".".join(part for part in (place, match["key"] or match["option"]) if part)


def _advice(kind: str, name: str, top: Sequence[str]) -> str:
    """What is near a key that does not exist, and what there is."""
    *groups, last = name.split(".")
    known = _parameters(_load(kind), groups) if kind else _top_keys(groups, top)
    if not known:
        return ""
    near = get_close_matches(last, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _top_keys(groups: Sequence[str], top: Sequence[str]) -> list[str]:
    inside = ".".join(groups) + "." if groups else ""
    return sorted({key.removeprefix(inside).split(".")[0] for key in top if key.startswith(inside)})


def _near_class(module: str, name: str) -> str:
    found = _load(module)
    names = [key for key, value in vars(found).items() if inspect.isclass(value)] if found else []
    near = get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _load(path: str) -> Any:
    """A module, or a class in one; None where there is none."""
    module, _, name = path.rpartition(".")
    try:
        return import_module(path)
    except ImportError:
        return getattr(import_module(module), name, None) if module else None


def _parameters(kind: Any, groups: Sequence[str]) -> list[str]:
    """Names of a class's parameters, or of those of a parameter of it."""
    for group in groups:
        hint = get_type_hints(kind.__init__).get(group)
        kind = next((part for part in (hint, *get_args(hint)) if inspect.isclass(part)), None)
        if kind is None:
            return []
    return [name for name in inspect.signature(kind).parameters if name not in ("self", "args", "kwargs")]
