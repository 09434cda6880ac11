"""``make`` installs once, says what it needs, and CI runs what people run."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None, reason="make is missing: apt install make, or what your system calls it"
)


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", ROOT, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("target", ["demo", "test"])
@pytest.mark.parametrize("python", ["old", "missing"])
def test_without_a_new_enough_python_one_line_says_so(tmp_path, target, python):
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = make(target, f"VENV={tmp_path / 'venv'}", f"PYTHON={tmp_path / python}")
    assert result.returncode != 0
    assert "stereo4d needs Python >= 3.11" in result.stderr
    assert f"make PYTHON=python3.12 {target}" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_second_call_installs_nothing(tmp_path):
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "python").touch()
    first = make("--dry-run", "demo", f"VENV={tmp_path}").stdout
    assert "pip install" in first
    (tmp_path / ".installed").touch()
    second = make("--dry-run", "demo", f"VENV={tmp_path}", "INPUT=my.mp4").stdout
    assert "pip install" not in second
    assert 'reconstruct "my.mp4" --out "demo-out"' in second


def test_changed_requirements_install_again(tmp_path):
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "python").touch()
    (tmp_path / ".installed-dev").touch()
    assert "pip install" not in make("--dry-run", "test", f"VENV={tmp_path}").stdout
    changed = make("--dry-run", "--what-if=constraints.txt", "test", f"VENV={tmp_path}").stdout
    assert '-c constraints.txt -e ".[dev]"' in changed


def test_make_test_is_style_types_and_tests(tmp_path):
    said = make("--dry-run", "test", f"VENV={tmp_path}").stdout
    tests = "python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations=25"
    for command in ("ruff check .", "ruff format --check .", "mypy", tests):
        assert f"{tmp_path}/bin/{command}\n" in said


def test_ci_runs_exactly_make_test():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "exec make test"
    assert not any("install" in line for line in lines)


def test_constraints_pin_names_to_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    assert not [pin for pin in pins if pin.startswith(("nvidia-", "cuda-", "triton"))]  # torch brings what fits it
    pinned = {pin.partition("==")[0].lower() for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[A-Za-z0-9._-]+", entry)[0].lower() for entry in wanted}  # type: ignore[index]
    assert names - pinned <= {"decord2"}  # decord's stand-in where decord has no wheels
