"""Fast reciprocal matching against exact reciprocal matching of descriptors, in the same run.

    python benchmarks/matching.py [--height 384] [--width 512] [--channels 24] [--stride 8] [--move 40] [--device cpu]

The second image is the first moved sideways, its descriptors shaken, so that which pixels belong together is known.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stereo4d.downstream.matching import Matches, fast_reciprocal_matches, reciprocal_matches
from stereo4d.downstream.nearest import nearest


def moved_descriptors(height: int, width: int, channels: int, move: int, shaking: float) -> tuple[Tensor, Tensor]:
    """Two maps (H, W, K) of unit length: details of a few pixels in size, seen twice with noise of their own."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, channels, height // 4, (width + move) // 4, generator=generator)
    world = functional.interpolate(coarse, (height, width + move), mode="bicubic")[0].movedim(0, -1)
    views = (world[:, :width], world[:, move:])
    shaken = (view + shaking * torch.randn(view.shape, generator=generator) for view in views)
    first, second = (functional.normalize(view, dim=-1) for view in shaken)
    return first, second


def timed(work: Callable[[], Matches], device: str) -> tuple[Matches, float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return found, time.perf_counter() - clock, time.process_time() - processor


def pairs_of(matches: Matches) -> set[tuple[float, ...]]:
    return set(map(tuple, np.concatenate([matches.pixels0, matches.pixels1], axis=1).tolist()))


def right(matches: Matches, move: int) -> float:
    """Share of the matches that are at most a pixel off, of those that have a right answer."""
    seen = matches.pixels0[:, 0] >= move
    off = np.linalg.norm(matches.pixels0 - matches.pixels1 - (move, 0), axis=1)
    return float((off[seen] <= 1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"height": 384, "width": 512, "channels": 24, "stride": 8, "move": 40}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shaking", type=float, default=0.15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    maps = moved_descriptors(options.height, options.width, options.channels, options.move, options.shaking)
    first, second = (features.to(options.device) for features in maps)
    nearest(first[0], second[0])  # libraries wake up
    fast, fast_clock, fast_work = timed(
        lambda: fast_reciprocal_matches(first, second, stride=options.stride), options.device
    )
    exact, exact_clock, exact_work = timed(lambda: reciprocal_matches(first, second), options.device)
    print(f"{options.width}x{options.height} descriptors of {options.channels} channels on {options.device}")
    print("                       matches  within a pixel  seconds  processor seconds")
    for name, found, clock, work in (
        ("exact", exact, exact_clock, exact_work),
        (f"fast, every {options.stride} pixels", fast, fast_clock, fast_work),
    ):
        print(f"{name:22} {len(found):8} {right(found, options.move):15.3f} {clock:8.2f} {work:18.2f}")
    common = pairs_of(fast) & pairs_of(exact)
    ways = -(-options.height // options.stride) * -(-options.width // options.stride)
    print(f"ratio of seconds {exact_clock / fast_clock:.1f}x, of processor seconds {exact_work / fast_work:.1f}x")
    print(f"recall {len(common) / len(exact):.4f} of all mutual pairs, from {ways} pixels of the grid")
    print(f"of the fast matches {len(common) / len(fast):.4f} are exact ones")
    assert len(common) >= 0.999 * len(fast), "fast matches must be mutual nearest (but for the rounding of products)"


if __name__ == "__main__":
    main()
