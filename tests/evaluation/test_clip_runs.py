"""Clips measured with ours and with a peer: what is kept is not measured again, and the table counts right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stereo4d.data.synthetic.clip import SyntheticTruth, load_truth
from stereo4d.evaluation.clip_errors import ClipErrors
from stereo4d.evaluation.clip_runs import Ours, Record, SyntheticClip, measure_clip
from stereo4d.evaluation.clip_table import compare, comparisons, one_line, rows, table
from stereo4d.storage import write_json
from stereo4d.types import Scene

TINY = SyntheticClip("dynamic", number=3, frames=4, width=96, height=64)
OURS = Ours("embedded", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def record(folder) -> Record:
    pytest.importorskip("pycolmap", reason="pycolmap is missing: pip install pycolmap (extra 'colmap')")

    def look(scene: Scene, truth: SyntheticTruth, place: Path) -> dict[str, float]:
        return {"depths": scene.depth.size, "files": len(list(place.iterdir()))}

    return measure_clip(TINY, OURS, ("colmap",), folder, look=look)


def test_ours_and_the_peer_are_measured_on_the_same_clip(record):
    assert list(record.errors) == ["embedded", "colmap"]
    mine = record.errors["embedded"]
    assert (mine.frames, mine.placed, mine.failure) == (4, 4, "")
    assert 0 < mine.trajectory < 1
    assert mine.seconds == pytest.approx(record.stages["predictions"] + record.stages["alignment"])
    assert record.pairs == 12
    assert record.more["depths"] > 0
    assert record.more["files"] > 0


def test_what_was_measured_is_not_measured_again(folder, record):
    (kept,) = folder.glob(f"{TINY.name}-embedded-colmap-*.json")
    assert Record.from_dict(json.loads(kept.read_text())) == record
    changed = replace(record, pairs=77)
    write_json(kept, changed.as_dict())
    assert measure_clip(TINY, OURS, ("colmap",), folder).pairs == 77
    write_json(kept, record.as_dict())


def test_other_settings_are_measured_anew(tmp_path):
    for where in ("one", "two"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "model.pth").touch()
    ways = [OURS, replace(OURS, seed=1), replace(OURS, precision="exact")]
    ways += [replace(OURS, weights=str(tmp_path / where / "model.pth")) for where in ("one", "two")]
    assert len({ours.fingerprint for ours in ways}) == len(ways)
    assert [ours.name for ours in ways[2:]] == ["embedded", "model", "model"]


def test_the_scene_of_a_measurement_does_not_stay(folder, record):
    assert sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) == ["clips", "peers"]


def test_static_and_dynamic_clips_of_one_number_show_the_same_world(folder, record):
    clips = [replace(TINY, kind=kind).make(folder / "clips") for kind in ("static", "dynamic")]
    still, moving = (load_truth(frames) for frames in clips)
    np.testing.assert_array_equal(still.clip.cam2world, moving.clip.cam2world)
    np.testing.assert_array_equal(still.motion.world.wave_phase, moving.motion.world.wave_phase)
    assert not still.motion.world.moving.any()
    assert moving.motion.world.moving.any()


def made_up(number: int, ours: float, theirs: float | None, kind: str = "static") -> Record:
    """A record of a clip with these trajectory errors; None where the peer found nothing."""
    errors = ClipErrors(24, 24, ours, 0.1, 0.01, None, 10.0)
    found = replace(errors, trajectory=theirs, placed=24 if theirs is not None else 0)
    clip = SyntheticClip(kind, number)
    return Record(clip, {"ours": errors, "peer": found}, {"peer": ours if theirs is not None else None}, {}, 138)


def test_clips_where_the_peer_fails_are_counted_apart():
    records = [made_up(0, 0.02, 0.01), made_up(1, 0.03, 0.01), made_up(2, 0.04, None), made_up(3, 0.2, 0.06)]
    found = compare(records, "peer")
    assert (found.succeeded, found.within_two, found.failed, found.rescued) == (2, 1, 2, 1)
    assert found.ratio == pytest.approx(2.5)


def test_no_answer_of_ours_where_the_peer_has_one_counts_against_us():
    lost = made_up(0, 0.02, 0.01)
    lost = replace(lost, common={"peer": None})
    found = compare([lost], "peer")
    assert (found.succeeded, found.within_two, found.ratio) == (1, 0, float("inf"))


def test_the_table_has_a_row_for_every_kind_and_program():
    records = [made_up(0, 0.02, 0.01), made_up(0, 0.4, None, "dynamic")]
    assert [(row.clips, row.method, row.usable, row.count) for row in rows(records)] == [
        ("static", "ours", 1, 1),
        ("static", "peer", 1, 1),
        ("dynamic", "ours", 0, 1),
        ("dynamic", "peer", 0, 1),
    ]
    assert [found.clips for found in comparisons(records)] == ["static", "dynamic"]
    text = table(records)
    assert "| static | peer | 100% | 1 of 1 | 1.00% |" in text
    assert "static: where peer succeeds, ATE 2.00 times peer's (median), at most twice it on 1 of 1" in text
    assert "dynamic: where peer succeeds, at most twice it on 0 of 0; where it fails, usable on 0 of 1" in text


def test_a_line_names_what_failed():
    record = made_up(4, 0.02, None)
    lost = replace(record.errors["peer"], failure="no model")
    line = one_line(replace(record, errors={**record.errors, "peer": lost}))
    assert line.startswith("static 4: ours: 24/24 frames, ATE 2.00%")
    assert line.endswith("(no model)")
