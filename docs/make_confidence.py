"""Draw error against confidence of the classical predictor: ``python docs/make_confidence.py``.

Renders a few clips of the synthetic world, predicts them with their exact cameras, so that only depth can be wrong, and
writes ``docs/pictures/classical-confidence.png``. With ``--self-calibrated`` the cameras are found from the clip too.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from stereo4d_plugins.flow.dis import Dis
from stereo4d_plugins.predictors.classical.calibration import ClipCalibration, calibrate_clip
from stereo4d_plugins.predictors.classical.clip_depths import ClipDepths
from stereo4d_plugins.predictors.classical.triangulation import parallax_degrees

from stereo4d.data.synthetic.clip import load_truth, synthesize_clip
from stereo4d.types import ClipTruth
from stereo4d.video.pair_graph import pair_graph

PICTURE = Path(__file__).parent / "pictures" / "classical-confidence.png"
FRAMES, HEIGHT, WIDTH = 12, 192, 320
SEEDS = (100, 101, 102, 103, 104, 105)
PARTNERS = 3  # frames on either side that a frame is paired with
SCALE = 0.2  # a confidence of C promises a relative error of SCALE / (C - 1 + SCALE)


@dataclass(frozen=True)
class Pixels:
    """P pixels of all clips."""

    confidence: np.ndarray
    """(P,)."""
    error: np.ndarray
    """(P,) relative error of depth."""
    parallax: np.ndarray
    """(P,) degrees, the most that a partner shows."""
    moving: np.ndarray
    """(P,) bool."""


def exact(truth: ClipTruth) -> ClipCalibration:
    """The truth as a calibration."""
    return ClipCalibration(
        focal=float(truth.intrinsics[0, 0, 0]),
        focal_source="given",
        focal_deviation=0.0,
        intrinsics=truth.intrinsics.astype(np.float64),
        world2cam=np.linalg.inv(truth.cam2world.astype(np.float64)),
        camera_known=np.ones(len(truth.depth), bool),
        moves=True,
        rotation_only=False,
        error=0.0,
        points=0,
        tracks=0,
        remarks=(),
    )


def look(seed: int, self_calibrated: bool) -> Pixels:
    """Predict one clip."""
    with tempfile.TemporaryDirectory() as folder:
        synthesize_clip(Path(folder), seed=seed, frames=FRAMES, height=HEIGHT, width=WIDTH)
        truth = load_truth(folder).clip
        rgb = np.stack([np.asarray(Image.open(path)) for path in sorted((Path(folder) / "frames").glob("*.png"))])
    calibration = calibrate_clip(rgb) if self_calibrated else exact(truth)
    depths = ClipDepths(rgb, pair_graph(f"swin-{PARTNERS}-noncyclic", FRAMES), calibration, Dis())
    parts = []
    for frame in range(FRAMES):
        found = depths.pair((frame, frame))[0]
        parallax = np.max([parallax_to(truth, frame, other) for other in around(frame)], 0)
        depth = truth.depth[frame] * found.inverse_depth
        scale = np.median(depth[found.confidence > 2]) if self_calibrated and (found.confidence > 2).any() else 1.0
        parts.append((found.confidence, np.abs(scale / depth - 1), parallax, truth.dynamic[frame] > 0))
    return Pixels(*(np.concatenate([part.ravel() for part in column]) for column in zip(*parts, strict=True)))


def around(frame: int) -> list[int]:
    """The partners of a frame."""
    return [other for other in range(FRAMES) if 0 < abs(other - frame) <= PARTNERS]


def parallax_to(truth: ClipTruth, frame: int, other: int) -> np.ndarray:
    """(H, W) true angle in degrees between the rays of two cameras to what a frame sees."""
    cam2world = truth.cam2world.astype(np.float64)
    motion = np.linalg.inv(cam2world[other]) @ cam2world[frame]
    return parallax_degrees(1 / truth.depth[frame], truth.intrinsics[frame].astype(np.float64), motion)


def draw(pixels: Pixels, title: str) -> None:
    """Write the picture and print its numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    static = ~pixels.moving
    edges = np.geomspace(1.02, 16.001, 15)
    centres, rows = [], []
    for low, high in pairwise(edges):
        inside = static & (pixels.confidence >= low) & (pixels.confidence < high)
        if inside.sum() > 200:
            error = pixels.error[inside]
            centres.append(np.sqrt(low * high))
            rows.append((*np.quantile(error, (0.25, 0.5, 0.75, 0.9)), error.mean()))
    lower, middle, upper, most, mean = np.array(rows).T
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.fill_between(centres, lower, upper, alpha=0.25, label="half of the pixels")
    left.plot(centres, middle, label="median")
    left.plot(centres, mean, label="mean", color="C3")
    left.plot(centres, most, ":", label="nine of ten below", color="C0")
    promise = np.geomspace(1.05, 16, 100)
    left.plot(promise, SCALE / (promise - 1 + SCALE), "k--", linewidth=1, label="what the confidence promises")
    left.set(
        xscale="log", yscale="log", xlabel="confidence", ylabel="relative error of depth", title=f"static, {title}"
    )
    left.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
    bins = np.geomspace(1.0, 16.5, 40)
    near = static & (pixels.parallax >= 2)
    for name, chosen in (
        ("static, 2° parallax or more", near),
        ("static, less parallax", static & ~near),
        ("moving", pixels.moving),
    ):
        average = pixels.confidence[chosen].mean()
        weights = np.full(chosen.sum(), 1 / chosen.sum())
        label = f"{name}: mean {average:.1f}"
        right.hist(pixels.confidence[chosen], bins, weights=weights, histtype="step", linewidth=1.5, label=label)
        print(f"{label}, AbsRel {pixels.error[chosen].mean():.3f}, {chosen.mean():.0%} of pixels")
    right.set(xscale="log", xlabel="confidence", ylabel="share of the pixels", title="who gets how much")
    right.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
    for axis in (left, right):
        axis.minorticks_off()
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Predict, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-calibrated", action="store_true", help="find the cameras from the clips too")
    wanted = parser.parse_args()
    parts = [look(seed, wanted.self_calibrated) for seed in SEEDS]
    pixels = Pixels(*(np.concatenate([getattr(part, name) for part in parts]) for name in Pixels.__annotations__))
    draw(pixels, f"{len(SEEDS)} clips, " + ("cameras found" if wanted.self_calibrated else "exact cameras"))


if __name__ == "__main__":
    main()
