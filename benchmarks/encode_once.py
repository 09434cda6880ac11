"""Encoding every frame once, against encoding both images of every directed pair, in the same run.

    python benchmarks/encode_once.py [--frames 24] [--window 3] [--enc-depth 4] [--dec-depth 2] [--height 96] ...

Widths are those of ViT-Large and the Base decoder; depths keep their ratio of two to one and are cut so that it takes a
minute or two on two cores. Weights are drawn: neither speed nor equality depends on what a network knows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from network_work import vit_large

from stereo4d.network.stereo import StereoNetwork
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip
from stereo4d.video.inference import predict_pairs
from stereo4d.video.network_predictor import NetworkOnClip
from stereo4d.video.pair_graph import Edge, window_graph

Timing = tuple[float, float]
"""(seconds on the clock, seconds of processor time)."""

FIELDS = ("pointmap0", "confidence0", "pointmap1", "confidence1")


def noise_clip(frames: int, height: int, width: int) -> Clip:
    rgb = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
    maps = np.tile([1.0, 1, 0, 0], (frames, 1))
    return Clip(rgb, np.arange(frames) / 10, np.arange(frames), np.tile((height, width), (frames, 1)), maps)


def encode_both_images_of_every_pair(
    network: StereoNetwork, clip: Clip, edges: list[Edge], batch_size: int
) -> list[PairPrediction]:
    predictions = []
    for start in range(0, len(edges), batch_size):
        batch = edges[start : start + batch_size]
        with torch.inference_mode():
            predictions.append(network(clip.images([i for i, _ in batch]), clip.images([j for _, j in batch])))
    return predictions


def timed(work: Callable[[], list[PairPrediction]]) -> tuple[list[PairPrediction], Timing]:
    clock, processor = time.perf_counter(), time.process_time()
    predictions = work()
    return predictions, (time.perf_counter() - clock, time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"frames": 24, "window": 3, "enc-depth": 4, "dec-depth": 2, "height": 96, "width": 160}
    for name, default in {**defaults, "batch-size": 6, "repeats": 2, "threads": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.threads:  # with one, processor seconds are right even on a machine that is busy with other work
        torch.set_num_threads(options.threads)
    network = vit_large(options.enc_depth, options.dec_depth, head_type="linear")
    clip = noise_clip(options.frames, options.height, options.width)
    edges = window_graph(options.frames, options.window)
    # Both ways meet warm threads and warm memory.
    list(predict_pairs(NetworkOnClip(network, clip, edges[:4]), edges[:4], batch_size=4))
    encode_both_images_of_every_pair(network, clip, edges[:4], 4)

    timings: dict[str, list[Timing]] = {"once": [], "twice": []}
    for _ in range(options.repeats):  # in turn, and the best of each: other work on the machine meets both alike
        once, timing = timed(
            lambda: [
                batch.prediction
                for batch in predict_pairs(NetworkOnClip(network, clip, edges), edges, batch_size=options.batch_size)
            ]
        )
        timings["once"].append(timing)
        twice, timing = timed(lambda: encode_both_images_of_every_pair(network, clip, edges, options.batch_size))
        timings["twice"].append(timing)

    difference = max(
        ((getattr(a, name) - getattr(b, name)).abs() / getattr(b, name).abs().clamp(min=1)).max().item()
        for a, b in zip(once, twice, strict=True)
        for name in FIELDS
    )
    print(f"{options.frames} frames, {len(edges)} directed pairs of {options.width}x{options.height} pixels")
    print(f"widths 1024 and 768, depths {options.enc_depth} and {options.dec_depth} (ViT-L/Base has 24 and 12)")
    clock_once, work_once = map(min, zip(*timings["once"], strict=True))
    clock_twice, work_twice = map(min, zip(*timings["twice"], strict=True))
    print("                           encodings  seconds  processor seconds")
    print(f"both images of every pair  {2 * len(edges):9}  {clock_twice:7.2f}  {work_twice:17.2f}")
    print(f"every frame once           {options.frames:9}  {clock_once:7.2f}  {work_once:17.2f}")
    print(f"ratio of seconds {clock_twice / clock_once:.2f}x, of processor seconds {work_twice / work_once:.2f}x")
    print(f"largest difference {difference:.1e} (relative beyond 1)")
    assert difference <= 1e-5, "encoding once must not change the predictions"


if __name__ == "__main__":
    main()
