"""Real clips without truth: how far our camera path and a peer's are from each other."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stereo4d.evaluation.clip_errors import Agreement, agreement, scene_answer
from stereo4d.evaluation.clip_runs import Ours, work_seconds
from stereo4d.evaluation.clip_table import percent
from stereo4d.evaluation.peer import ClipAnswer, SparseDepth, load_peer
from stereo4d.progress import SILENT, Progress
from stereo4d.video.clip import bring_to
from stereo4d.video.frames import Frame, read
from stereo4d.video.sources import find_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beside:
    """Our answer and a peer's about one clip."""

    ours: ClipAnswer
    theirs: ClipAnswer
    agreement: Agreement

    def lines(self, name: str, peer: str) -> list[str]:
        """In words.

        Args:
            name: of ours.
            peer: name of theirs.
        """
        found = self.agreement
        lines = [
            f"{method:10} {placed} of {found.frames} frames, focal {_focal(answer)}, {answer.seconds:.1f} s"
            + (f" ({answer.failure})" if answer.failure else "")
            for method, answer, placed in zip((name, peer), (self.ours, self.theirs), found.placed, strict=True)
        ]
        if found.trajectory is None or found.rotation is None or found.focal is None:
            return [*lines, f"agreement  none to tell: {found.common} frames in common"]
        return [
            *lines,
            f"agreement  paths {percent(found.trajectory, 2)} of their length apart after a similarity, rotations "
            f"{found.rotation:.2f} deg, focals {found.focal:+.1%}, over {found.common} frames",
        ]


def measure_agreement(
    source: str, ours: Ours, peer: str, *, max_frames: int, stride: int | None = None, progress: Progress = SILENT
) -> Beside:
    """Reconstruct a clip with ours and with a peer, from the same frames.

    Args:
        source: a video, or a folder or glob of images.
        ours: how we reconstruct it.
        peer: name of the peer.
        max_frames: at most so many frames are taken.
        stride: take every how manyth frame; None spreads them over the whole clip.
        progress: told about our reconstruction.

    Raises:
        InputError: the clip cannot be read.
    """
    program = load_peer(peer)
    with tempfile.TemporaryDirectory(prefix="stereo4d-agreement-") as scratch:
        scene = ours.scene([source], Path(scratch) / "scene", progress, max_frames=max_frames, stride=stride)
        mine = scene_answer(scene, SparseDepth.none(), work_seconds(scene))
        indices = np.array(scene.frame_indices).tolist()
    theirs = program.reconstruct(_pictures(source, indices))
    return Beside(mine, theirs, agreement(mine, theirs))


def _pictures(source: str, indices: list[int]) -> np.ndarray:
    """(N, H, W, 3) uint8: the clip's frames as they are; those of another size than the first are brought to its."""
    frames = [frame for frame in read(find_source([source]), indices) if isinstance(frame, Frame)]
    frames.sort(key=lambda frame: frame.index)
    size = (frames[0].rgb.shape[0], frames[0].rgb.shape[1])
    return np.stack([bring_to(frame.rgb, size)[0] for frame in frames])


def _focal(answer: ClipAnswer) -> str:
    known = answer.focal[np.isfinite(answer.focal)]
    return f"{np.median(known):.0f} px" if len(known) else "unknown"
