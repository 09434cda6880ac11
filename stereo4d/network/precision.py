"""Which number format to compute in, by what the processor does natively."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from stereo4d.errors import UsageError
from stereo4d.network.convolution import convolutions, fewer_products_pay

PRECISIONS = ("exact", "auto", "bf16", "fast")
_NATIVE_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 names, then Arm's
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Precision:
    """How a network computes."""

    reduced: torch.dtype | None = None
    """Format of encoder and decoder; None follows the caller's own autocast, if any."""
    full: bool = False
    """Exact float32: no autocast at all, and no shortened TF32 products in convolutions, which GPUs default to."""
    convolutions: torch.dtype | None = None
    """Format of the convolutions in heads, all but the last layer; None is float32, in which all else in heads runs."""
    fewer_products: bool = False
    """Convolutions may trade a little rounding for fewer products; see ``network.convolution``."""

    @contextmanager
    def backbone(self, device: torch.device) -> Iterator[None]:
        """For encoder and decoder."""
        if self.full:
            with self.heads(device):
                yield
        elif self.reduced is None:
            yield
        else:
            with torch.autocast(device.type, self.reduced):
                yield

    @contextmanager
    def heads(self, device: torch.device) -> Iterator[None]:
        """For heads: float32, whatever the caller's autocast says, but for convolutions, if these are reduced."""
        cudnn = torch.backends.cudnn
        untouched = {
            name: getattr(cudnn, name) for name in ("enabled", "benchmark", "benchmark_limit", "deterministic")
        }
        exact = cudnn.flags(**untouched, allow_tf32=False) if self.full else nullcontext()
        ways = convolutions(fewer_products=self.fewer_products, reduced=self.convolutions)
        with torch.autocast(device.type, enabled=False), exact, ways:
            yield


def choose(precision: str, device: torch.device) -> Precision:
    """The precision that a name means on a device.

    Args:
        precision: ``exact`` is float32; ``bf16`` is bfloat16 whatever it costs; ``auto`` is bfloat16 where the
            processor multiplies it natively, else float32: emulated it is many times slower (benchmarks/precision.py).
            Heads stay in float32. ``fast`` is ``auto`` with the heads' convolutions in bfloat16 too, where native.
        device: where the network runs.

    Raises:
        UsageError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if precision == "exact":
        return Precision(full=True)
    reduced = torch.bfloat16 if precision == "bf16" or has_native_bf16(device) else None
    if precision == "fast" and reduced is not None:
        return Precision(reduced, convolutions=reduced)
    return Precision(reduced, fewer_products=fewer_products_pay(device))


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
