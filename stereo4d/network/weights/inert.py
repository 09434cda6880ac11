"""What a pickle asks for, listed without running it, and stand-ins for what is harmless but not ours to load.

A pickle is a program. PyTorch's restricted reader runs it with an allow-list; this module looks at the program first:
which names it asks for, and whether it could make far more memory than it is long.
"""

from __future__ import annotations

import pickle
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable
from dataclasses import dataclass
from encodings import normalize_encoding
from typing import IO, Any

from stereo4d.errors import CheckpointError

_NEEDED = frozenset(
    {
        "_codecs.encode",  # bytes of NumPy scalars
        "argparse.Namespace",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.device",
        "torch.nn.parameter.Parameter",
        *(f"torch.{kind}Storage" for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int")),
        *(f"torch.{kind}Storage" for kind in ("ComplexDouble", "ComplexFloat", "Long", "Short")),
        *(f"torch.{kind}" for kind in ("bfloat16", "bool", "float16", "float32", "float64", "int32", "int64", "uint8")),
    }
)
"""What weights are made of. PyTorch's own list is longer: of it, ``bytearray(10**11)`` alone can fill the memory."""
_HARMLESS_PREFIXES = (
    "collections.",
    "datetime.",
    "jsonargparse.",
    "lightning.",
    "numpy._core.multiarray.",
    "numpy.core.multiarray.",
    "numpy.dtypes.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "stereo4d.",
    "torch.optim.",
    "typing.",
)
_HARMLESS = frozenset(
    {
        "_operator.getitem",  # how Optional[int] is written
        "operator.getitem",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "object")),
        *(f"builtins.{name}" for name in ("slice", "str", "tuple")),
    }
)
_UNUSED_OPCODES = frozenset({"EXT1", "EXT2", "EXT4", "INST", "OBJ", "STACK_GLOBAL"})
"""Opcodes that name classes in ways that need more than a look."""
_COPIERS = frozenset({"_codecs.encode", "builtins.set", "collections.Counter"})
_COPY_LIMIT = 1 << 30  # bytes
# encodings whose output can be encoded again, and so grow without end, and two that take quadratic time
_TRANSFORMS = frozenset({"base", "base64", "bz2", "hex", "quopri", "quoted", "quotedprintable", "uu", "zip", "zlib"})
_SLOW = frozenset({"idna", "punycode"})


class Inert:
    """Stands for an object of a class that is not loaded: takes any arguments and any state, and does nothing."""

    __slots__ = ()

    def __new__(cls, *_args: Any, **_options: Any) -> Inert:
        """One more of them."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


@dataclass(frozen=True)
class Asked:
    """What a pickle asks for."""

    unsafe: tuple[str, ...]
    """Full names of classes and functions that are neither needed nor harmless."""
    harmless: tuple[str, ...]
    """Full names of those that an ``Inert`` can stand for."""


def scan(streams: Iterable[IO[bytes]], *, allow: Iterable[str] = ()) -> Asked:
    """Look at pickles without running them.

    Args:
        streams: each at the start of a pickle.
        allow: full names that the user allowed.

    Raises:
        CheckpointError: it is no pickle, or one that is short but would fill the memory.
    """
    names: set[str] = set()
    for stream in streams:
        names |= _names(stream)
    wanted = names - _NEEDED - set(allow)
    harmless = {name for name in wanted if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)}
    return Asked(tuple(sorted(wanted - harmless)), tuple(sorted(harmless)))


def _names(stream: IO[bytes]) -> set[str]:
    names: set[str] = set()
    texts: set[str] = set()
    calls = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                names.add(_full_name(*str(argument).split(" ", 1)))
            elif opcode.name in _UNUSED_OPCODES:
                raise CheckpointError(f"its pickle uses {opcode.name}, which torch.save never writes; it was not run")
            elif opcode.name in ("REDUCE", "NEWOBJ"):
                calls += 1
            elif isinstance(argument, str | bytes):
                texts.add(argument if isinstance(argument, str) else argument.decode("latin-1"))
    except (ValueError, EOFError, pickle.UnpicklingError, IndexError, AttributeError) as error:
        raise CheckpointError(f"its pickle is damaged or cut short ({error})") from error
    if names & _COPIERS:
        # a text that is stored once can be copied by every call; a text that is encoded twice can double each time
        longest = max(map(len, texts), default=0)
        if calls * longest > _COPY_LIMIT or any(map(_grows, texts)):
            raise CheckpointError("its pickle is short but could fill the memory (a bomb); it was not run")
    return names


def _grows(text: str) -> bool:
    return normalize_encoding(text).lower().replace(".", "_").split("_")[0] in _TRANSFORMS | _SLOW


def _full_name(module: str, name: str = "") -> str:
    """As Python 3 names it: pickles for Python 2 say ``__builtin__``."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"
