"""Writing Rerun recordings (``.rrd``) that bring their layout along, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rerun as rr
import rerun.blueprint as rrb

from stereo4d.storage import atomic_file


@contextmanager
def recording_file(path: Path, layout: rrb.Blueprint, *, application: str = "stereo4d") -> Iterator[rr.RecordingStream]:
    """A recording to log to, which becomes the file ``path`` when the block ends well.

    Args:
        path: the file.
        layout: how the viewer shows it.
        application: recordings of one name share a layout in the viewer, whichever was opened last.
    """
    # Not the library's own file sink: when the disk is full it never returns from flush or disconnect (0.41).
    recording = rr.RecordingStream(application)
    memory = recording.memory_recording()
    recording.set_log_tick_enabled(False)
    recording.set_log_time_enabled(False)
    # Active, too: the web viewer does not take up a layout that is only the default (0.41).
    recording.send_blueprint(layout, make_active=True, make_default=True)
    try:
        yield recording
        content = memory.drain_as_bytes()
    finally:
        recording.disconnect()
    with atomic_file(path) as partial:
        partial.write_bytes(content)
