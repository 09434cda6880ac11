"""The network of full size on a GPU: pairs and frames a second, and what share of the chip that is."""

from __future__ import annotations

import argparse
import copy
import time

import torch
from network_work import FRAMES, SIZE, WINDOW, deviation, make_realistic, pictures, vit_large

from stereo4d.network.precision import choose
from stereo4d.network.settling import settle
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import empty_network
from stereo4d.video.network_cost import count_gflop
from stereo4d.video.pair_graph import window_graph

SIDE = 8192


def matrix_rate(device: torch.device) -> float:
    """1e12 operations a second of square bfloat16 products, the best of ten."""
    one, other = (torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        one @ other
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * SIDE**3 / best / 1e12


def run_clip(network: StereoNetwork, images: torch.Tensor, edges: list[tuple[int, int]], batch: int) -> None:
    """Encode every frame once, then predict all pairs; predictions are fetched."""
    with torch.inference_mode():
        encoded = network.encode(images)
        for start in range(0, len(edges), batch):
            some = edges[start : start + batch]
            found = network.predict_encoded(encoded.select([i for i, _ in some]), encoded.select([j for _, j in some]))
            found.pointmap0.cpu(), found.pointmap1.cpu()


def accelerator(options: argparse.Namespace) -> None:
    """End to end, from pictures on the GPU to pointmaps on the CPU."""
    device = options.device
    if device.type != "cuda":
        print("accelerator: not measured, there is no GPU here")
        return
    network = vit_large().to(device)
    images = pictures(FRAMES, SIZE, device)
    make_realistic(network, images[:1])
    edges = window_graph(FRAMES, WINDOW)
    frame, pair = count_gflop(empty_network(network.config), SIZE)
    work = (FRAMES * frame + len(edges) * pair) / 1e3
    chip = matrix_rate(device)
    print(f"accelerator  {SIDE}^3 bfloat16 products: {chip:.0f} TFLOP/s; the clip needs {work:.1f} TFLOP")
    with torch.inference_mode():
        exact = network(images[:4], images[1:5])
    for precision in ("exact", "auto", "fast"):
        ours = settle(copy.deepcopy(network), choose(precision, device))
        with torch.inference_mode():
            share = deviation(ours(images[:4], images[1:5]), exact)
        for batch in (1, 8, 28):
            run_clip(ours, images, edges, batch)  # kernels are chosen at first use
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            best = float("inf")
            for _ in range(options.repeats):
                torch.cuda.synchronize(device)
                begin = time.perf_counter()
                run_clip(ours, images, edges, batch)
                torch.cuda.synchronize(device)
                best = min(best, time.perf_counter() - begin)
            more = (torch.cuda.max_memory_allocated(device) - before) / batch / 1e6
            print(
                f"accelerator  {precision}, {batch} pairs at once: {len(edges) / best:.1f} pairs/s, "
                f"{FRAMES / best:.1f} frames/s, {100 * work / best / chip:.0f} % of the chip (aim 50), "
                f"{more:.0f} MB a pair; deviation {share:.1e}"
            )
