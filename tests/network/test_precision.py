from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stereo4d.errors import UsageError
from stereo4d.network import precision
from stereo4d.network.precision import choose, cpu_flags, resolve_device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu sse avx2 fma", False),
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("Features\t: fp asimd", False),
    ],
)
def test_auto_reduces_only_where_the_processor_multiplies_bf16_itself(
    line: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\n{line}\n")
    monkeypatch.setattr(precision, "_CPU_INFO", info)
    assert choose("auto", CPU).reduced == (torch.bfloat16 if native else None)
    assert choose("exact", CPU).reduced is None
    assert choose("exact", CPU).full
    assert choose("bf16", CPU).reduced == torch.bfloat16


def test_a_system_that_does_not_say_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "nothing") == frozenset()


def test_unknown_precisions_and_devices_are_named() -> None:
    with pytest.raises(UsageError, match="'perfect'"):
        choose("perfect", CPU)
    with pytest.raises(UsageError, match="'abacus'"):
        resolve_device("abacus")
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda")
