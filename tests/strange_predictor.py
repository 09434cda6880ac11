"""A pair predictor of a package that stereo4d has never heard of, found by its entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

MODULE = '''
import numpy as np
import torch

from stereo4d.types import PairPrediction
from stereo4d.video.predictor import ClipPredictor, Predictor, Traits

class WallOnClip(ClipPredictor):
    """Knows without looking that the camera walks 0.1 to the right a frame, past a wavy wall."""

    batch_size = 2

    def __init__(self, clip, edges, intrinsics, seed):
        self.size, self.opened = clip.rgb.shape[1:3], len(edges)
        known = np.zeros(0, int) if intrinsics is None else np.flatnonzero(np.isfinite(intrinsics[:, 0, 0]))
        self.focal = float(intrinsics[known[0], 0, 0]) if len(known) else 60.0
        self.said = f"{len(known)} focals known, {self.focal:.1f} px; seed {seed}"

    def predict(self, edges):
        height, width = self.size
        v, u = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]
        waves = lambda at: 3 + 0.5 * np.sin(2 * (u / self.focal * 3 + 0.1 * at)) + 0.3 * np.cos(3 * v / self.focal)
        maps = {"0": [], "1": []}
        for i, j in edges:
            for view, at in (("0", i), ("1", j)):
                depth = waves(at)
                points = np.stack([u / self.focal * depth + 0.1 * (at - i), v / self.focal * depth, depth], -1)
                maps[view].append(torch.tensor(points, dtype=torch.float32))
        confidence = torch.full((len(edges), height, width), 3.0)
        return PairPrediction(torch.stack(maps["0"]), confidence, torch.stack(maps["1"]), confidence.clone())

    def remarks(self):
        return (self.said,)

class Wall(Predictor):
    traits = Traits(size=64, graph="swinstride-2-noncyclic", licence="MIT", pair_seconds=1e-3)

    def open(self, clip, edges, *, intrinsics=None, seed=0, progress=None):
        return WallOnClip(clip, edges, intrinsics, seed)

class Flat(Wall):
    """Forgets the confidence of its last pair."""

    def open(self, clip, edges, **known):
        at_work = super().open(clip, edges)
        whole = at_work.predict
        def forgetful(edges):
            said = whole(edges)
            return PairPrediction(said.pointmap0, said.confidence0[:-1], said.pointmap1, said.confidence1)
        at_work.predict = forgetful
        return at_work
'''
ENTRIES = """[stereo4d.predictors]
wall = wall_predictor:Wall
forgetful = wall_predictor:Flat
no-predictor = json:JSONDecoder
gone = wall_predictor:Gone
"""


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put the package on the path of this process, for as long as the patch lasts."""
    (folder / "wall_predictor.py").write_text(MODULE)
    metadata = folder / "wall-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: wall\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    patch.syspath_prepend(str(folder))
