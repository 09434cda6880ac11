"""The rows of ``network.py`` about a clip: every pair of it, ours beside the baseline."""

from __future__ import annotations

import argparse
import copy

import torch
from network_work import (
    FRAMES,
    SIZE,
    WINDOW,
    as_baseline,
    clip_of,
    deviation,
    in_turn,
    make_realistic,
    pictures,
    vit_large,
)

from stereo4d.network.precision import choose
from stereo4d.network.settling import settle
from stereo4d.network.weights import empty_network
from stereo4d.types import PairPrediction
from stereo4d.video.inference import predict_pairs
from stereo4d.video.network_cost import count_gflop
from stereo4d.video.network_predictor import NetworkOnClip
from stereo4d.video.pair_graph import window_graph


def parts(options: argparse.Namespace) -> None:
    """The network of full size and depth: a frame and a pair, ours and the baseline, and the clip summed from these."""
    network = vit_large().to(options.device)
    frame, pair = count_gflop(empty_network(network.config), SIZE)
    print(f"parts      GFLOP: a frame {frame:.0f}, a pair {pair:.0f}", flush=True)
    images = pictures(2, SIZE, options.device)
    make_realistic(network, images[:1])
    ours = settle(copy.deepcopy(network), choose(options.precision, options.device))
    with torch.inference_mode():
        views = [network.encode(images[i : i + 1]) for i in range(2)]
        own = [ours.encode(images[i : i + 1]) for i in range(2)]
        exact = network.predict_encoded(*views)
        share = deviation(ours.predict_encoded(*own), exact)

    def baseline_frame() -> None:
        with as_baseline(network):
            network.encode(images[:1])

    def baseline_pair() -> None:
        with as_baseline(network):
            network.predict_encoded(*views)

    found = in_turn(
        {
            "baseline frame": baseline_frame,
            "our frame": lambda: ours.encode(images[:1]),
            "baseline pair": baseline_pair,
            "our pair": lambda: ours.predict_encoded(*own),
        },
        max(1, options.repeats - 1),
        options.device,
    )
    pairs = len(window_graph(FRAMES, WINDOW))
    theirs = pairs * (2 * found["baseline frame"] + found["baseline pair"])
    mine = FRAMES * found["our frame"] + pairs * found["our pair"]
    for name, spent in found.items():
        rate = (frame if "frame" in name else pair) / spent
        print(f"parts      {name}: {spent:.2f} s, {rate:.0f} GFLOP/s of direct products")
    print(f"parts      {FRAMES} frames, {pairs} pairs, summed from these: baseline {theirs:.0f} s, ours {mine:.0f} s")
    print(f"parts      {theirs / mine:.2f}x (aim 4); deviation {share:.1e} (bar 1e-2)")


def clip(options: argparse.Namespace) -> None:
    """All pairs of a clip from pictures to pointmaps, at half depth and a quarter of the width and height."""
    size = (80, 128)
    network = vit_large(12, 6).to(options.device)
    film = clip_of(FRAMES, size)
    make_realistic(network, film.images([0]).to(options.device))
    ours = settle(copy.deepcopy(network), choose(options.precision, options.device))
    edges = window_graph(FRAMES, WINDOW)
    results: dict[str, list[PairPrediction]] = {}

    def mine() -> None:
        work = predict_pairs(NetworkOnClip(ours, film, edges), edges, batch_size=4)
        results["ours"] = [batch.prediction for batch in work]

    def theirs() -> None:
        results["baseline"] = []
        with as_baseline(network):
            for start in range(0, len(edges), 4):
                views = [film.images([e[k] for e in edges[start : start + 4]]).to(options.device) for k in (0, 1)]
                # encoded anew, both images in one batch, as the published code does a directed pair
                results["baseline"].append(network(*views))

    found = in_turn({"baseline": theirs, "ours": mine}, 1, options.device)
    shares = [deviation(a, b) for a, b in zip(results["ours"], results["baseline"], strict=True)]
    print(
        f"clip       {len(edges)} pairs run, depths 12 and 6, {size[1]}x{size[0]}: baseline {found['baseline']:.1f} s, "
        f"ours {found['ours']:.1f} s: {found['baseline'] / found['ours']:.2f}x; deviation {max(shares):.1e} at most"
    )
