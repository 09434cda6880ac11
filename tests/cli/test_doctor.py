"""``stereo4d doctor`` says what is here and what is not, and its exit code says whether that will do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import stereo4d
from stereo4d.cli import doctor
from stereo4d.cli.main import main


def findings(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, dict]:
    assert main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] == (code == 0)
    return {check["name"]: check for check in report["checks"]}


def test_a_machine_that_passes_the_tests_is_healthy(capsys):
    found = findings(capsys, 0)
    assert torch.__version__ in found["torch"]["detail"]
    assert found["accelerator"]["good"] == torch.cuda.is_available()
    assert {"av", "decord", "images"} <= set(found["readers"]["detail"].split(", "))
    assert "sha256" in found["embedded weights"]["detail"]


def test_lines_say_the_same_as_json(capsys):
    found = findings(capsys, 0)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[8:26].strip() for line in lines[:-1]] == list(found)


def test_a_missing_required_part_is_named_and_fails(capsys, monkeypatch):
    def gone() -> str:
        raise RuntimeError("the\ncellar is empty")

    monkeypatch.setattr(doctor, "CHECKS", (*doctor.CHECKS[:1], ("cellar", True, gone), ("wine", False, gone)))
    found = findings(capsys, 1)
    assert found["cellar"] == {"name": "cellar", "good": False, "required": True, "detail": "the cellar is empty"}
    assert main(["doctor"]) == 1
    assert "MISSING cellar" in capsys.readouterr().out


def test_a_missing_optional_part_does_not_fail(capsys, monkeypatch):
    def gone() -> str:
        raise RuntimeError("none here")

    monkeypatch.setattr(doctor, "CHECKS", (("wine", False, gone),))
    assert not findings(capsys, 0)["wine"]["good"]


def test_embedded_weights_that_are_damaged_are_found(tmp_path):
    # A copy of the package whose weights are cut short, run as a user would run it.
    package = Path(stereo4d.__file__).parent
    shutil.copytree(package, tmp_path / "stereo4d", ignore=shutil.ignore_patterns("__pycache__", "*.mp4", "*.png"))
    weights = tmp_path / "stereo4d" / "assets" / "embedded" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    code = "from stereo4d.cli.main import main; raise SystemExit(main(['doctor']))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("MISSING"))
    assert "embedded weights" in line
    assert str(weights) in line
