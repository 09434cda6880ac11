"""Constructor strings stored in published ``.pth`` files, read without ever running them."""

from __future__ import annotations

import ast
import math
from typing import Any

from stereo4d.errors import UnsafeCheckpointError

KNOWN_CLASSES = ("AsymmetricCroCo3DStereo", "AsymmetricMASt3R", "CroCoNet")
_LENGTH_LIMIT = 10_000
"""Characters; published ones have 700. Python's own parser takes a hundred times the memory of its text."""
_DEPTH_LIMIT = 4


def parse_constructor(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``Name(option=value, ...)``.

    Values may be numbers, strings, booleans, None, tuples or lists of those, a minus sign, and the name ``inf``.

    Args:
        text: the expression as stored, whatever its spacing.

    Returns:
        The class name and the options.

    Raises:
        UnsafeCheckpointError: it is anything else.
    """
    if len(text) > _LENGTH_LIMIT:
        raise _refusal(text)
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refusal(text) from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in KNOWN_CLASSES:
        raise _refusal(text)
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise _refusal(text)
    options = {str(keyword.arg): _value(keyword.value, text) for keyword in call.keywords}
    if len(options) < len(call.keywords):
        raise _refusal(text)
    return call.func.id, options


def _value(node: ast.expr, text: str, depth: int = 0) -> Any:
    if depth > _DEPTH_LIMIT:
        raise _refusal(text)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(entry, text, depth + 1) for entry in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, text, depth + 1)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    raise _refusal(text)


def _refusal(text: str) -> UnsafeCheckpointError:
    shown = text if len(text) <= 120 else text[:117] + "..."
    return UnsafeCheckpointError(
        f"its constructor string {shown!r} is not one of {', '.join(KNOWN_CLASSES)} with plain options; it was not run"
    )
