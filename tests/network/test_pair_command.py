"""``stereo4d pair`` and ``stereo4d weights show`` on official-format files, run as a user would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stereo4d.cli.main import main
from tests.golden_numbers import TOLERANCE, load, small_config
from tests.official_files import write_folder, write_pth


def stored_images(folder: Path, file: str, case: str) -> list[str]:
    golden = load(file)
    paths = [folder / f"image{view}.png" for view in (0, 1)]
    for path, name in zip(paths, ("img1", "img2"), strict=True):
        Image.fromarray(golden[f"{case}/{name}"][0]).save(path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("write", [write_pth, write_folder], ids=["pth", "folder"])
@pytest.mark.parametrize(
    ("file", "case", "head", "size"),
    [
        ("dust3r_linear", "landscape", "linear", None),  # the config's img_size is the images' own
        ("dust3r_linear", "different_shapes", "linear", 96),
        ("dust3r_dpt", "odd_grid", "dpt", 112),
    ],
)
def test_pair_writes_the_reference_numbers(
    write: object, file: str, case: str, head: str, size: int | None, tmp_path: Path
) -> None:
    golden = load(file)
    weights = write(tmp_path, small_config(head))  # type: ignore[operator]
    out = tmp_path / "pair.npz"
    command = ["pair", *stored_images(tmp_path, file, case), "--weights", str(weights), "--out", str(out)]
    command += ["--precision", "exact", "--device", "cpu", *([] if size is None else ["--size", str(size)])]
    assert main(command) == 0
    written = np.load(out)
    names = ("pred1_pts3d", "pred2_pts3d_in_other_view", "pred1_conf", "pred2_conf")
    keys = ("pointmap0", "pointmap1", "confidence0", "confidence1")
    assert set(written) == set(keys)
    for key, name in zip(keys, names, strict=True):
        assert written[key].dtype == np.float32
        limit = TOLERANCE["pointmap" if "pointmap" in key else "confidence"]
        np.testing.assert_allclose(written[key], golden[f"{case}/{name}"][0], rtol=limit, atol=limit)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({1: "gone.png"}, "gone.png: no such file"),
        ({4: "weights.pth"}, "weights.pth: no such weights file"),
        ({6: "no/such/../../image0.png/F.npz"}, "image0.png"),
        ({8: "perfect"}, "'perfect'"),
    ],
)
def test_pair_fails_in_one_line_that_names_the_culprit(
    replaced: dict[int, str],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stored_images(tmp_path, "dust3r_linear", "landscape")
    weights = write_folder(tmp_path, small_config("linear"))
    command = ["pair", "image0.png", "image1.png", "--weights", str(weights), "--out", "F.npz", "--precision", "exact"]
    for place, value in replaced.items():
        command[place] = value
    assert main(command) != 0
    error = capfd.readouterr().err.splitlines()
    assert reason in error[-1]
    assert "Traceback" not in "\n".join(error)
    assert not (tmp_path / "F.npz").exists()


def test_pair_stores_descriptors_and_matches_in_pixels_of_the_images_as_given(tmp_path: Path) -> None:
    golden = load("mast3r_catmlpdpt")
    options = {"two_confs": True, "desc_conf_mode": ("exp", 0, float("inf"))}
    config = small_config("catmlp+dpt", output_mode="pts3d+desc24", head_options=options)
    weights = write_folder(tmp_path, config)
    paths = stored_images(tmp_path, "mast3r_catmlpdpt", "landscape")
    command = ["--weights", str(weights), "--precision", "exact", "--device", "cpu", "--size", "64", "--matches"]
    assert main(["pair", *paths, *command, "--out", str(tmp_path / "pair.npz")]) == 0
    written = np.load(tmp_path / "pair.npz")
    for view in (0, 1):
        described = golden[f"landscape/pred{view + 1}_desc"][0]
        np.testing.assert_allclose(written[f"descriptors{view}"], described, atol=1e-5)
        sure = golden[f"landscape/pred{view + 1}_desc_conf"][0]
        np.testing.assert_allclose(written[f"descriptor_confidence{view}"], sure, rtol=5e-5, atol=5e-5)
    x0, y0, x1, y1 = written["matches"].T.astype(int)
    described0, described1 = (golden[f"landscape/pred{view}_desc"][0] for view in (1, 2))
    assert len(x0) > 2
    np.testing.assert_allclose((described0[y0, x0] * described1[y1, x1]).sum(-1), written["match_scores"], atol=1e-4)

    for path in paths:
        picture = Image.open(path)
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path)
    assert main(["pair", *paths, *command, "--out", str(tmp_path / "large.npz")]) == 0
    large = np.load(tmp_path / "large.npz")["matches"]
    assert len(large) > 2
    assert (large % 2 == 0.5).all()  # the middles of four pixels


def test_pair_stores_matches_of_points_where_there_are_no_descriptors(tmp_path: Path) -> None:
    weights = write_folder(tmp_path, small_config("linear"))
    paths = stored_images(tmp_path, "dust3r_linear", "landscape")
    command = ["pair", *paths, "--weights", str(weights), "--precision", "exact", "--device", "cpu"]
    assert main([*command, "--matches", "--out", str(tmp_path / "pair.npz")]) == 0
    written = np.load(tmp_path / "pair.npz")
    x0, y0, x1, y1 = written["matches"].T.astype(int)
    apart = np.linalg.norm(written["pointmap0"][y0, x0] - written["pointmap1"][y1, x1], axis=-1)
    assert len(x0) > 9
    np.testing.assert_allclose(written["match_scores"], -apart, rtol=1e-4, atol=1e-5)


def test_weights_show_says_what_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_pth(tmp_path, small_config("linear"))
    assert main(["weights", "show", str(weights)]) == 0
    text = capsys.readouterr().out
    for expected in ("DUSt3R, stored as pth", "CC BY-NC-SA", "enc_blocks", "head_type            linear", "float32"):
        assert expected in text
    assert main(["weights", "show", str(weights), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["depth_mode"] == ["exp", "-inf", "inf"]
