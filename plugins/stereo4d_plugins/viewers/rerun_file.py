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
    _end_threads()
    # Not the library's own file sink: when the disk is full it never returns from flush or disconnect (0.41).
    recording = rr.RecordingStream(application)
    memory = recording.memory_recording()
    recording.set_log_tick_enabled(False)
    recording.set_log_time_enabled(False)
    # Active, too: the web viewer does not take up a layout that is only the default (0.41).
    _send_layout(recording, layout, application)
    try:
        yield recording
        content = memory.drain_as_bytes()
    finally:
        recording.disconnect()
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def _send_layout(recording: rr.RecordingStream, layout: rrb.Blueprint, application: str) -> None:
    """What ``recording.send_blueprint`` does, and an end to the stream that it makes for it (see ``_end_threads``)."""
    stream = rr.RecordingStream._from_native(
        rr.bindings.new_blueprint(
            application_id=application, make_default=False, make_thread_default=False, default_enabled=True
        )
    )
    stream.set_time("blueprint", sequence=0)
    layout._log_to_stream(stream)
    memory = stream.memory_recording()
    rr.bindings.send_blueprint(memory.storage, True, True, recording=recording.to_native())
    stream.disconnect()


def _end_threads() -> None:
    """End the threads of recordings that nobody holds any more.

    Each has two, and two for its layout, which wake up many times a second, and dropping the recording leaves them
    (0.41): a process that makes hundreds of scenes would do little else.
    """
    rr.bindings.flush_and_cleanup_orphaned_recordings()
