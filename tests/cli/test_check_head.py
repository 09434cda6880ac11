"""``stereo4d check-head`` passes every shipped head, and names what is wrong with others in a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stereo4d import registry
from stereo4d.cli.main import main
from stereo4d.errors import PluginError
from stereo4d.head_checks import CHECKS, find_head
from stereo4d.head_checks.lab import Lab
from stereo4d.head_checks.table import examine
from stereo4d.network.head import GROUP

BAD = "tests.bad_heads"
DPT = {"feature_dim": 8, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}
SMALL = {"dpt": DPT, "catmlp+dpt": DPT, "motion": {**DPT, "embed_dim": 16}}
OURS = sorted(name for name, point in registry.installed(GROUP).items() if point.value.startswith("stereo4d_heads."))


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict, str]:
    code = main(["check-head", *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err


LEFT_OUT = {name: {"query times", "objective"} for name in OURS} | {
    "flow": {"query times"},
    "linear-motion": set(),
    "motion": set(),
}
"""Checks that do not apply to heads that take no times, or learn only as main heads."""


@pytest.mark.parametrize("name", OURS)
def test_every_shipped_head_passes(name, capsys):
    code, found, err = report(capsys, name, "--options", json.dumps(SMALL.get(name, {})))
    assert (code, err) == (0, "")
    assert found["passed"]
    assert [check["check"] for check in found["checks"]] == [check.name for check in CHECKS]
    left_out = {check["check"] for check in found["checks"] if check["verdict"] == "not applicable"}
    assert left_out == LEFT_OUT[name]


def test_a_class_that_is_not_installed_passes_as_lines_and_leaves_nothing_behind(capsys):
    assert main(["check-head", f"{BAD}:Good", "--options", '{"hidden": 4}']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[16:32].strip() for line in lines] == [check.name for check in CHECKS]
    assert {line[:16].strip() for line in lines} == {"ok", "not applicable"}
    assert "good" not in registry.installed(GROUP)


@pytest.mark.parametrize(
    ("head", "check", "said"),
    [
        ("OfThisWidth", "dims", "fails on tokens of widths 48, 32, 32, 32, 32.*those of the dims it is built from"),
        ("Coarse", "dims", r"wrote level \(1, 2, 3\); by its outputs it writes level \(1, 32, 48\): make one follow"),
        ("Speechless", "dims", r"wrote height .*, level not written"),
        ("Tuple", "dims", "returned tuple; it must return tensors by name"),
        ("NotANumber", "written", "level on 1 of 48 x 80 pixels is not finite; bound it"),
        ("Doubles", "written", "is torch.float64; write float32"),
        ("Frameless", "declared", "shown as arrows, so its frame must be"),
        ("Unshowable", "declared", r"of shape \(2,\) cannot be shown as normals"),
        ("Twice", "declared", "declares level twice"),
    ],
)
def test_what_is_wrong_with_a_head_is_one_line_with_its_name_the_rule_and_the_way_out(head, check, said, capsys):
    code, found, err = report(capsys, f"{BAD}:{head}")
    verdicts = {entry["check"]: entry["verdict"] for entry in found["checks"]}
    assert code == 1
    assert not found["passed"]
    assert verdicts[check] == "failed"
    assert set(list(verdicts.values())[3:]) == {"not applicable"}  # one fault is said once
    assert len(err.splitlines()) == 1
    assert head in err
    assert re.search(said, err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"{BAD}:NoDims"], "(NoDims) takes no dims: write its constructor __init__(self, dims"),
        ([f"{BAD}:NoForward"], "(NoForward) lacks forward: define what is missing"),
        ([f"{BAD}:NoHead"], "which is no head: derive it from stereo4d.network.head.Head"),
        ([f"{BAD}:Raises"], "(Raises) cannot be built from BackboneDims(patch_size=16"),
        ([f"{BAD}:Good", "--options", '{"depth": 3}'], "unknown network options depth"),
        ([f"{BAD}:Good", "--name", "linear"], "the name 'linear' is taken by stereo4d (stereo4d_heads.pointmap_linear"),
        ([f"{BAD}:Good", "--name", "my head"], "'my head' cannot name an entry point"),
        ([f"{BAD}:Gone"], "cannot be imported"),
        (["no_such_module:Head"], "cannot be imported: No module named 'no_such_module'"),
        (["nose"], "'nose' is not an installed entry point of stereo4d.heads; installed: catmlp+dpt"),
        (["os.path:"], "must be an installed entry point, or module:Class"),
    ],
)
def test_a_head_that_cannot_be_tried_is_one_line_without_a_traceback(arguments, said, capsys):
    code, found, err = report(capsys, *arguments)
    assert (code, found) == (1, {})
    assert len(err.splitlines()) == 1
    assert said in err


@pytest.mark.parametrize("options", ["{feature_dim}", "[1]"])
def test_options_that_are_no_json_object_are_wrong_usage(options, capsys):
    assert report(capsys, "linear", "--options", options)[0] == 2


@pytest.mark.parametrize(
    ("head", "check", "said"),
    [
        ("Moody", "repeated", "level differ from call to call"),
        ("Social", "one by one", "level of an image changes with the other images of its batch"),
        ("Averaging", "query times", "level at a query time changes with the other times"),
        ("Timeless", "query times", "nothing that the head writes depends on the query time"),
        ("Sharing", "side by side", "level0 changes when other heads stand beside it"),
        ("Halves", "real tokens", "level for tokens with components of size 10 is not finite"),
        ("Overflowing", "half precision", "large holds values that are not finite in torch.float16"),
        ("NormAtZero", "real tokens", "for tokens that are zero the gradient of inner.weight"),
        ("Forgetful", "files", "level0 differs after saving and loading"),
        ("LeftOver", "gradients", "later.weight, later.bias takes part in nothing that the head writes"),
        ("LeftOver", "objective", "later.weight, later.bias gets no gradient from the objective"),
        ("LeftOver", "processes", "did not receive grad"),
        ("Thawing", "gradients", "does not require grad"),
        ("Thawing", "objective", "the objective has no gradient"),
        ("Aimless", "objective", "the objective is inf"),
        ("Verbose", "objective", "measure gives level of shape"),
        ("InPipelineOnly", "pipeline", "too many at once"),
    ],
)
def test_every_check_finds_what_it_is_for(head, check, said, tmp_path):
    with find_head(f"{BAD}:{head}", options={}) as subject:
        (chosen,) = (entry for entry in CHECKS if entry.name == check)
        finding = examine(chosen, Lab(subject, tmp_path))
    assert finding.verdict == "failed"
    assert said in finding.said
    assert finding.said.startswith("head ")


def test_a_recording_that_is_torn_is_found(tmp_path):
    viewer = [entry for entry in CHECKS if entry.name == "viewer"]
    with find_head(f"{BAD}:Good", options={}) as subject:
        lab = Lab(subject, tmp_path)
        assert examine(viewer[0], lab).verdict == "ok"
        recording = tmp_path / "scene" / "scene.rrd"
        recording.write_bytes(recording.read_bytes()[:-500])
        assert "scene.rrd is damaged" in examine(viewer[0], lab).said


def test_a_name_that_two_packages_claim_is_refused(tmp_path, monkeypatch):
    metadata = tmp_path / "rude-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rude\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[stereo4d.heads]\nlinear = tests.bad_heads:Good\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        PluginError, match=r"'linear' of stereo4d.heads is taken twice, by .*rude \(tests.bad_heads:Good"
    ):
        registry.load(GROUP, "linear")


def test_help_does_not_import_torch():
    code = """
import sys
from stereo4d.cli.main import main
main(["check-head", "--help"])
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0
    assert "--options" in done.stdout
