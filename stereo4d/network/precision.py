"""Which number format to compute in, by what the processor does natively."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from stereo4d.errors import UsageError

PRECISIONS = ("exact", "auto", "bf16")
_NATIVE_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 names, then Arm's
_CPU_INFO = Path("/proc/cpuinfo")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The reduced format for encoder and decoder, or None for float32. Heads always run in float32.

    Args:
        precision: ``exact`` is float32; ``bf16`` is bfloat16 whatever it costs; ``auto`` is bfloat16 where the
            processor multiplies it natively, else float32: emulated it is many times slower (benchmarks/precision.py).
        device: where the network runs.

    Raises:
        UsageError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if precision == "exact" or (precision == "auto" and not has_native_bf16(device)):
        return None
    return torch.bfloat16


def resolve_device(name: str) -> torch.device:
    """The device that a name means; ``auto`` is a GPU if there is one.

    Raises:
        UsageError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!r} is not available on this machine; use cpu, or auto to choose") from error
    return device


def has_native_bf16(device: torch.device) -> bool:
    """Whether matrix products of bfloat16 run in hardware there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(_NATIVE_BF16_FLAGS & cpu_flags(_CPU_INFO))


@cache
def cpu_flags(cpu_info: Path) -> frozenset[str]:
    """Instruction set extensions as Linux names them; empty where it does not say."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
