"""Published weights by name: what is known of them, and where they are looked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError
from stereo4d.network.weights import load_model, resolve
from stereo4d.network.weights.catalogue import CATALOGUE, find, suggestions
from stereo4d.network.weights.names import alternatives
from stereo4d.video.predictors import check_is_there, load_predictor
from tests.golden_numbers import GOLDEN
from tests.tiny_weights import write_tiny_weights


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a room of weights."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STEREO4D_WEIGHTS", str(tmp_path / "room"))
    return tmp_path


@pytest.mark.parametrize("path", sorted((GOLDEN / "state_dicts").glob("*.json")), ids=lambda path: path.stem)
def test_parameters_are_those_of_the_published_inventories(path: Path) -> None:
    inventory = json.loads(path.read_text())
    assert find(path.stem).parameters == inventory["num_unique_parameters"]


def test_parameters_of_base_croco_follow_from_its_widths() -> None:
    from stereo4d.network.completion import CompletionConfig
    from stereo4d.network.weights.loading import empty_completion_network

    small = {"dec_embed_dim": 512, "dec_depth": 8, "dec_num_heads": 16}
    base = {"dec_embed_dim": 768, "dec_depth": 12, "dec_num_heads": 12}
    encoder = {"img_size": [224, 224], "enc_embed_dim": 768, "enc_depth": 12, "enc_num_heads": 12}
    for name, decoder in (("croco-v2-base-small", small), ("croco-v2-base", base)):
        config = CompletionConfig.from_json({"pos_embed": "RoPE100", **encoder, **decoder})
        network = empty_completion_network(config)
        assert find(name).parameters == sum(value.numel() for value in network.parameters())


def test_names_are_found_in_any_case_and_mean_one_model_each() -> None:
    names = [name.casefold() for published in CATALOGUE for name in published.names]
    assert len(names) == len(set(names))
    for published in CATALOGUE:
        for name in published.names:
            assert find(name) is find(name.upper()) is published
    assert find("dust3r") is find("naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt") is find("dust3r-512-dpt")
    assert find("croco") is find("croco-v1")  # as its authors named it
    assert find("dynadust3r") is find("dynadust3r-unofficial")


def test_everything_published_says_where_it_is_and_what_may_be_done_with_it() -> None:
    for published in CATALOGUE:
        assert published.repo or published.url
        assert "BY-NC-SA" in published.licence
        assert published.heads
        assert not published.bytes_are_exact or published.bytes == sum(file.bytes for file in published.files)
        # four bytes a parameter and a header
        assert 4 * published.parameters <= published.bytes < 4 * published.parameters + 200_000
    assert "map-free" in find("mast3r").licence


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("monstr", "monst3r"),
        ("must3r", "mast3r"),
        ("dust3r-512-dtp", "dust3r-512-dpt"),
        ("CROCO-v2-larg", "croco-v2-large"),
    ],
)
def test_misspelt_names_are_told_the_close_ones(typed: str, meant: str) -> None:
    assert meant in suggestions(typed)
    with pytest.raises(CheckpointError, match=f"{typed}: no such weights file; .* did you mean .*'{meant}'"):
        resolve(typed)


def test_names_far_from_all_are_told_all() -> None:
    assert suggestions("zebra") == []
    assert all(repr(published.name) in alternatives("zebra") for published in CATALOGUE)
    with pytest.raises(CheckpointError, match=r"'classical'.*'monst3r'.*; did you mean 'classical'\?"):
        check_is_there("clasical")


def test_what_is_not_here_is_not_fetched_but_said_with_size_licence_and_way(capsys: pytest.CaptureFixture) -> None:
    for use in (resolve, load_model, load_predictor, check_is_there):
        with pytest.raises(CheckpointError) as refused:
            use("mast3r")
        text = str(refused.value)
        assert "takes 2.75 GB" in text
        assert "map-free" in text
        assert "stereo4d weights fetch mast3r" in text
    assert main(["weights", "show", "MonST3R"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "takes about 2.28 GB" in error


@pytest.mark.parametrize(
    "place",
    [
        "room/monst3r/model.safetensors",
        "room/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt/model.safetensors",
        "room/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt.safetensors",
        "room/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt.pth",
        "room/monst3r/anything.pth",
        "cache/stereo4d/weights/monst3r/model.safetensors",
    ],
)
def test_a_room_of_weights_is_searched_by_every_name(place: str, machine: Path) -> None:
    path = machine / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert resolve("MonST3R") == path
    assert resolve("Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt") == path


def test_names_of_ones_own_work_in_ones_own_room(machine: Path) -> None:
    write_tiny_weights(machine / "room" / "mine")
    assert load_predictor("mine").identity("mine").name == "tiny"
    assert load_model("mine").config.img_size == (48, 64)


@pytest.mark.parametrize("name", ["../secret", "mine/../../secret", "", ".", ".."])
def test_a_name_does_not_lead_out_of_the_room(name: str, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_weights(machine / "secret")
    (machine / "room" / "mine").mkdir(parents=True)
    monkeypatch.chdir(machine / "room" / "mine")
    with pytest.raises(CheckpointError):
        resolve(name)


def test_of_several_pth_files_none_is_guessed_at(machine: Path) -> None:
    folder = machine / "room" / "monst3r"
    folder.mkdir(parents=True)
    for name in ("one.pth", "two.pth"):
        (folder / name).write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="not on this machine"):
        resolve("monst3r")


def test_a_path_that_holds_weights_wins_and_a_folder_without_them_does_not(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone of the authors' repository beside one's work is often called as their weights are."""
    in_room = write_tiny_weights(machine / "room" / "mast3r") / "model.safetensors"
    monkeypatch.chdir(machine)
    (machine / "mast3r").mkdir()
    assert resolve("mast3r") == in_room
    write_tiny_weights(machine / "mast3r")
    assert resolve("mast3r") == Path("mast3r/model.safetensors")
    write_tiny_weights(machine / "embedded")
    assert resolve("embedded").parent.parent.name == "assets"  # what comes with stereo4d is not replaced by chance


def test_the_list_says_what_is_published_and_what_is_here(machine: Path, capsys: pytest.CaptureFixture) -> None:
    write_tiny_weights(machine / "room" / "monst3r")
    assert main(["weights", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["weights"]}
    assert list(entries) == ["embedded", *(published.name for published in CATALOGUE)]
    assert entries["embedded"]["parameters"] == sum(value.numel() for value in load_model("embedded").parameters())
    assert entries["monst3r"]["path"] == str(machine / "room" / "monst3r" / "model.safetensors")
    assert entries["mast3r"]["path"] is None
    assert entries["mast3r"]["bytes"] == 2_754_662_194
    assert main(["weights", "list"]) == 0
    said = capsys.readouterr().out
    assert "here: " in said
    assert "2.75 GB, up to 512x512, heads: pointmap dpt, in metres, descriptors; hub: naver/MASt3R" in said


def test_the_command_explains_itself_and_its_actions(capsys: pytest.CaptureFixture) -> None:
    assert main(["weights"]) == 0
    assert main(["weights", "--help"]) == 0
    said = capsys.readouterr().out
    for action in ("list", "show", "fetch", "convert"):
        assert f"  {action} " in said
        assert main(["weights", action, "--help"]) == 0
        assert f"usage: stereo4d weights {action}" in capsys.readouterr().out
    assert main(["weights", "fetsch", "monst3r"]) == 2
    assert "'fetsch' is not an action of stereo4d weights; there are list, show" in capsys.readouterr().err
    assert main(["weights", "fetch"]) == 2
    assert "missing: NAME" in capsys.readouterr().err
