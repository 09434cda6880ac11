"""Moving scenes: cameras with and without motion terms, and masks against exact truth.

``python benchmarks/dynamics.py`` renders clips of 24 frames in which about 40 % of the pixels move, tells the aligner
noisy pairs that took motion for parallax, and prints, for exact flow and for DIS: trajectory error as a share of the
path, without and with motion, and the IoU of the masks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from stereo4d_plugins.flow.dis import Dis
from stereo4d_plugins.masks.min_max import MinMax

from benchmarks.dynamics_scenes import SEEDS, DynamicClip, ExactFlow, NoisyPairs, make_clip, predict
from stereo4d.alignment.known import Known
from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length, relative_pose_error
from stereo4d.storage import save_arrays
from stereo4d.video.aligning import align_pairs
from stereo4d.video.flow import Flow
from stereo4d.video.flow_cache import FlowCache
from stereo4d.video.masks import MaskEvidence
from stereo4d.video.motion import Motion, Search, find_motion
from stereo4d.video.options import AlignmentOptions


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of all frames together."""
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def measure(scene: DynamicClip, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """All figures of one clip."""
    told = predict(scene, NoisyPairs(), seed)
    path = folder / "pairs-00000.safetensors"
    save_arrays(path, {"edges": scene.edges, **{name: getattr(told, name) for name in _ARRAYS}})
    moving = np.array(scene.truth.clip.dynamic).astype(bool)
    figures = {"without": _cameras(scene, told, None, AlignmentOptions(motion="off"))}
    flows: dict[str, Flow] = {"exact": ExactFlow(scene), "dis": Dis()}
    for name, flow in flows.items():
        start = time.perf_counter()
        found = find_motion([path], scene.clip, Known(), Search(flow))
        seconds = time.perf_counter() - start
        figures[name] = _cameras(scene, told, found, AlignmentOptions()) | {"iou": iou(found.dynamic, moving)}
        figures[name] |= {"seconds of masks and flow": seconds}
        evidence = MaskEvidence(scene.clip, (path,), FlowCache(flow, scene.clip.rgb))
        figures[name]["iou of min-max"] = iou(MinMax().moving(evidence), moving)
        masks_only = AlignmentOptions(terms=[])
        figures[f"{name}, masks only"] = _cameras(scene, told, found, masks_only)
    truth_told = replace(found, dynamic=moving, flow=None)
    figures["true masks only"] = _cameras(scene, told, truth_told, AlignmentOptions(terms=[]))
    return figures


_ARRAYS = ("pointmap0", "confidence0", "pointmap1", "confidence1")


def _cameras(scene: DynamicClip, told: object, motion: Motion | None, options: AlignmentOptions) -> dict[str, float]:
    """Errors of the cameras, and seconds."""
    known = Known() if motion is None else motion.known(Known())
    start = time.perf_counter()
    aligned = align_pairs(
        *(scene.edges, told, scene.clip),  # type: ignore[arg-type]
        known=known,
        options=options,
        seed=0,
        device=torch.device("cpu"),
        motion=motion,
    )
    seconds = time.perf_counter() - start
    truth = torch.from_numpy(np.array(scene.truth.clip.cam2world))
    error = absolute_trajectory_error(aligned.result.cam2world, truth) / path_length(truth)
    _, turn = relative_pose_error(aligned.result.cam2world, truth)
    return {"trajectory error": error, "degrees a frame": turn, "seconds": seconds}


def main() -> None:
    """Print the figures of all worlds, and their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {"exact": [], "dis": []}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            scene = make_clip(Path(folder), seed, frames=options.frames)
            print(f"world {seed}: {100 * np.mean(scene.truth.clip.dynamic):.0f} % of the pixels move", flush=True)
            figures = measure(scene, Path(folder), seed)
        for name, entry in figures.items():
            print(f"  {name:18}" + "  ".join(f"{key} {value:.4f}" for key, value in entry.items()), flush=True)
        for name in ratios:
            ratios[name].append(figures[name]["trajectory error"] / figures["without"]["trajectory error"])
    for name, values in ratios.items():
        print(f"{name} flow: trajectory error with over without, {', '.join(f'{v:.3f}' for v in values)}")


if __name__ == "__main__":
    main()
