"""COLMAP (Schönberger & Frahm 2016) through pycolmap: SIFT features, matches, incremental mapping, with its defaults.

What differs from the defaults is what a user of a video would say: all frames share one camera without distortion,
whose focal is unknown. COLMAP works in a process of its own: it takes over signals, and a failed check of its ends the
process that it is in.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from stereo4d.errors import InputError, MissingDependencyError
from stereo4d.evaluation.peer import ClipAnswer, Peer

WORKER = Path(__file__).with_name("colmap_process.py")
ANSWER = "answer.safetensors"


class Colmap(Peer):
    """Structure from motion by COLMAP on the CPU."""

    def reconstruct(self, rgb: np.ndarray, *, seed: int = 0) -> ClipAnswer:
        """Run features, matching and mapping in a scratch folder; see ``Peer.reconstruct``.

        Raises:
            MissingDependencyError: pycolmap is not installed.
            InputError: ``rgb`` is not a clip.
        """
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or not len(rgb):
            raise InputError(f"COLMAP takes (N, H, W, 3) uint8 with N >= 1, got {rgb.shape} {rgb.dtype}")
        if importlib.util.find_spec("pycolmap") is None:
            raise MissingDependencyError(
                "COLMAP is not installed: pip install pycolmap, or stereo4d with the extra 'colmap'"
            )
        with tempfile.TemporaryDirectory(prefix="stereo4d-colmap-") as scratch:
            folder = Path(scratch)
            _write_images(folder / "images", rgb)
            started = time.monotonic()
            command = [sys.executable, str(WORKER), str(folder), str(seed)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
                failure = f"COLMAP ended with exit code {done.returncode} and said: {said}"
                return ClipAnswer.nothing(len(rgb), time.monotonic() - started, failure)
            return ClipAnswer.load(folder / ANSWER)


def _write_images(folder: Path, rgb: np.ndarray) -> None:
    folder.mkdir()
    for index, image in enumerate(rgb):
        Image.fromarray(image).save(folder / f"{index:06d}.png", compress_level=1)
