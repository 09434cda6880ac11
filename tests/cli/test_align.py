"""``stereo4d align`` as a person meets it: stored pairs in, a scene out, and the pairs left alone."""

import json
import shutil

import numpy as np
import pytest
import torch

from stereo4d import Scene
from stereo4d.cli.main import main
from stereo4d.scene_files import MANIFEST_FILE
from stereo4d.storage import map_arrays, save_arrays
from stereo4d.video import aligning
from tests.clips import picture, write_clip
from tests.stored_worlds import FRAMES, HEIGHT, WIDTH, arrays_of, centre_error, intrinsics_of, small_world, write_pairs
from tests.tiny_weights import write_tiny_weights
from tests.worlds import render


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A file of somebody's pairs: predictions, and nothing of the frames."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "mine.safetensors")


def run(*argv, code: int = 0) -> None:
    assert main(["align", *map(str, argv)]) == code


def refused(capsys, *argv, code: int = 1) -> str:
    """The one line that a refusal prints."""
    run(*argv, code=code)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.strip().splitlines()[-1]
    assert line.startswith("stereo4d: error: ")
    return line


def same_cameras(a: Scene, b: Scene) -> bool:
    return bool((a.cam2world == b.cam2world).all() and (a.intrinsics == b.intrinsics).all())


# --- what comes out -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    """A scene folder made from the bare file."""
    out = tmp_path_factory.mktemp("out") / "scene"
    run(pairs, "--out", out, "--quiet")
    return out


def test_pairs_become_a_scene_with_the_cameras_they_were_made_with(finished, world):
    scene = Scene.load(finished)
    assert scene.cam2world[0] == pytest.approx(np.eye(4), abs=1e-5)
    relative = torch.linalg.inv(world.cam2world[:1]) @ world.cam2world
    assert centre_error(scene.cam2world, relative) < 0.01
    assert scene.intrinsics == pytest.approx(intrinsics_of(world), rel=0.01)
    assert scene.scale == "unknown"


def test_the_folder_is_that_of_a_reconstruction_without_the_pairs(finished):
    names = sorted(entry.name for entry in finished.iterdir())
    assert names == ["alignment.rrd", "manifest.json", "scene.rrd", "scene.safetensors", "trajectory.txt"]


def test_what_the_file_does_not_tell_is_grey_numbered_and_said(finished, pairs):
    scene = Scene.load(finished)
    assert np.unique(scene.rgb).tolist() == [128]
    assert scene.times.tolist() == scene.frame_indices.tolist() == list(range(FRAMES))
    assert scene.original_sizes.tolist() == [[HEIGHT, WIDTH]] * FRAMES
    assert (scene.intrinsics_original == scene.intrinsics).all()
    assert scene.manifest["warnings"] == [f"{pairs}: no times are stored; frames are taken to be one second apart"]
    assert scene.manifest["weights"] is None
    assert scene.manifest["input"]["files"] == ["mine.safetensors"]


def test_lines_say_losses_iterations_reason_pairs_set_aside_and_where_things_lie(pairs, tmp_path, capsys):
    run(pairs, "--out", tmp_path / "out")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "14 (as stored)" in lines["pairs"]
    assert " in " in lines["alignment"]
    assert " iterations; " in lines["alignment"]
    assert "0 of 14 pairs" in lines["set"]
    assert str(tmp_path / "out" / "scene.rrd") in lines["recording"]


def test_json_says_the_same_in_one_object(pairs, tmp_path, capsys):
    run(pairs, "--out", tmp_path / "out", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["pairs"], said["scale"], said["known"]) == (FRAMES, 14, "unknown", {})
    assert said["alignment"]["solved_loss"] <= said["alignment"]["start_loss"]
    assert said["alignment"]["iterations"] == sum(len(level) - 1 for level in said["alignment"]["losses"])
    assert said["alignment"]["stopped"]
    assert said["alignment"]["pairs_set_aside"] == []
    assert said["seconds"].keys() == {"motion", "alignment", "recording"}


def test_a_wrong_pair_is_named_by_the_frame_numbers_of_the_input(world, tmp_path, capsys):
    arrays = arrays_of(world, torch.tensor([(i, j) for i in range(FRAMES) for j in range(FRAMES) if i != j]))
    wrong = arrays["edges"].tolist().index([1, 3])
    arrays["pointmap1"][wrong] = arrays["pointmap1"][wrong].flip(0) * 3
    save_arrays(tmp_path / "pairs.safetensors", arrays | {"frame_indices": np.arange(FRAMES) * 10})
    run(tmp_path / "pairs.safetensors", "--out", tmp_path / "out", "--json")
    assert json.loads(capsys.readouterr().out)["alignment"]["pairs_set_aside"] == [[10, 30]]


# --- where pairs and frames come from -----------------------------------------------------------------------------


def test_several_files_give_what_one_file_gives(finished, tmp_path):
    arrays = arrays_of(small_world())
    (tmp_path / "shards").mkdir()
    for number, part in enumerate((slice(0, 3), slice(3, 9), slice(9, None))):
        shard = {name: value[part] for name, value in arrays.items()}
        save_arrays(tmp_path / "shards" / f"{number}.safetensors", shard)
    run(tmp_path / "shards", "--out", tmp_path / "from-folder", "--quiet")
    run(*sorted((tmp_path / "shards").iterdir()), "--out", tmp_path / "from-files", "--quiet")
    for name in ("from-folder", "from-files"):
        assert same_cameras(Scene.load(tmp_path / name), Scene.load(finished))


@pytest.mark.parametrize("beside", [False, True], ids=["in the file", "beside it"])
def test_frames_give_the_scene_their_colours_times_and_geometry(beside, tmp_path):
    frames = {
        "rgb": np.stack([picture(i, HEIGHT, WIDTH) for i in range(FRAMES)]),
        "times": np.arange(FRAMES) / 12,
        "frame_indices": np.arange(FRAMES) * 3,
        "original_sizes": np.tile([2 * HEIGHT, 2 * WIDTH], (FRAMES, 1)),
        "pixel_maps": np.tile([2.0, 2.0, 0.5, 0.5], (FRAMES, 1)),
    }
    write_pairs(tmp_path / "pairs.safetensors", **({} if beside else frames))
    if beside:
        save_arrays(tmp_path / "frames.safetensors", frames)
    run(tmp_path, "--out", tmp_path / "out", "--quiet", "--motion", "off")  # these colours are not of these pairs
    scene = Scene.load(tmp_path / "out")
    assert (scene.rgb == frames["rgb"]).all()
    assert scene.times == pytest.approx(frames["times"])
    assert scene.frame_indices.tolist() == [0, 3, 6, 9, 12]
    assert scene.original_sizes.tolist() == [[2 * HEIGHT, 2 * WIDTH]] * FRAMES
    assert scene.intrinsics_original[:, 0, 0] == pytest.approx(2 * scene.intrinsics[:, 0, 0])
    assert scene.intrinsics_original[:, 0, 2] == pytest.approx(2 * scene.intrinsics[:, 0, 2] + 0.5)
    assert scene.manifest["warnings"] == []


@pytest.fixture(scope="module")
def reconstructed(tmp_path_factory):
    """A scene folder that ``stereo4d reconstruct`` made."""
    folder = tmp_path_factory.mktemp("reconstructed")
    clip = write_clip(folder / "clip.mp4", [picture(i, 60, 80) for i in range(4)])
    weights = write_tiny_weights(folder / "weights")
    argv = [clip, "--out", folder / "scene", "--weights", weights, "--graph", "complete", "--seed", 3, "--quiet"]
    assert main(["reconstruct", *map(str, argv)]) == 0
    return folder / "scene"


def test_aligning_a_scenes_pairs_again_gives_the_scene(reconstructed, tmp_path):
    first = Scene.load(reconstructed)
    for number, source in enumerate((reconstructed, reconstructed / "pairs")):
        out = tmp_path / str(number)
        run(source, "--out", out, "--seed", 3, "--quiet")
        again = Scene.load(out)
        assert same_cameras(again, first)
        for name in ("depth", "confidence", "rgb", "times", "frame_indices", "intrinsics_original", "original_sizes"):
            assert (getattr(again, name) == getattr(first, name)).all(), name
        assert again.manifest["alignment"] == first.manifest["alignment"]
        # whose weights they are stays on record, licence included
        assert again.manifest["weights"] == first.manifest["weights"]
        assert again.manifest["input"]["made_from"] == first.manifest["input"]


# --- options ------------------------------------------------------------------------------------------------------


def test_a_graph_picks_among_the_stored_pairs(pairs, tmp_path, capsys):
    run(pairs, "--out", tmp_path / "out", "--graph", "swin-1-noncyclic", "--json")
    assert json.loads(capsys.readouterr().out)["pairs"] == 8
    run(pairs, "--out", tmp_path / "out", "--graph", "complete", "--overwrite", "--json")
    said = capsys.readouterr()
    assert json.loads(said.out)["pairs"] == 14
    assert "6 of the 20 pairs of complete are not stored" in said.err


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("swin-4,cyc0", "leaves frames 1, 2, 3, 4 of 5"),
        ("swing", "'swing' is not understood"),
        ("retrieval-2-1", "stereo4d reconstruct finds out"),
        ("oneref-5", "frames 0 to 4"),
        ("oneref-4", "no chain of pairs leads from frame"),
    ],
)
def test_a_graph_that_cannot_be_had_from_the_stored_pairs_is_refused(graph, reason, pairs, tmp_path, capsys):
    assert reason in refused(capsys, pairs, "--out", tmp_path / "out", "--graph", graph)


def test_a_graph_of_which_nothing_is_stored_is_refused(tmp_path, capsys):
    save_arrays(tmp_path / "far.safetensors", arrays_of(small_world(3), torch.tensor([(0, 1), (1, 0), (2, 2)])))
    line = refused(capsys, tmp_path / "far.safetensors", "--out", tmp_path / "out", "--graph", "oneref-2")
    assert "holds none of the 4 pairs of 'oneref-2'; leave out --graph" in line


def test_a_focal_for_every_frame_is_found_where_cameras_zoom(tmp_path):
    world = small_world()
    zooming = torch.linspace(0.8, 1.1, FRAMES).double() * WIDTH
    save_arrays(tmp_path / "zoom.safetensors", arrays_of(render(world.cam2world, zooming, HEIGHT, WIDTH)))
    run(tmp_path / "zoom.safetensors", "--out", tmp_path / "own", "--per-frame-focal", "--quiet")
    run(tmp_path / "zoom.safetensors", "--out", tmp_path / "one", "--quiet")
    assert Scene.load(tmp_path / "own").intrinsics[:, 0, 0] == pytest.approx(zooming.numpy(), rel=0.02)
    assert len(set(Scene.load(tmp_path / "one").intrinsics[:, 0, 0].tolist())) == 1
    settings = json.loads((tmp_path / "own" / MANIFEST_FILE).read_text())["settings"]
    assert settings["alignment"]["per_frame_focal"]


def test_a_free_principal_point_moves(pairs, tmp_path):
    run(pairs, "--out", tmp_path / "out", "--free-principal-point", "--quiet")
    found = Scene.load(tmp_path / "out").intrinsics[:, :2, 2]
    assert (found != [WIDTH / 2, HEIGHT / 2]).any()
    assert found == pytest.approx(np.tile([WIDTH / 2, HEIGHT / 2], (FRAMES, 1)), abs=1)


SOLVER = """
from stereo4d.alignment.solver import Solution, Solver

class Content(Solver):
    def solve(self, problem, start, *, progress=None, watch=None):
        return Solution(start, ((1.0,),), "content with the start")
"""


def test_a_strangers_solver_is_found_by_its_entry_point(pairs, tmp_path, capsys, monkeypatch):
    (tmp_path / "strange.py").write_text(SOLVER)
    (tmp_path / "strange-1.dist-info").mkdir()
    (tmp_path / "strange-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n")
    entries = "[stereo4d.solvers]\ncontent = strange:Content\nbroken = strange:SOLVER\nno-solver = json:JSONDecoder\n"
    (tmp_path / "strange-1.dist-info" / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(tmp_path)
    run(pairs, "--out", tmp_path / "out", "--solver", "content")
    said = Scene.load(tmp_path / "out").manifest
    assert said["settings"]["alignment"]["solver"] == "content"
    assert said["alignment"]["stopped"] == "content with the start"
    assert said["alignment"]["iterations"] == 0
    # it showed no step, so there is nothing to record of them, and nobody says so
    assert not (tmp_path / "out" / "alignment.rrd").exists()
    assert "--alignment" not in capsys.readouterr().out
    assert "cannot be imported" in refused(capsys, pairs, "--out", tmp_path / "x", "--solver", "broken")
    assert "is not a Solver" in refused(capsys, pairs, "--out", tmp_path / "x", "--solver", "no-solver")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--solver", "adman"], "--solver 'adman' is not installed; there are reweighted, adam"),
        (["--shared-focal", "--per-frame-focal"], "--shared-focal and --per-frame-focal exclude each other"),
        (["--poses-weight", "3"], "there are no --poses to weigh"),
        (["--seed", "x"], "--seed: 'x' is not of type int"),
        (["--device", "abacus"], "abacus"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_with_code_2(options, reason, pairs, tmp_path, capsys):
    assert reason in refused(capsys, pairs, "--out", tmp_path / "out", *options, code=2)
    assert not (tmp_path / "out").exists()


# --- what is known ------------------------------------------------------------------------------------------------


def test_known_cameras_are_those_of_the_scene(pairs, world, tmp_path, capsys):
    np.save(tmp_path / "poses.npy", world.cam2world.numpy())
    np.save(tmp_path / "cameras.npy", intrinsics_of(world))
    known = ["--poses", tmp_path / "poses.npy", "--intrinsics", tmp_path / "cameras.npy"]
    run(pairs, "--out", tmp_path / "out", *known)
    scene = Scene.load(tmp_path / "out")
    assert scene.cam2world == pytest.approx(world.cam2world.numpy(), abs=1e-6)
    assert scene.intrinsics_original == pytest.approx(intrinsics_of(world), abs=1e-5)
    assert scene.scale == "given (poses.npy)"
    said = scene.manifest["known"]
    assert said["poses"]["path"] == str(tmp_path / "poses.npy")
    assert len(said["poses"]["sha256"]) == 64
    assert said["poses"]["weight"] == said["intrinsics"]["weight"] == "hard"
    position = said["poses"]["residuals"]["position"]
    assert position["answer"]["worst"] == pytest.approx(0, abs=1e-9)
    assert 0 < position["pairs"]["median"] <= position["pairs"]["worst"] < 0.05
    printed = capsys.readouterr().out
    assert f"intrinsics ({tmp_path / 'cameras.npy'}), held" in printed
    assert "rotation, degrees: the answer off by " in printed
    assert "scale      given (poses.npy)" in printed


def test_known_depths_give_the_unit_and_masks_are_said(pairs, world, tmp_path, capsys):
    np.save(tmp_path / "depths.npy", 7 * world.depth.numpy())
    np.save(tmp_path / "masks.npy", np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8))
    known = ["--depths", tmp_path / "depths.npy", "--depths-weight", 2, "--masks", tmp_path / "masks.npy"]
    run(pairs, "--out", tmp_path / "out", *known, "--masks-keep", 0.25)
    scene = Scene.load(tmp_path / "out")
    assert scene.scale == "given (depths.npy)"
    assert np.median(scene.depth / (7 * world.depth.numpy())) == pytest.approx(1, abs=0.01)
    assert scene.manifest["known"]["depths"]["weight"] == 2
    assert scene.manifest["known"]["masks"] == scene.manifest["known"]["masks"] | {"keep": 0.25, "residuals": {}}
    assert "ignored pixels keep 0.25 of their weight" in capsys.readouterr().out


# --- the folder, and the user's files -----------------------------------------------------------------------------


def test_a_finished_scene_is_replaced_only_when_asked(finished, pairs, tmp_path, capsys):
    out = tmp_path / "scene"
    shutil.copytree(finished, out)
    before = (out / MANIFEST_FILE).read_bytes()
    assert "finished scene; say --overwrite" in refused(capsys, pairs, "--out", out)
    assert (out / MANIFEST_FILE).read_bytes() == before
    run(pairs, "--out", out, "--overwrite", "--quiet")
    assert (out / MANIFEST_FILE).read_bytes() != before


@pytest.mark.parametrize("source", [".", "pairs", "pairs/pairs-00000.safetensors"])
def test_pairs_inside_the_output_are_refused_and_stay(source, reconstructed, tmp_path, capsys):
    out = tmp_path / "scene"
    shutil.copytree(reconstructed, out)
    (tmp_path / "link").symlink_to(out)
    for place in (out, tmp_path / "link"):
        line = refused(capsys, out / source, "--out", place, "--overwrite")
        assert "lies in --out" in line
        assert len(map_arrays(out / "pairs" / "pairs-00000.safetensors")["edges"]) == 12
        assert len(Scene.load(out)) == 4


def test_the_pairs_stay_as_they_are(pairs, tmp_path):
    before = pairs.read_bytes()
    run(pairs, "--out", tmp_path / "out", "--quiet")
    run(pairs, "--out", tmp_path / "out", "--quiet", "--overwrite", "--graph", "swin-1-noncyclic")
    assert pairs.read_bytes() == before


def test_an_interrupted_alignment_leaves_nothing_whole_and_runs_again(pairs, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(aligning, "align", interrupt)
        line = refused(capsys, pairs, "--out", out, "--quiet", code=130)
    assert f"{pairs}: interrupted" in line
    assert [entry.name for entry in out.iterdir()] == [".unfinished"]
    run(pairs, "--out", out, "--quiet")
    assert len(Scene.load(out)) == FRAMES
