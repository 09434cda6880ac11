"""A recipe that is wrong ends in one line that says where, and what would be right."""

from pathlib import Path

import pytest
import torch

from stereo4d.cli.fit_errors import explained, without_worker
from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError, InputError

RECIPE = Path(__file__).parents[2] / "configs" / "fit" / "tiny.yaml"
BURIED = (
    "Parser key \"model\": Does not validate against any of the Union subtypes Subtypes: [<class 'a.B'>, "
    "<class 'NoneType'>] Errors: - Problem with given class_path 'stereo4d.training.module.PairModule': {} - Expected "
    "a <class 'NoneType'> Given value type: <class 'dict'> Given value: {{'class_path': 'x'}}"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "Option 'matching_wieght' is not accepted",
            "model.init_args.matching_wieght: there is no such key; did you mean matching_weight?",
        ),
        (
            "Group 'network' does not accept option 'enc_dpth'",
            "model.init_args.network.enc_dpth: there is no such key; did you mean enc_depth?",
        ),
        (
            "--network.enc_depth: Expected a <class 'int'>. Got value: four",
            "model.init_args.network.enc_depth: 'four' is not of type int",
        ),
    ],
)
def test_what_the_parser_buries_is_dug_out(said, expected):
    assert str(explained(ValueError(BURIED.format(said)))) == expected


def test_an_error_of_ours_under_those_of_the_parser_is_the_one_told():
    own = CheckpointError("weights.pth: no such file")
    wrapped = ValueError("Does not validate against any of the Union subtypes")
    wrapped.__cause__ = own
    assert explained(wrapped) is own


def test_a_damaged_sample_is_told_without_the_worker_that_read_it():
    said = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    error = without_worker(InputError(said + "stereo4d.errors.InputError: a/depth.png is damaged\n"))
    assert (type(error), str(error)) == (InputError, "a/depth.png is damaged")


@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        ("matching_weight:", "matching_wieght:", 2, "did you mean matching_weight?"),
        ("max_steps:", "max_stps:", 2, "trainer.max_stps: there is no such key; did you mean max_steps?"),
        ("batch_size: 16", "batch_size: many", 2, "data.init_args.batch_size: 'many' is not of type int"),
        ("head_type: linear", "head_type: liner", 1, "'liner' is not an installed entry point"),
        ("matching_weight:", "start_from: nothing.pth\n    matching_weight:", 1, "nothing.pth: no such weights file"),
    ],
)
def test_a_wrong_recipe_ends_in_one_line(old, new, code, expected, tmp_path, capsys):
    text = RECIPE.read_text()
    assert old in text
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace(old, new))
    assert main(["fit", "--config", str(wrong), f"--trainer.default_root_dir={tmp_path}"]) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("stereo4d: error: ")
    assert expected in last


def test_a_foreign_checkpoint_is_not_resumed_from(tmp_path, capsys):
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    assert main(["fit", "--config", str(RECIPE), f"--ckpt_path={foreign}"]) == 1
    assert "is not a checkpoint of 'stereo4d fit'" in capsys.readouterr().err.splitlines()[-1]
    assert main(["fit", "--config", str(RECIPE), "--ckpt_path=nothing.ckpt"]) == 1
    assert "nothing.ckpt: there is no such file" in capsys.readouterr().err.splitlines()[-1]
