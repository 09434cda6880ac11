"""A video that was cut becomes one scene for each shot, and says so; what is interrupted goes on shot by shot."""

import json

import numpy as np
import pytest

from stereo4d import AlignmentOptions, KnownFiles, Scene, reconstruct
from stereo4d.cli.main import main
from stereo4d.errors import InputError, OutputError, SceneError, UsageError
from stereo4d.storage import map_arrays
from stereo4d.video import network_predictor, shots
from stereo4d.video.workspace import UNFINISHED
from tests.clips import write_clip
from tests.tiny_weights import write_tiny_weights
from tests.video.test_shot_cuts import shot

LENGTHS = (7, 1, 6)
TOLD = {"graph": "swin-1-noncyclic", "size": 32, "query_times": [], "alignment": AlignmentOptions(motion="off")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Seven frames, a flash of one, six frames of another place."""
    images = [image for seed, length in enumerate(LENGTHS) for image in shot(seed, length)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", images, options={"crf": "10"})


@pytest.fixture(scope="module")
def split(clip, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "scene"
    return out, reconstruct(clip, out, weights=weights, **TOLD)


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_every_shot_is_a_scene_in_a_folder_of_its_own(split):
    out, longest = split
    assert sorted(entry.name for entry in out.iterdir()) == ["manifest.json", "shot-000", "shot-002"]
    first, last = (Scene.load(out / name) for name in ("shot-000", "shot-002"))
    assert first.frame_indices.tolist() == [*range(7)]
    assert last.frame_indices.tolist() == [*range(8, 14)]
    assert (longest.cam2world == first.cam2world).all()
    for scene in (first, last):
        assert scene.cam2world[0] == pytest.approx(np.eye(4), abs=1e-5)
    pairs = map_arrays(out / "shot-002" / "pairs" / "pairs-00000.safetensors")
    assert pairs["edges"].max() == 5
    assert manifest_of(out / "shot-002")["input"]["shot"] == [8, 13]


def test_the_manifest_of_the_clip_says_which_shot_is_where_and_what_was_left_out(split):
    said = manifest_of(split[0])
    assert [(entry["folder"], entry["frames"], entry["count"]) for entry in said["shots"]] == [
        ("shot-000", [0, 6], 7),
        ("shot-001", [7, 7], 1),
        ("shot-002", [8, 13], 6),
    ]
    assert [entry["left_out"] for entry in said["shots"]] == [None, "a single frame", None]
    assert said["shots"][2]["seconds"] == pytest.approx([0.8, 1.3], abs=1e-6)
    assert any("it looks cut at frame 7 (0.70 s), 8 (0.80 s); every shot" in line for line in said["warnings"])


def test_who_opens_the_folder_of_the_clip_is_told_of_the_shots(split):
    with pytest.raises(SceneError, match="holds 2 scenes, one for each shot of a clip: open one of shot-000, shot-002"):
        Scene.load(split[0])


def test_a_finished_clip_is_not_overwritten_unasked_and_replaced_when_asked(clip, split, weights, tmp_path):
    with pytest.raises(OutputError, match="finished scene"):
        reconstruct(clip, split[0], weights=weights, **TOLD)
    out = tmp_path / "out"
    reconstruct(clip, out, weights=weights, **TOLD)
    one = reconstruct(clip, out, weights=weights, shots="one", overwrite=True, **TOLD)
    assert len(one) == len(Scene.load(out)) == sum(LENGTHS)
    assert not list(out.glob("shot-*"))
    assert any("one scene all the same, as --shots one asks for" in line for line in one.manifest["warnings"])
    reconstruct(clip, out, weights=weights, overwrite=True, **TOLD)
    assert sorted(entry.name for entry in out.iterdir()) == ["manifest.json", "shot-000", "shot-002"]


def interrupt_after_one_shot(clip, out, weights, monkeypatch) -> None:
    """A reconstruction that ends by Ctrl-C when its first shot is finished."""
    make, calls = shots._make_one, []

    def one_and_no_more(*given):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        make(*given)

    with monkeypatch.context() as patch:
        patch.setattr(shots, "_make_one", one_and_no_more)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(clip, out, weights=weights, **TOLD)


def test_an_interrupted_run_keeps_the_shots_that_it_has_finished(clip, split, weights, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt_after_one_shot(clip, out, weights, monkeypatch)
    assert [entry.name for entry in out.iterdir()] == [UNFINISHED]
    finished = out / UNFINISHED / "shots" / "shot-000" / "manifest.json"
    before = finished.stat().st_mtime_ns
    opened = []
    load = network_predictor.load_model
    monkeypatch.setattr(network_predictor, "load_model", lambda *a, **n: opened.append(1) or load(*a, **n))
    reconstruct(clip, out, weights=weights, **TOLD)
    assert len(opened) == 1  # for the second shot alone
    assert (out / "shot-000" / "manifest.json").stat().st_mtime_ns == before
    for name in ("shot-000", "shot-002"):
        assert (Scene.load(out / name).cam2world == Scene.load(split[0] / name).cam2world).all()


def test_shots_finished_with_other_options_are_made_again(clip, weights, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt_after_one_shot(clip, out, weights, monkeypatch)
    other = {**TOLD, "alignment": AlignmentOptions(motion="off", per_frame_focal=True)}
    reconstruct(clip, out, weights=weights, **other)
    assert all(manifest_of(out / name)["settings"]["alignment"]["per_frame_focal"] for name in ("shot-000", "shot-002"))


def test_a_shot_that_fails_does_not_stop_the_others_and_is_named(clip, weights, tmp_path, monkeypatch, capsys):
    make = shots._make_one

    def failing(job, folder, *given):
        if folder.name == "shot-000":
            raise InputError("nothing to see")
        make(job, folder, *given)

    monkeypatch.setattr(shots, "_make_one", failing)
    out = tmp_path / "out"
    argv = ["reconstruct", str(clip), "--out", str(out), "--weights", str(weights), "--size", "32", "--json"]
    code = main([*argv, "--graph", "swin-1-noncyclic", "--motion", "off"])
    printed = capsys.readouterr()
    assert code == 3
    assert [scene["scene"] for scene in json.loads(printed.out)["scenes"]] == [str(out / "shot-002")]
    assert printed.err.splitlines()[-1].endswith("shot-000: nothing to see")
    assert manifest_of(out)["shots"][0]["left_out"] == "nothing to see"


def test_what_is_known_of_a_clip_goes_to_the_shots_it_is_of(clip, weights, tmp_path):
    poses = np.tile(np.eye(4), (sum(LENGTHS), 1, 1))
    poses[:, 0, 3] = np.arange(len(poses))
    np.save(tmp_path / "poses.npy", poses)
    out = tmp_path / "out"
    reconstruct(clip, out, weights=weights, known=KnownFiles(poses=str(tmp_path / "poses.npy")), **TOLD)
    assert Scene.load(out / "shot-002").cam2world[:, 0, 3] == pytest.approx(np.arange(8, 14), abs=1e-4)


def test_images_are_not_judged_and_nonsense_is_refused(tmp_path, weights):
    from PIL import Image

    for number, image in enumerate([*shot(0, 7), *shot(1, 7)]):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    scene = reconstruct(str(tmp_path / "*.png"), tmp_path / "out", weights=weights, **TOLD)
    assert len(scene) == 14
    with pytest.raises(UsageError, match="--shots 'some': must be split, one"):
        reconstruct(str(tmp_path / "*.png"), tmp_path / "out2", weights=weights, shots="some", **TOLD)


def test_a_clip_cut_everywhere_is_one_scene_with_a_word(weights, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", [shot(seed, 1)[0] for seed in range(9)], options={"crf": "10"})
    scene = reconstruct(clip, tmp_path / "out", weights=weights, **TOLD)
    assert len(scene) == 9
    assert any("next to nothing in common with the one before" in line for line in scene.manifest["warnings"])
    assert np.isfinite(scene.cam2world).all()
