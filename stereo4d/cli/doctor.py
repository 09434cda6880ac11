"""``stereo4d doctor``: what this machine can run, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    good: bool
    required: bool
    """Whether reconstruction fails without it."""
    detail: str


def doctor(*, json: bool = False) -> int:
    """Say what this machine can run, and what is missing; the exit code is 1 if something required is.

    Args:
        json: print one JSON object instead of lines.
    """
    findings = [_examine(name, required, check) for name, required, check in CHECKS]
    healthy = all(finding.good for finding in findings if finding.required)
    if json:
        from stereo4d.cli.common import print_json

        print_json({"healthy": healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok" if finding.good else "MISSING" if finding.required else "no"
            print(f"{mark:<8}{finding.name:<18}{finding.detail}")
        print("all that is required is here" if healthy else "something required is missing")
    return 0 if healthy else 1


def _examine(name: str, required: bool, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, required, check())
    except Exception as error:  # whatever is broken on this machine is what a doctor is asked for
        return Finding(name, False, required, " ".join(str(error).split()) or type(error).__name__)


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _torch() -> str:
    import torch

    torch.linalg.svd(torch.eye(3))
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _accelerator() -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("none that torch can use; everything runs on the CPU")
    free, total = torch.cuda.mem_get_info()
    return f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"


def _bf16() -> str:
    from stereo4d.network.precision import has_native_bf16, resolve_device

    device = resolve_device("auto")
    if not has_native_bf16(device):
        raise RuntimeError(f"not native on the {device.type} here; --precision auto computes in float32")
    return f"native on the {device.type}; --precision auto uses it"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise RuntimeError(f"not installed; pip install {name}") from None


def _readers() -> str:
    from stereo4d import registry

    names = sorted(registry.installed("stereo4d.readers"))
    broken = []
    for name in names:
        try:
            registry.load("stereo4d.readers", name)
        except Exception as error:
            broken.append(str(error))
    if broken or not names:
        raise RuntimeError("; ".join(broken) or "no reader is installed; install stereo4d again")
    return ", ".join(names)


def _heads() -> str:
    from stereo4d import registry

    names = sorted(registry.installed("stereo4d.heads"))
    for name in names:
        registry.load("stereo4d.heads", name)
    if not names:
        raise RuntimeError("no head is installed; install stereo4d again")
    return ", ".join(names)


def _weights() -> str:
    from stereo4d.network.weights import inspect, load_model

    info = inspect("embedded")
    load_model("embedded")
    return f"{info.name}, {info.parameters / 1e6:.1f} M parameters, sha256 {info.sha256}"


def _viewer() -> str:
    from stereo4d.viewing import load_viewer

    load_viewer("rerun")
    return f"rerun-sdk {_package('rerun-sdk')}"


def _window() -> str:
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise RuntimeError("no display here; stereo4d view has --web and --screenshot")
    return "stereo4d view can open a window"


def _disk() -> str:
    free = shutil.disk_usage(".").free
    if free < 1e9:
        raise RuntimeError(f"only {free / 1e9:.2f} GB free in this folder; a long clip needs more")
    return f"{free / 1e9:.0f} GB free in this folder"


CHECKS: tuple[tuple[str, bool, Callable[[], str]], ...] = (
    ("python", True, _python),
    ("torch", True, _torch),
    ("accelerator", False, _accelerator),
    ("bf16", False, _bf16),
    ("readers", True, _readers),
    ("av", True, lambda: _package("av")),
    ("decord", False, lambda: _package("decord" if _decord_wheel() else "decord2")),
    ("heads", True, _heads),
    ("embedded weights", True, _weights),
    ("viewer", True, _viewer),
    ("window", False, _window),
    ("disk", False, _disk),
)
"""Name, whether it is required, and a function that returns what is there or raises what is not."""


def _decord_wheel() -> bool:
    """Whether the dependency is ``decord`` here, rather than ``decord2``, which has wheels for the other platforms."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"
