"""What moves by the word of the predictor: its own masks, or displacements of a motion head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.errors import UsageError
from stereo4d.types import DYNAMICS
from stereo4d.video.dynamics import dynamic_masks
from stereo4d.video.head_maps import MOTION
from stereo4d.video.masks import MaskEvidence, MaskMaker


@dataclass(frozen=True)
class Heads(MaskMaker):
    """Masks that pairs bring with them; else a displacement to the other frame above a share of the scene's size, in
    the mean over pairs weighed by the head's confidence."""

    share: float = 0.02
    """Of the median distance of the pair's points, at which a displacement counts as motion."""

    def moving(self, evidence: MaskEvidence) -> np.ndarray:
        """See ``MaskMaker.moving``."""
        shape = evidence.clip.rgb.shape[:3]
        if evidence.has(f"{DYNAMICS}/moving0"):
            return np.stack(list(dynamic_masks(evidence.paths, (shape[0], shape[1], shape[2]), evidence.start)))
        if not evidence.has(f"{MOTION}/displacement0"):
            raise UsageError(
                "--mask-by heads: these pairs say nothing of motion; take weights with a motion head, or ego-flow"
            )
        total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for pair in sorted(evidence.rows):
            size = np.median(np.linalg.norm(evidence.read(pair, "pointmap0"), axis=-1))
            for view, frame in enumerate(pair):
                # View 0 moves until the other's time, the last that is asked for; view 1 until the first, towards it.
                moved = evidence.read(pair, f"{MOTION}/displacement{view}")
                length = np.linalg.norm(moved, axis=-1).max(0) / max(float(size), 1e-12)
                sure = evidence.read(pair, f"{MOTION}/confidence{view}").mean(0)
                total[frame] += sure * np.minimum(length / self.share, 2)
                weight[frame] += sure
        return total > weight
