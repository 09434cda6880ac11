"""How much memory a stage took."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Start measuring anew, where the system allows it (Linux); elsewhere peaks are those of the whole process."""
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")  # resets the high-water mark of resident memory, and nothing else


def peak_memory() -> int | None:
    """The most resident memory in bytes since ``reset_peak_memory``; None where the system does not say."""
    if (peak := _status("VmHWM:")) is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return whole if sys.platform == "darwin" else whole * 1024


def _status(field: str) -> int | None:
    """A field of Linux's process status, in bytes."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None
