"""bfloat16 against float32 on this processor: how much faster, how far off, and what ``--precision auto`` picks.

    python benchmarks/precision.py [--device cpu] [--enc-depth 2] [--dec-depth 2] [--height 96] [--width 128]

Widths are those of ViT-L/Base; depth and image are cut so that emulated bfloat16 ends too. Weights are random.
"""

from __future__ import annotations

import argparse
import time

import torch
from network_work import vit_large

from stereo4d.network.precision import PRECISIONS, choose, has_native_bf16, resolve_device
from stereo4d.network.stereo import StereoNetwork
from stereo4d.types import PairPrediction


def predict(network: StereoNetwork, images: torch.Tensor, repeats: int) -> tuple[PairPrediction, float]:
    """The prediction, and the best of some timings in seconds."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        with torch.inference_mode():
            prediction = network(images, images.flip(-1))
        prediction.pointmap0.cpu()  # waits for a GPU
        best = min(best, time.perf_counter() - begin)
    return prediction, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    for name, default in {"enc-depth": 2, "dec-depth": 2, "height": 96, "width": 128, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    device = resolve_device(options.device)
    network = vit_large(options.enc_depth, options.dec_depth, head_type="linear").to(device)
    images = torch.rand(1, 3, options.height, options.width, device=device) * 2 - 1
    results = {}
    for name in ("exact", "bf16"):
        network.precision = choose(name, device)
        results[name] = predict(network, images, options.repeats)
    (exact, slow), (reduced, fast) = results["exact"], results["bf16"]
    deviation = (reduced.pointmap1 - exact.pointmap1).norm() / exact.pointmap1.norm()
    print(f"device {device}, {torch.get_num_threads()} threads, bfloat16 in hardware: {has_native_bf16(device)}")
    print(f"float32 {slow:.3f} s, bfloat16 {fast:.3f} s: bfloat16 is {slow / fast:.3g} times as fast as float32")
    print(f"relative deviation of pointmap1: {deviation:.2e}")
    picked = "bf16" if choose("auto", device).reduced else "exact (float32)"
    print(f"--precision auto picks {picked}, of {', '.join(PRECISIONS)}")


if __name__ == "__main__":
    main()
