"""The frame around all commands: light, one line on failure, exit codes that mean something."""

import json
import math
import os
import resource
import subprocess
import sys
from argparse import ArgumentError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from stereo4d import __version__
from stereo4d.cli.common import build_parser, failure, one_line, run_command
from stereo4d.cli.main import COMMANDS, main
from stereo4d.errors import InputError, UsageError

PYTHON = [sys.executable, "-X", "importtime", "-m", "stereo4d.cli.main"]


def sample(
    image: str,
    *,
    out: Path,
    max_frames: int | None = None,
    kind: Literal["a", "b"] = "a",
    dry_run: bool = False,
    names: list[str] = [],  # noqa: B006  never changed; an option that takes several values
) -> int:
    """Do something.

    Args:
        image: which image, 100% of it.
        out: where to.
        max_frames: at most.
        kind: a or b.
        dry_run: only say it.
        names: several.
    """
    seen.update(image=image, out=out, max_frames=max_frames, kind=kind, dry_run=dry_run, names=names)
    return 0


seen: dict = {}


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("argument", ["--help", "--version", "reconstruct", "align"])
def test_help_is_quick_and_imports_no_torch(argument):
    argv = [argument] if argument.startswith("--") else [argument, "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([*PYTHON, *argv], capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0
    assert process.stdout
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    assert "stereo4d.cli.common" in imported
    assert not {"torch", "lightning", "rerun", "av", "decord", "cv2"} & imported
    # Processor time, not the clock: the machine may be busy with other things.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_every_command_has_its_module():
    for name, (module, _) in COMMANDS.items():
        assert (Path(__file__).parents[2] / (module.replace(".", "/") + ".py")).is_file(), name


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stereo4d {__version__}\n"


def test_an_unknown_command_is_wrong_usage(capsys):
    assert main(["reconstrct"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'reconstrct' is not a command; there are reconstruct" in error


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "missing: INPUTS, --out"),
        (["a.mp4"], "missing: --out"),
        (["a.mp4", "--out", "x", "--stride", "two"], "--stride: 'two' is not of type int"),
        (["a.mp4", "--out", "x", "--fbs", "3"], "unrecognized arguments: --fbs 3"),
        (["a.mp4", "--out", "x", "--stride", "2", "--fps", "3"], "--stride and --fps exclude each other"),
        (["a.mp4", "--out", "x", "--max-frames", "0"], "--max-frames: 0 must be above 0"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_one_line_that_names_the_option(argv, reason, capsys):
    assert main(["reconstruct", *argv]) == 2
    error = capsys.readouterr().err
    assert reason in last_line(error)
    assert error.count("\n") == 1


def test_debug_shows_where_a_failure_came_from_and_the_line_still_comes_last(capsys):
    assert main(["reconstruct", "no-such.mp4", "--out", "x", "--debug"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert last_line(error) == "stereo4d: error: no-such.mp4: no such file"


def test_a_signature_becomes_a_command_line():
    argv = ["a.png", "--out", "x", "--max-frames", "3", "--kind", "b", "--dry-run", "--names", "p", "q"]
    assert run_command(sample, argv, "sample") == 0
    expected = {"image": "a.png", "out": Path("x"), "max_frames": 3, "kind": "b", "dry_run": True, "names": ["p", "q"]}
    assert seen == expected


@dataclass(frozen=True)
class Inner:
    """Options of options."""

    weight: float = math.inf
    """How much."""
    strict: bool = False
    """Mind ``everything``."""


@dataclass(frozen=True)
class Group:
    """Options that commands share."""

    graph: str | None = None
    """Which pairs."""
    inner: Inner = field(default_factory=Inner)
    """The rest."""

    def __post_init__(self) -> None:
        if self.graph == "none":
            raise UsageError("--graph none: name one")


def grouped(image: str, *, options: Group, quiet: bool = False) -> None:
    """Do something else.

    Args:
        image: which.
        options: how.
        quiet: say nothing.
    """
    seen.update(image=image, options=options, quiet=quiet)


def test_a_group_of_options_is_given_as_its_options():
    argv = ["a.png", "--graph", "complete", "--weight", "2.5", "--strict", "--quiet"]
    assert run_command(grouped, argv, "grouped") == 0
    assert seen["options"] == Group("complete", Inner(2.5, True))
    assert run_command(grouped, ["a.png"], "grouped") == 0
    assert seen["options"] == Group()


def test_a_groups_options_have_their_help_and_their_errors(tmp_path):
    text = one_line(build_parser(grouped, "grouped").format_help())
    assert "Which pairs." in text
    assert "Mind everything." in text
    assert "--options" not in text
    assert "--inner" not in text
    with pytest.raises(UsageError, match="--weight: 'much' is not of type float"):
        run_command(grouped, ["a.png", "--weight", "much"], "grouped")
    with pytest.raises(UsageError, match="--graph none: name one"):
        run_command(grouped, ["a.png", "--graph", "none"], "grouped")
    (tmp_path / "options.yaml").write_text("weight: 3.5\n")
    run_command(grouped, ["a.png", "--config", str(tmp_path / "options.yaml")], "grouped")
    assert seen["options"].inner.weight == 3.5


def test_options_can_come_from_a_file_and_later_ones_win(tmp_path):
    (tmp_path / "options.yaml").write_text("max_frames: 3\nkind: b\n")
    argv = ["a.png", "--out", "x", "--config", str(tmp_path / "options.yaml"), "--kind", "a"]
    assert run_command(sample, argv, "sample") == 0
    assert (seen["max_frames"], seen["kind"]) == (3, "a")


def test_a_file_with_an_unknown_option_is_refused(tmp_path):
    (tmp_path / "options.yaml").write_text("max_fames: 3\n")
    with pytest.raises(UsageError, match="max_fames"):
        run_command(sample, ["a.png", "--out", "x", "--config", str(tmp_path / "options.yaml")], "sample")


def test_a_wrong_choice_is_named():
    with pytest.raises(UsageError, match=r"--kind: 'c' is not of type .*'a', 'b'"):
        run_command(sample, ["a.png", "--out", "x", "--kind", "c"], "sample")


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (InputError("a.mp4: broken\n  twice"), "a.mp4: broken twice", 1),
        (UsageError("--size: bad"), "--size: bad", 2),
        (ArgumentError(None, 'Parser key "trainer.max_steps":\n  No int: x'), "--trainer.max_steps: No int: x", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied", 1),
        (OSError(28, "No space left on device", "out/a"), "out/a: cannot be written, no space left", 1),
        (MemoryError(), "out of memory; lower --size", 1),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError: division by zero", 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_has_a_line_and_a_code(error, line, code):
    assert failure(error)[0].startswith(line)
    assert failure(error)[1] == code
    assert "\n" not in failure(error)[0]


def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "stereo4d.cli.main", "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "standard output: cannot be written, no space left" in process.stderr


def test_a_reader_that_goes_away_is_one_line():
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "stereo4d.cli.main", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert process.returncode == 1
    assert process.stderr == "stereo4d: error: standard output was closed by its reader\n"


def test_json_is_one_object_on_one_line(capsys):
    from stereo4d.cli.common import print_json

    print_json({"frames": 3, "note": "ä\n"})
    assert json.loads(capsys.readouterr().out) == {"frames": 3, "note": "ä\n"}
