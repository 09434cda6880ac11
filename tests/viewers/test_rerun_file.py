"""Recordings leave nothing behind but their file."""

from pathlib import Path

import pytest
import rerun as rr
import rerun.blueprint as rrb
from stereo4d_plugins.viewers.rerun_file import recording_file

TASKS = Path("/proc/self/task")


def write(path: Path) -> None:
    with recording_file(path, rrb.Blueprint(rrb.Spatial3DView(origin="/"))) as recording:
        recording.log("points", rr.Points3D([[0, 0, 0]]))


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted where Linux lists them")
def test_threads_do_not_grow_with_the_number_of_recordings(tmp_path):
    write(tmp_path / "first.rrd")
    write(tmp_path / "second.rrd")
    before = len(list(TASKS.iterdir()))
    for number in range(10):
        write(tmp_path / f"{number}.rrd")
    assert len(list(TASKS.iterdir())) <= before
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("*.rrd"))
