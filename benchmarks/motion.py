"""What motion costs: a pair with pointmaps alone, with motion at one query time, and with each further time.

    python benchmarks/motion.py [--height 288] [--width 512] [--enc-depth 24] [--dec-depth 12] [--threads 0] ...

Widths are those of ViT-L/Base with DPT heads; weights are drawn. A pair is two encodings, the decoders and the heads.
The motion heads share decoded tokens with the pointmap heads, and all query times share the levels made of them.
"""

from __future__ import annotations

import argparse
import time

import torch
from network_work import vit_large
from torch.utils.flop_counter import FlopCounterMode

from stereo4d.network.config import HeadChoice
from stereo4d.network.precision import choose, resolve_device
from stereo4d.network.stereo import StereoNetwork

TIMES = (0, 1, 2, 3)


def predict(network: StereoNetwork, images: torch.Tensor, queries: int) -> None:
    times = torch.linspace(0.2, 0.8, queries, device=images.device)[None] if queries else None
    with torch.inference_mode():
        prediction = network(images, images.flip(-1), times=times)
    prediction.confidence1[0, 0, 0].item()  # waits for a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    defaults = {"height": 288, "width": 512, "enc-depth": 24, "dec-depth": 12, "repeats": 2, "threads": 0}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    network = vit_large(options.enc_depth, options.dec_depth, heads={"motion": HeadChoice("motion")}).to(device)
    # first in exact precision, the builder's: convolutions by fewer products are not counted
    images = torch.rand(1, 3, options.height, options.width, device=device) * 2 - 1
    work, best = {}, dict.fromkeys(TIMES, float("inf"))
    for queries in TIMES:
        with FlopCounterMode(display=False) as counter:
            predict(network, images, queries)
        work[queries] = counter.get_total_flops() / 1e9
    network.precision = choose(options.precision, device)
    predict(network, images, 1)  # warm threads, warm memory
    for _ in range(options.repeats):  # in turn: other work on the machine meets all alike
        for queries in TIMES:
            begin, busy = time.perf_counter(), time.process_time()
            predict(network, images, queries)
            spent = time.process_time() - busy if device.type == "cpu" else time.perf_counter() - begin
            best[queries] = min(best[queries], spent)
    print(f"{options.width}x{options.height} pixels, depths {options.enc_depth} and {options.dec_depth}, {device}")
    print("query times    GFLOP  seconds  against none  more than one time less")
    for queries in TIMES:
        more = f"{(best[queries] - best[queries - 1]) / best[0]:+.3f}" if queries > 1 else ""
        print(f"{queries:11}  {work[queries]:7.0f}  {best[queries]:7.2f}  {best[queries] / best[0]:12.3f}  {more:>23}")
    print("seconds are of the processor on a CPU: other work on the machine does not count")


if __name__ == "__main__":
    main()
