"""What ``stereo4d evaluate`` does with clips: synthetic ones with truth, and real ones beside a peer."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stereo4d.evaluation.clip_runs import Ours, SyntheticClip

CLIPS = 8
"""Of each kind, unless the user says otherwise."""


@dataclass(frozen=True)
class ClipOptions:
    """Which whole clips shall be measured."""

    clips: int | None = None
    """Whole clips instead of pairs, so many static and so many dynamic ones; 8 where only clips make sense."""
    frames: int = 24
    """Frames of a clip."""
    width: int = 512
    """Width of synthetic clips in pixels, even."""
    height: int = 288
    """Height of synthetic clips in pixels, even."""
    out: Path | None = None
    """Folder that keeps synthetic clips and what was measured on them; what is there is not measured again."""

    def check(self) -> None:
        """Refuse to measure nothing.

        Raises:
            UsageError: no clips, or clips without frames.
        """
        from stereo4d.errors import UsageError

        if self.frames < 1 or (self.clips is not None and self.clips < 1):
            raise UsageError(f"--frames {self.frames} --clips {self.clips}: at least one of each is needed")

    def synthetic(self) -> Iterator[SyntheticClip]:
        """So many static clips and as many dynamic ones of the same worlds, in turn."""
        from stereo4d.evaluation.clip_runs import SyntheticClip

        for number in range(self.clips or CLIPS):
            for kind in ("static", "dynamic"):
                yield SyntheticClip(kind, number, self.frames, self.width, self.height)


def evaluate_clips(ours: Ours, peer: str | None, asked: ClipOptions, *, quiet: bool, json: bool) -> int:
    """Reconstruct synthetic clips and print a table of errors, a line for every clip as it is done.

    Args:
        ours: how we reconstruct them.
        peer: who else does; None for nobody.
        asked: which clips, and the folder that keeps measurements; None keeps nothing.
        quiet: show no progress and no lines on the way.
        json: print one JSON object instead of a table.
    """
    from stereo4d.cli.common import print_json
    from stereo4d.evaluation.clip_runs import measure_clip
    from stereo4d.evaluation.clip_table import as_dict, one_line, table
    from stereo4d.evaluation.peer import load_peer
    from stereo4d.progress import Progress

    peers = () if peer is None else (peer,)
    for name in peers:
        load_peer(name)  # a wrong name is better found before the work
    records = []
    with ExitStack() as stack:
        folder = asked.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stereo4d-evaluate-")))
        folder.mkdir(parents=True, exist_ok=True)
        for clip in asked.synthetic():
            records.append(measure_clip(clip, ours, peers, folder, progress=Progress(quiet=quiet or json)))
            if not json and not quiet:
                print(one_line(records[-1]), flush=True)
    if json:
        print_json(as_dict(records))
        return 0
    print(
        f"\n{len(records)} held-out synthetic clips of {asked.frames} frames, {asked.width}x{asked.height}, "
        f"weights {ours.weights}\n\n{table(records)}"
    )
    return 0


def evaluate_agreement(source: str, ours: Ours, peer: str, *, frames: int, quiet: bool, json: bool) -> int:
    """Reconstruct a real clip with ours and with a peer, and print how far apart the two camera paths are.

    Args:
        source: a video, or a folder or glob of images.
        ours: how we reconstruct it.
        peer: who else does.
        frames: at most so many frames are taken, spread over the clip.
        quiet: show no progress.
        json: print one JSON object instead of lines.
    """
    from dataclasses import asdict

    from stereo4d.cli.common import print_json
    from stereo4d.evaluation.clip_agreement import measure_agreement
    from stereo4d.progress import Progress

    beside = measure_agreement(source, ours, peer, max_frames=frames, progress=Progress(quiet=quiet or json))
    if json:
        seconds = {ours.weights: beside.ours.seconds, peer: beside.theirs.seconds}
        print_json({**asdict(beside.agreement), "seconds": seconds, "failure": beside.theirs.failure})
    else:
        print("\n".join([f"clip       {source}", *beside.lines(ours.weights, peer)]))
    return 0
